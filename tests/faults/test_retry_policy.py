"""The retry policy as tables, with the cases that are not tried again."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainfare_core.errors import FetchError
from trainfare_providers.http.retry import (
    FAULTS,
    RETRY_AFTER_CAP_S,
    is_retried,
    repeat,
    retry_after_s,
    status_words,
    wait_ceiling_s,
)

NOW_S = datetime(2026, 11, 24, 12, tzinfo=timezone.utc).timestamp()


@pytest.mark.parametrize("status", range(100, 600))
def test_statuses_that_are_tried_again(status: int) -> None:
    """Six statuses ask for another try; no other does, and no 4xx but 408 and 429."""
    assert is_retried(status) is (status in (408, 429, 500, 502, 503, 504))
    assert status_words(status)


@pytest.mark.parametrize(
    ("fault", "again"),
    [
        ("no such host", False),
        ("name lookup failed", True),
        ("refused", True),
        ("unreachable", True),
        ("connect timeout", True),
        ("read timeout", True),
        ("reset", True),
        ("cut short", True),
        ("too slow", False),
        ("certificate", False),
        ("tls", False),
        ("proxy", False),
        ("protocol", False),
        ("encoding", False),
        ("too large", False),
        ("no declared end", False),
        ("redirect", False),
        ("not JSON", False),
        ("error object", False),
        ("no prices", False),
        ("paging", False),
        ("address", False),
        ("changed", False),
    ],
)
def test_faults_that_are_tried_again(fault: str, again: bool) -> None:
    """What a moment can mend is tried again; a mistake that stays one is not."""
    assert FAULTS[fault].retry is again
    assert FAULTS[fault].message
    assert FAULTS[fault].advice


def test_every_fault_stands_in_the_table_above() -> None:
    """A new fault needs its line."""
    marks = test_faults_that_are_tried_again.pytestmark  # type: ignore[attr-defined]
    assert {name for name, _ in marks[0].args[1]} == set(FAULTS)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("0", 0.0),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("1000000000", 1e9),
        ("9" * 400, None),
        ("-1", None),
        ("1.5", None),
        ("1_0", None),
        ("٣", None),
        ("soon", None),
        ("Tue, 24 Nov 2026 12:00:30 GMT", 30.0),
        ("Tue, 24 Nov 2026 12:00:30", 30.0),
        ("Tue, 24 Nov 2026 11:00:00 GMT", 0.0),
        ("Tue, 24 Nov 2026 07:00:30 -0500", 30.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 251_606_779_199.0),
        ("Tue, 99 Nov 2026 12:00:30 GMT", None),
        ("2026-11-24T12:00:30Z", None),
    ],
)
def test_retry_after_in_seconds_and_dates(header: str | None, seconds: float | None) -> None:
    """Seconds and HTTP dates are read; what is neither is as if it were not there."""
    assert retry_after_s(header, now_s=NOW_S) == seconds


@settings(max_examples=300, deadline=None)
@given(header=st.text(max_size=40))
def test_retry_after_is_never_a_crash_or_a_negative_wait(header: str) -> None:
    """Whatever a server writes."""
    seconds = retry_after_s(header, now_s=NOW_S)
    assert seconds is None or seconds >= 0


def test_waits_grow_and_stay_bounded() -> None:
    """Half a second, doubled, at most eight; also after a thousand tries."""
    assert [wait_ceiling_s(attempt) for attempt in (1, 2, 3, 4, 5, 6, 1024)] == [0.5, 1, 2, 4, 8, 8, 8]
    assert RETRY_AFTER_CAP_S == 10.0


PASSES = FetchError("aws", "busy", retryable=True)


@pytest.mark.parametrize(
    ("errors", "waits"),
    [
        ([], []),
        ([PASSES], [0.25]),
        ([PASSES, PASSES, PASSES], [0.25, 0.5, 1.0]),
        ([FetchError("aws", "busy", retryable=True, retry_after_s=10.0), PASSES], [10.0, 0.5]),
    ],
)
def test_attempts_are_repeated_until_one_succeeds(errors: list[FetchError], waits: list[float]) -> None:
    """After a part of the ceiling that is drawn, or after the time that the server names."""
    left, waited = list(errors), list[float]()

    def attempt() -> str:
        if left:
            raise left.pop(0)
        return "answer"

    assert repeat(attempt, sleep=waited.append, jitter=lambda most: most / 2) == "answer"
    assert waited == waits


@pytest.mark.parametrize(
    ("error", "latest_s", "attempts"),
    [
        (PASSES, 9.0, 4),
        (PASSES, 0.9, 2),
        (FetchError("aws", "refused"), 9.0, 1),
        (FetchError("aws", "busy", retryable=True, retry_after_s=10.1), 99.0, 1),
        (KeyError("a defect"), 9.0, 1),
    ],
)
def test_last_error_is_the_answer(error: Exception, latest_s: float, attempts: int) -> None:
    """Four attempts; fewer where another cannot help, the wait is too long or no time is left for it."""
    made: list[int] = []

    def fail() -> None:
        made.append(1)
        raise error

    with pytest.raises(type(error)) as caught:
        repeat(fail, sleep=lambda _: None, is_late=lambda wait_s: wait_s > latest_s)
    assert caught.value is error
    assert len(made) == attempts


@pytest.mark.sources
@pytest.mark.parametrize("name", ["tenacity import", "wait_ceiling_s("])
def test_there_is_one_retry_policy(name: str) -> None:
    """A second loop would wait by other rules."""
    top = Path(__file__).resolve().parents[2]
    files = [path for root in ("core", "providers", "plugin") for path in (top / root).rglob("*.py")]
    users = [path.name for path in files if name in path.read_text(encoding="utf-8")]
    assert users == ["retry.py"]
