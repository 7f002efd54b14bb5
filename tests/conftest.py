"""
No test sees the prices that whoever runs it has fetched, their own rates, their traces, how it was started,
or how busy the machine is.

Traces are shared by all tests: a test that must trace afresh says so.
"""

from __future__ import annotations

import atexit
import gc
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from builders.slow_tests import MOST_S, list_slow
from builders.warm_process import warm_python

if os.environ.get("TRAINFARE_INTEGRITY") != "live":
    os.environ["TRAINFARE_PRICE_CACHE"] = str(
        Path(tempfile.gettempdir()) / f"trainfare-no-prices-{os.getpid()}"
    )
if "PYTEST_XDIST_WORKER" not in os.environ:  # the processes of one run of the suite share a folder
    traces = tempfile.mkdtemp(prefix="trainfare-traces-")
    atexit.register(shutil.rmtree, traces, ignore_errors=True)
    os.environ["TRAINFARE_TRACE_CACHE"] = traces
os.environ["TRAINFARE_LEDGER"] = "off"
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Shells start background jobs with Ctrl-C ignored; tests that press it need Python's own handler.
    signal.signal(signal.SIGINT, signal.default_int_handler)
# Without TERM, rich takes a terminal for one that can move its cursor; "dumb" cannot. Readline sets COLUMNS for its children.
for name in ("COLUMNS", "TERM", "TRAINFARE_OWN_PRICES", "TRAINFARE_PRICE_BOOK"):
    os.environ.pop(name, None)
# An example may take as long as it takes: Hypothesis' deadline and its check for slow data count wall time.
# Every run draws its own, so that 15 in each run of the suite find over a week what 100 would find in one.
settings.register_profile(
    "trainfare", max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("thorough", settings.get_profile("trainfare"), max_examples=300)
settings.load_profile("trainfare")


def pytest_collectstart() -> None:
    """Collect no garbage while test modules are imported: what they make stays, and looking for it is a third of that time."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Collect garbage of the tests alone, without what the imports have made."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Generator[None, object, object]:
    """
    Give each test the variables of the one before it as they were, and no process group.

    Lightning and Accelerate set LOCAL_RANK and leave it, and a script that runs here leaves the group that it made.
    """
    before = dict(os.environ)
    ended = yield
    if "torch.distributed" in sys.modules:
        from builders.process_groups import end_process_group  # imports torch, which most tests do without

        end_process_group()
    for name in os.environ.keys() - before:
        del os.environ[name]
    os.environ.update(before)
    return ended


@pytest.fixture(scope="session")
def _warm_python() -> str:
    """Return the warm Python of this worker, which has the variables that no test has changed."""
    return warm_python()


@pytest.fixture
def warm_start(_warm_python: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let commands start the process of a TARGET warm, and `run_cli` commands too."""
    monkeypatch.setattr(sys, "executable", _warm_python)


def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    """Record how many examples of a property passed, as Hypothesis says it; see `tests/reliability.py`."""
    drawn = re.findall(r"(\d+) passing", getattr(item, "hypothesis_statistics", ""))
    if call.when == "call" and drawn:
        item.user_properties.append(("{} examples of properties", sum(map(int, drawn))))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Name the tests that took long, as a machine and its load are: the next one to be made faster."""
    slow = list_slow(
        report for state in ("passed", "failed") for report in terminalreporter.getreports(state)
    )
    if slow:
        terminalreporter.section(f"calls above {MOST_S:g} s")
        for line in slow:
            terminalreporter.write_line(line)
