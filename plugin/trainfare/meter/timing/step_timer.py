"""
Timer of optimizer steps: it records marks while training runs and computes times when the window is over.

A step lasts from the end of one optimizer step to the end of the next. It includes data loading, transfer and
everything between the hooks, but not validation and the saving of checkpoints. Phases nest (Lightning runs forward
and backward inside `optimizer.step`); the time of a phase excludes that of the phases inside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from trainfare.job.loop import Phase
from trainfare_core.job_profile import Quantiles

MAX_MARKS = 200_000
"""Marks after which a window ends without its steps, so that the memory of a run that never steps an optimizer is
bounded. A chosen value: with about 12 marks a batch it is reached after some 16,000 batches."""


_BATCH_END = 100
_STEP_END = 101
"""Codes of marks that are not the start (kind) or the end (-kind) of a phase."""


class MarkClock(Protocol):
    """A clock whose marks are converted to seconds later, so that nothing waits for a device while training runs."""

    def mark(self) -> Any:
        """Return a mark of this moment, in a form of the clock's own."""
        ...

    def seconds(self, marks: Sequence[Any]) -> list[float]:
        """Convert marks, in the order in which they were made, to seconds since the first."""
        ...

    def ready(self, mark: Any) -> bool:
        """Return whether `seconds` can convert this mark without waiting for the device."""
        ...


class HostClock:
    """
    Marks by a clock of the host.

    Args:
        now: seconds from any origin, e.g. `time.perf_counter`.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self.mark = now

    def seconds(self, marks: Sequence[float]) -> list[float]:
        """Return the differences to the first mark."""
        return [mark - marks[0] for mark in marks]

    def ready(self, mark: float) -> bool:
        """Return True: there is no device to wait for."""
        del mark
        return True


@dataclass(frozen=True, slots=True)
class StepTimes:
    """
    Seconds per optimizer step over the measured window; None for a phase that never occurred.

    `steps` is the number of measured optimizer steps.
    """

    steps: int
    step: Quantiles
    data_wait: Quantiles | None
    transfer: Quantiles | None
    forward: Quantiles | None
    backward: Quantiles | None
    optimizer: Quantiles | None

    @property
    def data_wait_share(self) -> float | None:
        """Data wait as a share of the step, 0..1; None where it did not occur."""
        if self.data_wait is None or self.step.median_s <= 0.0:
            return None
        return min(1.0, self.data_wait.median_s / self.step.median_s)


class StepTimer:
    """
    Records one window of optimizer steps.

    Args:
        clock: source of the marks.
        steps: optimizer steps in the window.
    """

    def __init__(self, clock: MarkClock, steps: int) -> None:
        self._clock = clock
        self._wanted = steps
        self._codes: list[int] = []
        self._marks: list[Any] = []
        self._recording = False
        self._paused = 0
        self.steps = 0

    @property
    def full(self) -> bool:
        """The window has all its steps, or `MAX_MARKS` marks."""
        return self.steps >= self._wanted or len(self._codes) >= MAX_MARKS

    @property
    def ready(self) -> bool:
        """The times can be read without waiting for the device."""
        return not self._marks or self._clock.ready(self._marks[-1])

    def begin(self) -> None:
        """Start the window; this call marks the end of the step before it."""
        self._recording = True
        self._add(_STEP_END)

    def start(self, phase: Phase) -> None:
        """Mark the start of a phase; inside a pause, nothing is marked."""
        if self._recording:
            if not self._paused:
                self._add(phase)
            self._paused += phase == Phase.PAUSE

    def stop(self, phase: Phase) -> None:
        """Mark the end of a phase; an end without its start is ignored."""
        if not self._recording or (phase == Phase.PAUSE and not self._paused):
            return
        self._paused -= phase == Phase.PAUSE
        if not self._paused:
            self._add(-phase)

    def batch_end(self, *, stepped: bool) -> None:
        """
        Mark the end of one micro-batch.

        Args:
            stepped: an optimizer stepped in it, which completes an optimizer step.
        """
        if not self._recording:
            return
        while self._paused:
            self.stop(Phase.PAUSE)
        self._add(_STEP_END if stepped else _BATCH_END)
        self.steps += int(stepped)
        if self.full:
            self._recording = False

    def end(self) -> None:
        """Stop recording; the marks are kept."""
        self._recording = False

    def times(self) -> StepTimes | None:
        """Return the times of all complete steps, or None where there is none."""
        if self.steps == 0:
            return None
        sums = _PhaseSums()
        for code, second in zip(self._codes, self._clock.seconds(self._marks), strict=True):
            sums.add(code, second)
        return sums.times()

    def _add(self, code: int) -> None:
        self._codes.append(code)
        self._marks.append(self._clock.mark())


@dataclass(slots=True)
class _OpenPhase:
    """A phase that has started and not ended."""

    kind: int
    since_s: float
    inside_s: float = 0.0


class _PhaseSums:
    """Sums the seconds of each phase in each step, each second in one phase only."""

    def __init__(self) -> None:
        self._rows: list[tuple[float, dict[int, float]]] = []
        self._open: list[_OpenPhase] = []
        self._phases: dict[int, float] = {}
        self._paused_s = 0.0
        self._step_since_s: float | None = None

    def add(self, code: int, second: float) -> None:
        """Add one mark."""
        if code == _STEP_END:
            self._end_step(second)
        elif code == _BATCH_END:
            self._open.clear()
        elif code > 0:
            self._open.append(_OpenPhase(code, second))
        else:
            self._close(-code, second)

    def _close(self, kind: int, second: float) -> None:
        if all(phase.kind != kind for phase in self._open):
            return
        phase = self._open.pop()
        while phase.kind != kind:
            phase = self._open.pop()
        whole_s = second - phase.since_s
        if kind == Phase.PAUSE:
            self._paused_s += whole_s
        else:
            self._phases[kind] = self._phases.get(kind, 0.0) + max(0.0, whole_s - phase.inside_s)
        if self._open:
            self._open[-1].inside_s += whole_s

    def _end_step(self, second: float) -> None:
        if self._step_since_s is not None:
            step_s = second - self._step_since_s - self._paused_s
            self._rows.append((max(0.0, step_s), self._phases))
        self._open, self._phases, self._paused_s, self._step_since_s = [], {}, 0.0, second

    def times(self) -> StepTimes | None:
        """Return the quantiles of every complete step."""
        if not self._rows:
            return None
        occurred = {kind for _, phases in self._rows for kind in phases}

        def of(kind: Phase) -> Quantiles | None:
            return (
                quantiles([phases.get(kind, 0.0) for _, phases in self._rows]) if kind in occurred else None
            )

        return StepTimes(
            steps=len(self._rows),
            step=quantiles([step_s for step_s, _ in self._rows]),
            data_wait=of(Phase.DATA_WAIT),
            transfer=of(Phase.TRANSFER),
            forward=of(Phase.FORWARD),
            backward=of(Phase.BACKWARD),
            optimizer=of(Phase.OPTIMIZER),
        )


def quantiles(seconds: Sequence[float]) -> Quantiles:
    """
    Return median, 10th and 90th percentile, linearly interpolated between the sorted values.

    Args:
        seconds: at least one time.
    """
    p10_s, median_s, p90_s = np.quantile(seconds, (0.1, 0.5, 0.9)).tolist()
    return Quantiles(median_s=median_s, p10_s=p10_s, p90_s=p90_s)
