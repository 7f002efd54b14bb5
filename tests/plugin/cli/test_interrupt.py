"""The time that Ctrl-C leaves a command; `test_streams.py` presses it in real ones."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from trainfare.cli.interrupt import end_in_time


def test_a_command_has_less_than_two_seconds_to_end(record_property: Callable[[str, object], None]) -> None:
    """By the seconds that are slept: the main thread is woken at once and again, and the process ends before the promise."""
    slept_s: list[float] = []
    woken_s: list[float] = []
    ended_s: list[float] = []
    end_in_time(slept_s.append, lambda: woken_s.append(sum(slept_s)), lambda: ended_s.append(sum(slept_s)))
    (end_s,) = ended_s
    record_property("at most {} s for an orderly end after Ctrl-C, 2 promised", end_s)
    assert 0.5 < end_s <= 1.5  # enough for an orderly end, and half a second left for a busy machine
    assert woken_s[0] <= 0.2
    assert len(woken_s) > 1


@pytest.mark.sources
def test_the_page_states_the_time() -> None:
    """docs/exit-codes.md promises two seconds."""
    page = (Path(__file__).parents[3] / "docs" / "exit-codes.md").read_text(encoding="utf-8")
    assert re.search(
        r"^\| 130 \| interrupted by Ctrl-C, within two seconds: an orderly end has one", page, re.MULTILINE
    )
