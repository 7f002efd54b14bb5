"""Calls that are given up: after a time, when they hang, or when they take too much CPU time."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from trainfare_core.errors import CannotTellError, PricesUnavailableError
from trainfare_providers.time_limit import call_while_working, call_within


def cpu(*seconds: float, then: Callable[[], None] = lambda: None) -> Callable[[], float]:
    """Return a CPU clock of these readings; `then` is called with the last."""
    readings = list(seconds)

    def read() -> float:
        if len(readings) == 1:
            then()
        return readings.pop(0)

    return read


def test_a_call_that_works_slowly_is_waited_for() -> None:
    """On a busy machine a call gets little of the CPU: it is waited for, however long that takes."""
    enough = threading.Event()
    clock = cpu(0.0, 0.002, 0.004, 0.006, 0.008, then=enough.set)

    def ranking() -> str:
        enough.wait()
        return "ranked"

    assert call_while_working(0.02, ranking, cpu_s=clock) == "ranked"


@pytest.mark.parametrize(
    ("readings", "error", "says"),
    [
        ((5.0, 5.0), PricesUnavailableError, "no answer within 0.01 s"),
        ((5.0, 5.004, 5.0041), PricesUnavailableError, "no answer within 0.01 s"),
        ((5.0, 5.006, 5.012), CannotTellError, "given up after 0.012 s of CPU time"),
    ],
    ids=["hangs", "hangs later", "works too long"],
)
def test_a_call_is_given_up(readings: tuple[float, ...], error: type[Exception], says: str) -> None:
    """One that does nothing hangs; one that works has a limit of CPU time, which is no fault of the prices."""
    release = threading.Event()
    with pytest.raises(error, match=says):
        call_while_working(0.01, lambda: release.wait(), cpu_s=cpu(*readings))
    release.set()


@pytest.mark.parametrize("limit", [call_within, call_while_working])
def test_errors_of_the_call_pass_through(limit: Callable[..., object]) -> None:
    """An exception is raised in the caller's thread; an exit is an unavailable price source."""

    def fail(error: BaseException) -> Callable[[], None]:
        def call() -> None:
            raise error

        return call

    with pytest.raises(ValueError, match="mine"):
        limit(10.0, fail(ValueError("mine")))
    with pytest.raises(PricesUnavailableError, match="SystemExit"):
        limit(10.0, fail(SystemExit(3)))
    assert limit(10.0, lambda: None) is None
