"""No test depends on how long something takes: a busy machine fails none, and a test that hangs is stopped in one place."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from builders.processes import HANG_S

TESTS = Path(__file__).resolve().parents[1]
CLOCKS = {"monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "time_ns"}
"""Clocks of `time` that only measure; `time.time` may stamp a file."""
LIMITS = {"timeout", "deadline"}
"""Arguments of `subprocess`, `threading` and Hypothesis."""
WAITS = {"wait", "settimeout", "join", "acquire", "result"}
"""Methods of `threading`, `socket` and futures whose first argument is a limit; a hundredth of a second only looks again."""
LOOKS_AGAIN_S = 0.01
TOOLS = {"mutants", "repeat_under_load.py"}
"""They run tests, and stop what hangs; pytest collects nothing of them."""
GUARD = "HANG_S"


def wall_time(source: str) -> list[str]:
    """Return what measures wall time or is cut off by it; a limit of `HANG_S` is one that nothing but a hang reaches."""
    texts = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr in CLOCKS and ast.unparse(node.value) == "time":
            texts.append(f"time.{node.attr}")
        if isinstance(node, ast.ImportFrom) and node.module == "time":
            texts += [f"from time import {name.name}" for name in node.names if name.name in CLOCKS]
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in WAITS:
            seconds = [
                arg.value
                for arg in node.args[:1]
                if isinstance(arg, ast.Constant) and isinstance(arg.value, (int, float))
            ]
            texts += [f"{node.func.attr}({value})" for value in seconds if value > LOOKS_AGAIN_S]
        if isinstance(node, ast.keyword) and node.arg in LIMITS:
            value = ast.unparse(node.value)
            if value != "None" and GUARD not in value:
                texts.append(f"{node.arg}={value}")
    return texts


@pytest.mark.parametrize(
    "line",
    [
        "began = time.monotonic()",
        "from time import perf_counter",
        "run(x, timeout=9)",
        "settings(deadline=200)",
        "done.wait(30)",
        "sock.settimeout(0.2)",
    ],
)
def test_planted_wall_time_is_found(line: str) -> None:
    assert wall_time(line)


def test_no_test_depends_on_wall_time() -> None:
    """Neither a measured time nor a time-out that a busy machine could reach."""
    fields = {
        str(path.relative_to(TESTS)): lines
        for path in sorted(TESTS.rglob("*.py"))
        if path.relative_to(TESTS).parts[0] not in TOOLS
        and (lines := wall_time(path.read_text(encoding="utf-8")))
    }
    assert fields == {}


def test_a_test_that_hangs_is_stopped_in_one_place(pytestconfig: pytest.Config) -> None:
    """pytest-timeout's limit is `HANG_S`; where no signal is heard, a thread without Python's lock ends the process."""
    assert f"--timeout={HANG_S:.0f}" in pytestconfig.getini("addopts")
    assert float(pytestconfig.getini("faulthandler_timeout")) > HANG_S
    assert pytestconfig.getini("faulthandler_exit_on_timeout") is True
