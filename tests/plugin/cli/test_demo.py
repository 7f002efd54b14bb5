"""`trainfare demo`: real training, a real table, real files."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from builders.cli import run_cli
from trainfare.cli.demo import demo
from trainfare_core.errors import MissingExtraError


def test_demo_prints_the_table_and_writes_the_report(tmp_path: Path) -> None:
    """The demo ranks AWS, Azure and Google machines, marks TPUs, and its last line says what was written where."""
    # What it prints fits into any encoding, and its run is in no ledger.
    narrow = {"PYTHONIOENCODING": "ascii", "TRAINFARE_LEDGER": str(tmp_path / "ledger")}
    done = run_cli("demo", cwd=tmp_path, environment=narrow, check=True)
    assert (done.stdout + done.stderr).isascii()
    answer = json.loads((tmp_path / "trainfare-report.json").read_text(encoding="utf-8"))
    assert {option["provider"] for option in answer["options"]} == {"aws", "azure", "gcp"}
    assert any(
        option["needs_porting"] and option["accelerator"].startswith("TPU") for option in answer["options"]
    )
    assert answer["outlook"]["verdict"] in {"train now", "cannot tell"}
    assert "Waiting breaks even at a value of" in (tmp_path / "trainfare-report.html").read_text(
        encoding="utf-8"
    )
    assert "trainfare: cheapest" in done.stdout
    assert "trainfare: runner-up" in done.stdout
    assert "of at most 8,400: priced to the last" in " ".join(done.stdout.split())
    _, *end = done.stdout.splitlines()  # the first line is from the middle of the run
    assert len(end) <= 20
    assert max(map(len, end)) <= 100
    assert (tmp_path / "trainfare-report.html").is_file()
    assert not (tmp_path / "ledger").exists()
    assert done.stdout.splitlines()[-1].startswith("trainfare demo: wrote trainfare-report.html")


def test_demo_refuses_a_folder_that_is_not_there(tmp_path: Path) -> None:
    """A missing folder is an InputError with exit code 2, before anything is trained."""
    done = run_cli("demo", "-d", "nowhere", cwd=tmp_path)
    assert done.exit_code == 2
    assert done.stderr.startswith("error: --directory nowhere: no such folder")


def test_demo_names_the_extra_it_misses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where scikit-learn is not installed, the error says which extra brings it."""
    monkeypatch.delitem(sys.modules, "trainfare.demo_training", raising=False)
    for name in [name for name in sys.modules if name.split(".")[0] == "sklearn"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(MissingExtraError, match=r"\[demo\]"):
        demo(tmp_path)
