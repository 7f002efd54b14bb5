"""A time limit for a call into foreign code that has none."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from trainfare_core.errors import CannotTellError, PricesUnavailableError

Result = TypeVar("Result")

IDLE_SHARE = 0.05
"""Share of one CPU below which a call counts as hanging. A chosen value: a call that works gets more even on a machine
with many more processes than processors, one that waits for a network gets next to none."""


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
    call = _Call(work)
    call.thread.join(limit_s)
    return call.result(late or _no_answer(f"{limit_s:g} s"))


def call_while_working(
    limit_s: float, work: Callable[[], Result], *, cpu_s: Callable[[], float] = time.process_time
) -> Result:
    """
    Return what `work` returns, or stop waiting for it once it hangs or has taken too much CPU time.

    On a busy machine a call may take long and still work: what is limited is the CPU time of this process while the
    call runs. A call during which this process is idle for `limit_s` hangs.

    Args:
        limit_s: seconds of CPU time, and seconds of being idle.
        work: the call.
        cpu_s: CPU time of this process so far, in seconds.

    Raises:
        PricesUnavailableError: it hung, or `work` raised `SystemExit`.
        CannotTellError: it took too much CPU time.
        Exception: whatever `work` raises.
    """
    call = _Call(work)
    began_s = seen_s = cpu_s()
    while True:
        call.thread.join(limit_s)
        if call.ended:
            return call.result(None)
        now_s = cpu_s()
        if now_s - began_s >= limit_s:
            return call.result(CannotTellError(f"it was given up after {now_s - began_s:.3g} s of CPU time"))
        if now_s - seen_s < IDLE_SHARE * limit_s:
            return call.result(_no_answer(f"{limit_s:g} s"))
        seen_s = now_s


def _no_answer(within: str) -> PricesUnavailableError:
    return PricesUnavailableError(f"no answer within {within}: try again later, or see `trainfare prices`")


class _Call(Generic[Result]):
    """A call in a daemon thread of its own, which has begun."""

    def __init__(self, work: Callable[[], Result]) -> None:
        self._work = work
        self._results: list[Result] = []
        self._errors: list[BaseException] = []
        self.thread = threading.Thread(target=self._run, name="trainfare-time-limit", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self._results.append(self._work())
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            self._errors.append(error)

    @property
    def ended(self) -> bool:
        """The call has returned or raised."""
        return bool(self._results or self._errors)

    def result(self, late: Exception | None) -> Result:
        """Return the result or raise the error of the call; raise `late` where it has neither."""
        if self._results:
            return self._results[0]
        if not self._errors:
            raise late or _no_answer("the time limit")
        if isinstance(self._errors[0], Exception | KeyboardInterrupt):
            raise self._errors[0]
        what = f"a price source ended with {type(self._errors[0]).__name__}"
        raise PricesUnavailableError(what) from self._errors[0]
