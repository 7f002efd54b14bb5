"""How the reports reach the disk."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from builders.recommendations import hostile_recommendation, recommendation
from trainfare.report import write_reports
from trainfare.report.files import write_atomically
from trainfare_core.errors import InputError
from trainfare_core.recommendation import Recommendation

TODAY = date(2026, 11, 24)


def test_a_report_is_a_page_and_its_json(tmp_path: Path) -> None:
    """Both files are there under the name asked for, and nothing else; the JSON is the answer itself."""
    paths = write_reports(recommendation(), None, tmp_path / "new" / "folder", as_of=TODAY, stem="run-7")
    assert sorted(path.name for path in paths.html.parent.iterdir()) == ["run-7.html", "run-7.json"]
    assert Recommendation.model_validate_json(paths.json.read_text(encoding="utf-8")) == recommendation()
    assert paths.html.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_an_earlier_report_is_replaced(tmp_path: Path) -> None:
    """Writing again gives the new answer."""
    write_reports(hostile_recommendation(), None, tmp_path, as_of=TODAY)
    paths = write_reports(recommendation(), None, tmp_path, as_of=TODAY)
    assert "Standard_" in paths.html.read_text(encoding="utf-8")
    assert Recommendation.model_validate_json(paths.json.read_text(encoding="utf-8")) == recommendation()


@pytest.mark.parametrize("name", ["trainfare-report.html", "trainfare-report.json"])
def test_somebody_elses_file_is_never_overwritten(tmp_path: Path, name: str) -> None:
    """A file of that name that is no report of ours stays, nothing is written, and the error names it."""
    (tmp_path / name).write_text('{"mine": 1}', encoding="utf-8")
    with pytest.raises(InputError, match=name):
        write_reports(recommendation(), None, tmp_path, as_of=TODAY)
    assert (tmp_path / name).read_text(encoding="utf-8") == '{"mine": 1}'
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("stem", ["", ".", "..", "../up", "a/b", "a\\b", "/abs", "a\0b", "c:d"])
def test_a_name_cannot_leave_its_folder(tmp_path: Path, stem: str) -> None:
    """Folders, drives and NUL in the name are refused before anything is written."""
    with pytest.raises(InputError, match="plain file name"):
        write_reports(recommendation(), None, tmp_path / "reports", as_of=TODAY, stem=stem)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """A dangling link in the report's place does not make us write where it points."""
    (tmp_path / "trainfare-report.html").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"trainfare-report\.html"):
        write_reports(recommendation(), None, tmp_path, as_of=TODAY)
    assert not (tmp_path / "elsewhere").exists()


def test_a_file_in_the_folders_place_is_our_error(tmp_path: Path) -> None:
    """Where the folder cannot be, the error says what to do, not a traceback."""
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match="name another"):
        write_reports(recommendation(), None, tmp_path / "file" / "below", as_of=TODAY)


_LIMITED = """
import resource, signal, sys
from pathlib import Path
from trainfare.report.files import write_atomically
from trainfare_core.errors import InputError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_atomically(Path(sys.argv[1]), "y" * 5000)
except InputError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs RLIMIT_FSIZE")
def test_a_full_disk_leaves_the_old_file_whole(tmp_path: Path) -> None:
    """When a write fails half way the old content stays, no leftovers remain, and the error is ours."""
    target = tmp_path / "report.json"
    target.write_text("old", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED, str(target)], capture_output=True, text=True, check=True
    )
    assert "cannot be written" in done.stdout
    assert target.read_text(encoding="utf-8") == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


@pytest.mark.skipif(os.name != "posix", reason="an open file cannot be replaced elsewhere")
def test_a_reader_sees_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    """Who has the file open while it is replaced reads the old content to its end, not a mixture."""
    target = tmp_path / "report.json"
    write_atomically(target, "old" * 10_000)
    with target.open(encoding="utf-8") as reader:
        assert reader.read(3) == "old"
        write_atomically(target, "new")
        assert reader.read() == "old" * 9_999
    assert target.read_text(encoding="utf-8") == "new"


@pytest.mark.skipif(os.name != "posix", reason="permission bits of POSIX")
def test_a_report_has_the_permissions_of_an_ordinary_file(tmp_path: Path) -> None:
    """The page can be read by whom the user's umask lets read, unlike a private temporary file."""
    plain = tmp_path / "plain"
    plain.write_text("", encoding="utf-8")
    write_atomically(tmp_path / "ours", "text")
    assert (tmp_path / "ours").stat().st_mode == plain.stat().st_mode


def test_importing_the_report_loads_nothing_heavy() -> None:
    """`import trainfare.report` is for every command line: no torch, Lightning, polars, matplotlib, rich or jinja2."""
    heavy = ["torch", "lightning", "pytorch_lightning", "polars", "matplotlib", "jinja2", "pydantic"]
    script = f"import sys, trainfare.report; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
