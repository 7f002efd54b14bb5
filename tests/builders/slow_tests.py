"""Which tests of a run took long, by what pytest has timed of their call."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol

MOST_S: Final = 10.0
"""Chosen: 11,000 tests in 12 minutes of two cores are a tenth of a second each; one of these is a hundred."""


class Timed(Protocol):
    """The end of a part of a test, as pytest's reports are."""

    nodeid: str
    when: str | None
    duration: float


def list_slow(reports: Iterable[Timed], most_s: float = MOST_S) -> list[str]:
    """Return a line for each test whose call took longer, the longest first."""
    slow = [(report.duration, report.nodeid) for report in reports if report.when == "call"]
    return [f"{seconds:6.1f} s  {name}" for seconds, name in sorted(slow, reverse=True) if seconds > most_s]
