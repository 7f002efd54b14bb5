"""The retry policy as tables, with the cases that are not tried again."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainfare_providers.http.retry import (
    FAULTS,
    RETRY_AFTER_CAP_S,
    is_retried,
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
