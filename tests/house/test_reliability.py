"""docs/reliability.md is current, and every promise names tests that are there."""

from __future__ import annotations

import ast
import importlib
import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import pytest

TOP = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.sources


@pytest.fixture
def reliability() -> ModuleType:
    return importlib.import_module("reliability")


def test_every_promise_names_tests_that_are_there(reliability: ModuleType) -> None:
    """A file with tests, or a test function of it; 24 promises in order."""
    table = reliability.promises()
    assert [one.number for one in table.promise] == list(range(1, 26))
    missing = []
    for one in table.promise:
        for test in one.tests:
            file, _, function = test.partition("::")
            path = TOP / file
            tree = ast.parse(path.read_text(encoding="utf-8")) if path.is_file() else ast.Module([], [])
            names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
            tests = {name for name in names if name.startswith("test_")}
            if function not in tests if function else not tests:
                missing.append(test)
    assert missing == []


def test_the_page_is_current(reliability: ModuleType) -> None:
    """It is what `python tests/reliability.py` writes from the table and the recorded outcomes."""
    assert reliability.PAGE.read_text(encoding="utf-8") == reliability.page(), "python tests/reliability.py"


def test_links_of_the_summary_lead_to_a_promise(reliability: ModuleType) -> None:
    """Each anchor is that of a heading, by the rules of the code host."""
    page = reliability.page()
    for one in reliability.promises().promise:
        assert f"### {one.number}. {one.title}\n" in page
        anchor = reliability._anchor(one)
        assert f"](#{anchor})" in page
        assert anchor == anchor.lower()
        assert not set(anchor) & set(" .,;:'")


XML = """<testsuites><testsuite>
<testcase classname="tests.contract.test_ddp" name="test_one[0]"/>
<testcase classname="tests.contract.test_ddp" name="test_both_ranks_train_bitwise_equally[0]">
<properties><property name="at most {} of that" value="1234.5"/></properties></testcase>
<testcase classname="tests.contract.test_ddp" name="test_two"><failure>no</failure></testcase>
<testcase classname="tests.contract.test_ddp" name="test_three"><error>no</error></testcase>
<testcase classname="tests.house.test_wheel" name="test_four"><skipped/></testcase>
</testsuite></testsuites>"""


def test_every_recorded_figure_belongs_to_a_promise(reliability: ModuleType) -> None:
    """
    A test that records one is a test of a promise: else the page would not show it.

    A promise without a measured figure has such a test, or a property, whose examples are counted.
    """
    table = reliability.promises().promise
    recording, properties = [], []
    for path in (TOP / "tests").rglob("test_*.py"):
        text = path.read_text(encoding="utf-8")
        for node in ast.parse(text).body if "record_property" in text or "@given" in text else []:
            if isinstance(node, ast.FunctionDef):
                test = f"{path.relative_to(TOP).as_posix()}::{node.name}"
                if "record_property" in [arg.arg for arg in node.args.args]:
                    recording.append(test)
                if any(ast.unparse(one).startswith("given(") for one in node.decorator_list):
                    properties.append(test)
    assert [test for test in recording if not any(one.has(test) for one in table)] == []
    counted = [*recording, *properties]
    assert [one.number for one in table if not one.measured and not any(map(one.has, counted))] == []


FIGURES = """
import pytest
from hypothesis import given, strategies

@pytest.mark.parametrize("value", [3, 5, 4])
def test_some(value, record_property):
    record_property("at most {} s, 9 allowed", value)
    record_property("at least {} of them", value)
    record_property("{} in all", value / 8)
    record_property("kind", "of another reader")

@given(strategies.integers())
def test_property(number): pass

def test_failing(record_property):
    record_property("{} of a failed test", 1)
    assert False
"""


def test_figures_of_tests_are_read(reliability: ModuleType, tmp_path: Path) -> None:
    """The largest, the smallest or the sum of the cases of a test; examples of a property are counted unasked."""
    (tmp_path / "test_planted.py").write_text(FIGURES)
    command = [
        sys.executable, "-m", "pytest", "-q", "-c", str(TOP / "pyproject.toml"), "--rootdir", str(tmp_path),
        "-p", "conftest", "-p", "no:cacheprovider", f"--junitxml={tmp_path / 'found.xml'}", str(tmp_path),
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TOP / "tests"), *filter(None, sys.path)])}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=environment)
    assert "1 failed, 4 passed" in done.stdout, done.stdout + done.stderr
    found = reliability.file_outcomes((tmp_path / "found.xml").read_text(encoding="utf-8"))["test_planted.py"]
    assert sorted(map(str, found.figures)) == [
        "1.5 in all", "15 examples of properties", "at least 3 of them", "at most 5 s, 9 allowed",
    ]  # fmt: skip


def test_outcomes_are_counted_by_file(reliability: ModuleType) -> None:
    """A failed fixture is a failure; a skipped test has not passed."""
    ddp, wheel = "tests/contract/test_ddp.py", "tests/house/test_wheel.py"
    equal = f"{ddp}::test_both_ranks_train_bitwise_equally"
    assert reliability.file_outcomes(XML) == {
        ddp: reliability.FileOutcome(
            2,
            0,
            (f"{ddp}::test_two", f"{ddp}::test_three"),
            (
                reliability.Figure(equal, "at most {} of that", 1234.5),
                reliability.Figure(equal, reliability.CASES, 1.0),
            ),
        ),
        wheel: reliability.FileOutcome(0, 1, ()),
    }


def test_a_recorded_run_is_on_the_page(
    reliability: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failed test marks its promise, and a file that was not run again keeps its last outcome."""
    table = (reliability.FOLDER / "promises.toml").read_text(encoding="utf-8")
    (tmp_path / "promises.toml").write_text(table, encoding="utf-8")
    monkeypatch.setattr(reliability, "FOLDER", tmp_path)
    assert "not recorded" in reliability.page()
    repeat = reliability.Repeat(7, 1, 1, ("tests/contract/test_ddp.py::test_two",), 1.5, 2.0, 9.0)
    reliability.record(reliability.file_outcomes(XML), repeat, what="some", busy=8)
    third = (
        XML.replace("test_ddp", "test_checkpoints")
        .replace("failure", "system-out")
        .replace("error", "system-out")
    )
    reliability.record(reliability.file_outcomes(third), repeat, what="some", busy=8)
    page = reliability.page()
    versions = f"{platform.python_version()} | {version('torch')}"
    outcome = "2.0 to 9.0 | 7 | 1 | `tests/contract/test_ddp.py::test_two` | 1 | 1.5"
    assert page.count("- Counted by the tests: at most 1,234.5 of that.") == 3  # of promises 2, 3 and 6
    assert "- Last recorded run: 2" in page
    assert ", 0 failed, 4 cases passed." in page  # of the four tests of test_checkpoints.py
    assert page.count(f"| {versions} | some | 8 | {outcome} |") == 2
    assert "1 of 3 files recorded" in page
    (checkpoints,) = [
        line for line in page.splitlines() if "Checkpoints stay" in line and line.startswith("| [")
    ]
    assert checkpoints.endswith(", 0 failed |")


def test_the_load_helper_selects_what_depends_on_the_machine() -> None:
    """Tests that start processes are selected, tests of arithmetic are not; each with its reason."""
    command = [sys.executable, str(TOP / "tests" / "repeat_under_load.py"), "--list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    reasons = dict(line.split(": ", 1) for line in listed.splitlines())
    assert "starts processes" in reasons["tests/contract/test_ddp.py"]
    assert "starts processes" in reasons["tests/contract/test_bitwise.py"]
    assert "has a server" in reasons["tests/faults/test_clouds.py"]
    assert "tests/core/ranking/test_rank.py" not in reasons


def test_the_load_helper_names_a_failure_with_its_seed(tmp_path: Path) -> None:
    """A test that fails is shown with the command that repeats it, and the helper exits with 1."""
    (tmp_path / "test_planted.py").write_text("def test_planted():\n    assert False\n")
    command = [
        sys.executable, str(TOP / "tests" / "repeat_under_load.py"), str(tmp_path), "--repeats", "2", "--busy", "1",
        "--processes", "0", "--seed", "41",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    for seed in (41, 42):
        assert f"seed {seed}: 0 passed, 1 failed" in done.stdout
        assert f"--randomly-seed={seed}" in done.stdout
