"""The window of steps that are timed, after the warm-up and the traced steps."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

import torch

from trainfare.job.run_facts import RunFacts
from trainfare.meter.timing.cuda_clock import CudaClock
from trainfare.meter.timing.step_timer import HostClock, StepTimer, StepTimes
from trainfare.meter.timing.validation_clock import ValidationClock
from trainfare.trace import BatchSpread

MAX_LAG_BATCHES = 50
"""Batches after which a full window is read although the device has not reached its end, which makes the host wait
once. A chosen value: a device is behind its host by a few batches, so the wait is the exception."""


class _Stage(IntEnum):
    BEFORE = 0
    OPEN = 1
    FULL = 2
    """All steps are recorded; the device may not have reached the last mark."""


class StepWindow:
    """
    Times a number of optimizer steps.

    Args:
        facts: of the run; its device decides how marks are made.
        steps: optimizer steps to time.
        now: seconds from any origin.
    """

    def __init__(self, facts: RunFacts, steps: int, now: Callable[[], float]) -> None:
        self._device = facts.device if facts.device_kind == "cuda" else None
        clock = HostClock(now) if self._device is None else CudaClock(self._device)
        self.timer = StepTimer(clock, steps)
        self.validation = ValidationClock(self.timer, now)
        self.spread = BatchSpread()
        """The sizes of its batches."""
        self.times: StepTimes | None = None
        self.peak_memory_bytes: int | None = None
        self.done = False
        """The window was closed."""
        self._stage = _Stage.BEFORE
        self._lag_batches = 0

    @property
    def begun(self) -> bool:
        """The window was opened, and may be over."""
        return self._stage >= _Stage.OPEN

    @property
    def is_open(self) -> bool:
        """Steps are being timed."""
        return self._stage == _Stage.OPEN and not self.done

    def open(self) -> None:
        """Time the steps from here on."""
        self._stage = _Stage.OPEN
        self.timer.begin()

    def batch_end(self, *, stepped: bool) -> bool:
        """
        Mark the end of a batch.

        Args:
            stepped: an optimizer stepped in it.

        Returns:
            Whether the window now has all its steps.
        """
        self.validation.close()
        self.timer.batch_end(stepped=stepped)
        if not self.timer.full:
            return False
        self._stage = _Stage.FULL
        return True

    def may_close(self) -> bool:
        """Return whether a full window can be read; asked once a batch."""
        if self._stage != _Stage.FULL or self.done:
            return False
        self._lag_batches += 1
        return self.timer.ready or self._lag_batches > MAX_LAG_BATCHES

    def close(self) -> None:
        """Compute the times of the steps recorded so far; waits for the device at most once."""
        self.done = True
        self.timer.end()
        self.times = self.timer.times()
        if self._device is not None:
            self.peak_memory_bytes = int(torch.cuda.max_memory_reserved(self._device))
