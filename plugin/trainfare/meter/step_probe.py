"""One traced step: the life of a `StepTrace` inside a running Trainer, and the facts that it leaves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from trainfare.trace.step_facts import StepFacts
from trainfare_core.job_profile import MemoryFacts, OperationGroup, OptimizerFacts, ParameterGroup

__all__ = ["StepProbe", "Watcher"]


class Watcher(Protocol):
    """The part of `trainfare.trace.step_trace.StepTrace` that is used here."""

    fault: Exception | None
    """An error of the trace itself, after which it is incomplete."""

    @property
    def notes(self) -> Sequence[str]:
        """What could not be seen."""
        ...

    def start(self) -> None:
        """Begin to watch."""
        ...

    def stop(self) -> None:
        """Watch no more; calling it again does nothing."""
        ...

    def begin_optimizer(self) -> None:
        """From here on operations belong to the optimizer."""
        ...

    def end_optimizer(self) -> None:
        """The optimizer is done."""
        ...

    def operations(self, *, micro_batches: int = 1) -> tuple[OperationGroup, ...]:
        """Return the operations of one optimizer step."""
        ...

    def memory(self) -> MemoryFacts:
        """Return the memory of one micro-batch."""
        ...

    def parameters(self) -> tuple[ParameterGroup, ...]:
        """Return the parameters by dtype."""
        ...

    def optimizer_facts(self) -> OptimizerFacts:
        """Return what the optimizers keep."""
        ...


class StepProbe:
    """
    Watches one micro-batch that ends in an optimizer step.

    Args:
        watcher: makes the trace; called when the step begins.
    """

    def __init__(self, watcher: Callable[[], Watcher]) -> None:
        self._make = watcher
        self._watcher: Watcher | None = None
        self._optimizer_seen = False
        self.problem: str | None = None
        """Why the last watched batch gave nothing."""
        self.hopeless = False
        """Watching another batch would fail in the same way."""

    @property
    def running(self) -> bool:
        """The step is being watched now."""
        return self._watcher is not None

    def start(self) -> None:
        """Begin to watch."""
        watcher = self._make()
        self._optimizer_seen = False
        self._watcher = watcher
        watcher.start()

    def begin_optimizer(self) -> None:
        """An optimizer is about to step."""
        if self._watcher is not None:
            self._optimizer_seen = True
            self._watcher.begin_optimizer()

    def end_optimizer(self) -> None:
        """An optimizer has stepped."""
        if self._watcher is not None and self._optimizer_seen:
            self._watcher.end_optimizer()

    def drop(self) -> None:
        """Stop watching and forget what was seen; does nothing when nothing is watched."""
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.stop()

    def finish(self, *, micro_batches: int) -> StepFacts | None:
        """
        Stop watching and return what was seen; None, and a `problem`, when that is not a whole step.

        Args:
            micro_batches: forward and backward passes in one optimizer step.
        """
        watcher, self._watcher = self._watcher, None
        if watcher is None:
            return None
        watcher.stop()
        if watcher.fault is not None:
            # Half a trace would pass for a cheap step.
            self.problem = watcher.notes[-1] if watcher.notes else type(watcher.fault).__name__
            self.hopeless = True
            return None
        if not self._optimizer_seen:
            self.problem = "no optimizer stepped in the watched batch"
            return None
        return StepFacts(
            how="real",
            operations=tuple(watcher.operations(micro_batches=micro_batches)),
            parameters=tuple(watcher.parameters()),
            optimizer=watcher.optimizer_facts(),
            memory=watcher.memory(),
            notes=tuple(watcher.notes),
        )
