"""A run of the suite ends with the tests above ten seconds, and CI keeps the times of all."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from builders.slow_tests import list_slow

TOP = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Report:
    nodeid: str
    duration: float
    when: str | None = "call"


def test_calls_above_ten_seconds_are_named_the_longest_first() -> None:
    reports = [Report("a", 10.0), Report("b", 10.5), Report("c", 83.25), Report("d", 99.0, when="setup")]
    assert list_slow(reports) == ["  83.2 s  c", "  10.5 s  b"]


pytest_plugins = ["pytester"]


@pytest.mark.sources
def test_a_run_ends_with_the_list(pytester: pytest.Pytester) -> None:
    """As the hook of the suite's conftest writes it; a report says how long a call took."""
    hook = re.search(
        r"def pytest_terminal_summary.*?(?=\n\n\n|\Z)", (TOP / "tests/conftest.py").read_text(), re.S
    )
    assert hook is not None
    longer = "def pytest_runtest_logreport(report):\n    report.duration = 12.5 if report.nodeid.endswith('_b') else 0.1"
    pytester.makeconftest(
        f"from typing import Any\nfrom builders.slow_tests import MOST_S, list_slow\n{hook[0]}\n{longer}"
    )
    pytester.makepyfile("def test_a(): pass\ndef test_b(): assert False")
    result = pytester.runpytest("-p", "no:randomly")
    result.stdout.fnmatch_lines(["*calls above 10 s*", "  12.5 s  *::test_b"])
    result.stdout.no_fnmatch_line("* s  *::test_a")


@pytest.mark.sources
def test_ci_keeps_the_times_of_every_run() -> None:
    makefile = (TOP / "Makefile").read_text(encoding="utf-8")
    written = re.findall(r"--junitxml=(?:\.\./)?\$\(VENV\)/(\S+)", makefile)
    assert written == ["test-results.xml", "test-research-results.xml"]
    jobs = yaml.safe_load((TOP / ".github/workflows/ci.yml").read_text(encoding="utf-8"))["jobs"]
    for job in ("test", "research"):
        kept = jobs[job]["steps"][-1]
        assert kept["uses"].startswith("actions/upload-artifact@")
        assert kept["if"] == "always()"
        assert kept["with"]["path"] == ".venv/test-*results.xml"
        assert kept["with"]["include-hidden-files"]
