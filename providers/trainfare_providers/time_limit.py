"""A time limit for a call into foreign code that has none."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from trainfare_core.errors import PricesUnavailableError

__all__ = ["call_within"]

Result = TypeVar("Result")


def call_within(limit_s: float, work: Callable[[], Result], *, late: Exception | None = None) -> Result:
    """
    Return what `work` returns, or stop waiting for it.

    Python cannot stop a call that hangs in foreign code, so it runs in a daemon thread, which is abandoned.

    Args:
        limit_s: seconds to wait.
        work: the call.
        late: raised when there is no result in time; None is a `PricesUnavailableError`.

    Raises:
        PricesUnavailableError: no result in time, or `work` raised `SystemExit`.
        Exception: whatever `work` raises.
    """
    results: list[Result] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            errors.append(error)

    thread = threading.Thread(target=run, name="trainfare-time-limit", daemon=True)
    thread.start()
    thread.join(limit_s)
    if results:
        return results[0]
    if not errors:
        raise late or PricesUnavailableError(
            f"no answer within {limit_s:g} s: try again later, or see `trainfare prices`"
        )
    if isinstance(errors[0], Exception | KeyboardInterrupt):
        raise errors[0]
    raise PricesUnavailableError(f"a price source ended with {type(errors[0]).__name__}") from errors[0]
