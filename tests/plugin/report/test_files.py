"""Writing reports to disk."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from builders.recommendations import hostile_recommendation, recommendation
from trainfare.report.files import write_reports
from trainfare_core.errors import InputError
from trainfare_core.recommendation import Recommendation

TODAY = date(2026, 11, 24)


def test_a_report_is_a_page_and_its_json(tmp_path: Path) -> None:
    """Both files exist under the given name, and nothing else; the JSON is the recommendation."""
    page, data = write_reports(recommendation(), None, tmp_path / "new" / "folder", as_of=TODAY, stem="run-7")
    assert sorted(path.name for path in page.parent.iterdir()) == ["run-7.html", "run-7.json"]
    assert Recommendation.from_json(data.read_text(encoding="utf-8")) == recommendation()
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_an_earlier_report_is_replaced(tmp_path: Path) -> None:
    """Writing again gives the new answer."""
    write_reports(hostile_recommendation(), None, tmp_path, as_of=TODAY)
    page, data = write_reports(recommendation(), None, tmp_path, as_of=TODAY)
    assert "Standard_" in page.read_text(encoding="utf-8")
    assert Recommendation.from_json(data.read_text(encoding="utf-8")) == recommendation()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "r.json: not a recommendation of schema 1: the document: "),
        ("{}", "r.json: not a recommendation of schema 1: tool_version: "),
        (
            recommendation().to_json().replace('"horizon_months": 12', '"horizon_months": 13'),
            "outlook: .*same_compute lacks the cost of now or after 13 months",
        ),
        (
            re.sub(
                r'"trainable_parameters": \d+',
                f'"trainable_parameters": {"9" * 400}',
                recommendation().to_json(),
            ),
            "job.trainable_parameters: ",
        ),
    ],
)
def test_what_is_no_recommendation_is_refused(text: str, words: str) -> None:
    """The message has the place of the first thing that is wrong, and what to do."""
    with pytest.raises(InputError, match=f"{words}.*recommend --format json"):
        Recommendation.from_json(text, where="r.json")


@pytest.mark.parametrize("name", ["trainfare-report.html", "trainfare-report.json"])
def test_a_file_that_is_no_report_is_never_overwritten(
    tmp_path: Path, name: str, record_property: Callable[[str, object], None]
) -> None:
    """A file of that name that is not a report is kept, nothing is written, and the error names it."""
    (tmp_path / name).write_text('{"mine": 1}', encoding="utf-8")
    with pytest.raises(InputError, match=name):
        write_reports(recommendation(), None, tmp_path, as_of=TODAY)
    assert (tmp_path / name).read_text(encoding="utf-8") == '{"mine": 1}'
    record_property("{} files and links of the user kept in a report's place", 1)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("stem", ["", ".", "..", "../up", "a/b", "a\\b", "/abs", "a\0b", "c:d"])
def test_a_name_cannot_leave_its_folder(
    tmp_path: Path, stem: str, record_property: Callable[[str, object], None]
) -> None:
    """Folders, drives and NUL in the name are refused before anything is written."""
    with pytest.raises(InputError, match="plain file name"):
        write_reports(recommendation(), None, tmp_path / "reports", as_of=TODAY, stem=stem)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    record_property("{} uses of names that are paths refused", 1)


def test_a_link_is_not_followed(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    """A dangling link in the report's place does not make us write where it points."""
    (tmp_path / "trainfare-report.html").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"trainfare-report\.html"):
        write_reports(recommendation(), None, tmp_path, as_of=TODAY)
    assert not (tmp_path / "elsewhere").exists()
    assert (tmp_path / "trainfare-report.html").is_symlink()
    record_property("{} files and links of the user kept in a report's place", 1)


def test_a_file_in_the_folders_place_is_our_error(tmp_path: Path) -> None:
    """Where the folder cannot be created, the error says what to do."""
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match="name another"):
        write_reports(recommendation(), None, tmp_path / "file" / "below", as_of=TODAY)


def test_importing_the_report_loads_nothing_heavy() -> None:
    """Every command imports `trainfare.report`: no torch, Lightning, polars, matplotlib, rich or jinja2 with it."""
    heavy = ["torch", "lightning", "pytorch_lightning", "polars", "matplotlib", "jinja2", "pydantic"]
    script = f"import sys, trainfare.report; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


_FLUSHES = """
import os, sys
from datetime import date
from pathlib import Path

steps, flush = [], os.fsync

def noted(handle):
    steps.append(("flush", Path(os.readlink(f"/proc/self/fd/{handle}")).name))
    flush(handle)

os.fsync = noted  # before anything of trainfare is imported
sys.addaudithook(
    lambda event, parts: steps.append(("rename", Path(parts[1]).name)) if event == "os.rename" else None
)

from builders.recommendations import recommendation
from trainfare.report.files import write_reports

write_reports(recommendation(), None, Path(sys.argv[1]), as_of=date(2026, 11, 24))
print(steps)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs the names of open files in /proc")
def test_a_report_is_on_the_disk_before_it_has_its_name(tmp_path: Path) -> None:
    """After a power cut there is the old report or the new one: content, then name, then folder, for both files."""
    paths = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, "-c", _FLUSHES, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=True,
    )
    found = [
        (step, re.sub(r"^\.(trainfare-report\.\w+)\..*tmp$", r"new \1", name))
        for step, name in ast.literal_eval(done.stdout)
    ]
    assert found == [
        (step, name)
        for file in ("trainfare-report.html", "trainfare-report.json")
        for step, name in (("flush", f"new {file}"), ("rename", file), ("flush", tmp_path.name))
    ]
