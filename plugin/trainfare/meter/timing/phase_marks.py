"""Passes a loop's phases on to the step timer, the validation clock and the trace of a step."""

from __future__ import annotations

from collections.abc import Callable

from trainfare.job.loop import Phase
from trainfare.meter.step_probe import StepProbe
from trainfare.meter.timing.step_timer import StepTimer
from trainfare.meter.timing.validation_clock import ValidationClock


class PhaseMarks:
    """
    A `PhaseListener`. What only the timer or the clock is told is their own method, without a call in between.

    Args:
        timer: of the steps.
        validation: of validation.
        probe: the trace of a step, which must know where the optimizer ends.
        leave: undoes what the meter has changed.
    """

    def __init__(
        self, timer: StepTimer, validation: ValidationClock, probe: StepProbe, leave: Callable[[], None]
    ) -> None:
        self._stop, self._probe, self.leave = timer.stop, probe, leave
        self.begin = timer.start
        self.expect_validation = validation.expect
        self.leave_validation = validation.close

    def end(self, phase: Phase) -> None:
        """Mark the end of a phase."""
        self._stop(phase)
        if phase is Phase.OPTIMIZER and self._probe.running:
            self._probe.end_optimizer()
