"""A call that may not take longer than it was given."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from trainfare_core.errors import PricesUnavailableError

__all__ = ["call_within"]

Answer = TypeVar("Answer")


def call_within(limit_s: float, work: Callable[[], Answer]) -> Answer:
    """
    Return what `work` returns, or give up on it.

    Python cannot stop a call that hangs in foreign code, so it runs in a daemon thread, which is left behind.

    Args:
        limit_s: seconds to wait.
        work: the call.

    Raises:
        PricesUnavailableError: no answer in time, or `work` tried to end the process.
        Exception: whatever `work` raises.
    """
    answers: list[Answer] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            answers.append(work())
        except BaseException as error:  # noqa: BLE001 - carried over to the caller's thread
            errors.append(error)

    thread = threading.Thread(target=run, name="trainfare-pricing", daemon=True)
    thread.start()
    thread.join(limit_s)
    if answers:
        return answers[0]
    if not errors:
        raise PricesUnavailableError(
            f"no answer within {limit_s:g} s: try again later, or see `trainfare prices`"
        )
    if isinstance(errors[0], Exception):
        raise errors[0]
    raise PricesUnavailableError(f"a price source ended with {type(errors[0]).__name__}") from errors[0]
