"""Exit codes, on which scripts rely: 0 done, 1 over budget, 2 bad usage, 3 cannot tell, 4 a defect of ours."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from builders.cli import CliResult, capture_main, run_cli, run_python
from builders.profiles import profile
from trainfare.cli import app_of
from trainfare_core.errors import NothingFitsError

SCHEMAS = Path(__file__).parents[3] / "docs" / "schema"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "job.json").write_text(profile().to_json(), encoding="utf-8")
    (tmp_path / "broken.json").write_text("{", encoding="utf-8")
    return tmp_path


@pytest.fixture
def end_of(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., CliResult]:
    """Run a command in the folder and return how it ended."""
    monkeypatch.chdir(folder)
    return partial(capture_main, capsys)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["check", "job.json", "--max-usd", "100000"], 0),
        (["check", "job.json", "--max-usd", "0.01"], 1),
        (["check", "job.json"], 2),
        (["check", "job.json", "--max-usd", "-1"], 2),
        (["check", "missing.json", "--max-usd", "5"], 2),
        (["check", "broken.json", "--max-usd", "5"], 2),
        (["check", "nowhere.py:job", "--max-usd", "5"], 2),
        (["check", "job.json", "--max-usd", "5", "--provider", "nimbus"], 2),
        (["recommend", "job.json", "--format", "poem"], 2),
        (["recommend", "job.json", "--max-usd", "0.000001"], 3),
        (["predict", "job.json", "--on", "H100-SXM-80GB"], 0),
        (["predict", "job.json", "--on", "H1000"], 2),
        (["predict", "job.json", "--on", "Inferentia2"], 3),
        (["offers", "--accelerator", "nothing-like-it"], 2),
        (["offers", "--max-usd-per-hour", "0.000001"], 3),
        (["prices", "status"], 0),
        (["no-such-command"], 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_exit_code(arguments: list[str], code: int, end_of: Callable[..., CliResult]) -> None:
    """Each way to end has its code, and an error is one line on stderr without a traceback."""
    ended = end_of(*arguments)
    assert ended.exit_code == code, ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("code", [0, 1, 2, 3])
def test_a_process_ends_with_the_code(code: int, folder: Path) -> None:
    """What `main` raises is what a shell sees."""
    usd = {0: "100000", 1: "0.01", 2: "-1", 3: "0.000001"}[code]
    done = run_cli("recommend" if code == 3 else "check", "job.json", "--max-usd", usd, cwd=folder)
    assert done.exit_code == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr


OBJECTS_AT_EXIT = """
import atexit, gc
from trainfare.cli import main
atexit.register(lambda: print(len(gc.get_objects()), gc.get_freeze_count()))
main()
"""


def test_a_process_ends_without_collecting_what_it_imported(folder: Path) -> None:
    """The interpreter's last collections pass over nearly all objects: they take a seventh of a short command."""
    arguments = ("predict", "job.json", "--on", "H100-SXM-80GB")
    done = run_python("-c", OBJECTS_AT_EXIT, *arguments, cwd=folder, check=True)
    collected, passed_over = map(int, done.stdout.splitlines()[-1].split())
    assert collected < passed_over


@pytest.mark.parametrize(
    ("arguments", "schema"),
    [
        (["check", "job.json", "--max-usd", "100000"], "budget-check-1.json"),
        (["predict", "job.json", "--on", "H100-SXM-80GB"], "machine-prediction-1.json"),
        (["offers", "--limit", "3"], "offers-1.json"),
        (["prices", "status"], "prices-status-1.json"),
        (["recommend", "job.json", "--limit", "3"], "recommendation-1.json"),
    ],
)
def test_json_satisfies_its_published_schema(
    arguments: list[str], schema: str, end_of: Callable[..., CliResult]
) -> None:
    """What a command prints with --format json is one document of the schema in docs/schema."""
    ended = end_of(*arguments, "--format", "json")
    assert ended.exit_code == 0, ended.stderr
    published = json.loads((SCHEMAS / schema).read_text(encoding="utf-8"))
    Draft202012Validator(published).validate(json.loads(ended.stdout))


def test_nothing_within_the_budget_is_a_typed_error(folder: Path) -> None:
    """What ends with 3 on the command line is a NothingFitsError in Python."""
    with pytest.raises(NothingFitsError, match="no machine is left; the report says why"):
        app_of()(["recommend", str(folder / "job.json"), "--max-usd", "0.000001"], standalone_mode=False)
