"""Times validation runs, and pauses the step timer while they last."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from trainfare.job.loop import Phase
from trainfare.meter.timing.step_timer import StepTimer, quantiles
from trainfare_core.job_profile import Quantiles

KEPT_RUNS = 64
"""The newest validation runs whose times are kept; a chosen value that bounds memory."""


class ValidationClock:
    """
    Times validation and pauses the step timer.

    Args:
        timer: the step timer.
        now: seconds from any origin.
    """

    def __init__(self, timer: StepTimer, now: Callable[[], float]) -> None:
        self._timer = timer
        self._now = now
        self._since_s: float | None = None
        self._runs = False
        self.batches = 0
        """Batches of all validation runs so far, sanity checks excluded; of a run of unknown length none."""
        self.total_s = 0.0
        """Seconds of all validation runs so far, with their setting up."""
        self._batch_s: deque[float] = deque(maxlen=KEPT_RUNS)

    def expect(self) -> None:
        """Pause the step timer: the loop begins to set up validation."""
        if self._since_s is None:
            self._since_s = self._now()
            self._timer.start(Phase.PAUSE)

    def start(self) -> None:
        """Record that validation runs."""
        self.expect()
        self._runs = True

    def end(self, batches: int | None) -> None:
        """
        Record the end of a validation run and resume the step timer.

        Args:
            batches: number of its batches; None where not known.
        """
        self.batches += batches or 0
        if self._since_s is not None and self._runs and batches:
            self._batch_s.append((self._now() - self._since_s) / batches)
        self.close()

    def close(self) -> None:
        """Resume the step timer, also where the validation that was set up did not run."""
        if self._since_s is not None:
            self.total_s += self._now() - self._since_s
            self._since_s = None
            self._runs = False
            self._timer.stop(Phase.PAUSE)

    def batch_quantiles(self) -> Quantiles | None:
        """Return the seconds of one validation batch; None where no validation run was timed."""
        return quantiles(list(self._batch_s)) if self._batch_s else None
