"""
The retry policy: which faults and statuses are retried, how often, and after which wait (full jitter, `Retry-After`).

A status 4xx means that the request is wrong, so it is not repeated; 408 and 429 ask for a later try.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from trainfare_core.errors import FetchError

if TYPE_CHECKING:
    from tenacity import RetryCallState

MAX_ATTEMPTS: Final = 4
"""Of one request, in all; a chosen value."""

RETRIED_STATUSES: Final = frozenset({408, 429, 500, 502, 503, 504})
RETRY_AFTER_CAP_S: Final = 10.0
"""Seconds. A server that asks for a longer wait is not asked again: waiting less than asked would only add to its load.
A chosen value: two thirds of the 15 s that one request may take in all."""

# Chosen so that the three waits between four attempts (at most 0.5, 1 and 2 s) fit into the 15 s of one request.
_FIRST_WAIT_S: Final = 0.5
_LONGEST_WAIT_S: Final = 8.0

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class FaultRule:
    """
    How a fault is handled.

    Attributes:
        message: what happened.
        retry: whether another attempt can help.
        advice: what the user can do.
        answered: the server was reached, so that a message names what was asked of it; else only the host.
    """

    message: str
    retry: bool
    advice: str
    answered: bool = True


FAULTS: Final = {
    row["fault"]: FaultRule(row["message"], row["retry"] == "yes", row["advice"], row["answered"] == "yes")
    for row in csv.DictReader(Path(__file__).with_name("faults.csv").read_text(encoding="utf-8").splitlines())
}


def is_retried(status: int) -> bool:
    """Return whether a status is worth another try."""
    return status in RETRIED_STATUSES


def status_words(status: int) -> str:
    """Return what the user can do about a status."""
    if status in (401, 403):
        return "check the credentials and what they may read (docs/permissions.md)"
    if status == 407:
        return "check the user and password of the proxy"
    if status in (404, 410):
        return "the address is gone: update trainfare"
    return "try again later" if is_retried(status) else "update trainfare, or report this"


def wait_ceiling_s(attempt: int) -> float:
    """Return the longest wait after a failed attempt (1, 2, ...), seconds; full jitter draws from 0 to it."""
    return min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2.0 ** min(attempt - 1, 30))


def repeat(
    attempt: Callable[[], Result],
    *,
    sleep: Callable[[float], None],
    max_attempts: int = MAX_ATTEMPTS,
    longest_asked_s: float = RETRY_AFTER_CAP_S,
    jitter: Callable[[float], float] = lambda most: most,
    is_late: Callable[[float], bool] = lambda _: False,
) -> Result:
    """
    Return what an attempt returns, the first that raises no `FetchError` that another can help.

    Args:
        attempt: makes one.
        sleep: waits seconds.
        max_attempts: in all.
        longest_asked_s: a server that asks for a longer wait is not asked again.
        jitter: draws a wait between 0 and its argument, seconds.
        is_late: whether there is no time left for a wait of so many seconds.

    Raises:
        FetchError: of the last attempt.
    """
    from tenacity import Retrying, retry_if_exception

    def read_asked_s(state: RetryCallState) -> float | None:
        error = state.outcome.exception() if state.outcome else None
        return error.retry_after_s if isinstance(error, FetchError) else None

    def draw_wait_s(state: RetryCallState) -> float:
        asked_s = read_asked_s(state)
        return jitter(wait_ceiling_s(state.attempt_number)) if asked_s is None else asked_s

    retrying = Retrying(
        retry=retry_if_exception(lambda error: isinstance(error, FetchError) and error.retryable),
        wait=draw_wait_s,
        stop=lambda state: (
            state.attempt_number >= max_attempts
            or (read_asked_s(state) or 0.0) > longest_asked_s
            or is_late(state.upcoming_sleep)
        ),
        sleep=lambda seconds: sleep(float(seconds)),
        reraise=True,
    )
    return retrying(attempt)


def retry_after_s(header: str | None, *, now_s: float) -> float | None:
    """
    Return how long a server asks to wait, seconds; None where it says nothing that can be read.

    Args:
        header: `Retry-After`: seconds, or an HTTP date.
        now_s: seconds since 1970, to count the date from.
    """
    text = (header or "").strip()
    if re.fullmatch(r"[0-9]{1,12}", text, re.ASCII):
        return float(text)
    try:
        then = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError):
        return None
    then = then if then.tzinfo else then.replace(tzinfo=timezone.utc)
    try:
        return max(0.0, (then - datetime.fromtimestamp(now_s, timezone.utc)).total_seconds())
    except (OverflowError, ValueError, OSError):
        return None
