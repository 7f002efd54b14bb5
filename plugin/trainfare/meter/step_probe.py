"""The trace of one step inside a running Trainer."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from trainfare.trace import StepFacts

if TYPE_CHECKING:
    from trainfare.trace import StepTrace


def _host_generators() -> tuple[Any, ...]:
    """Return the states of the generators of Python and NumPy, without drawing."""
    numpy: Any = sys.modules.get("numpy")
    if numpy is None:
        return (random.getstate(),)
    name, keys, *rest = numpy.random.get_state()
    return random.getstate(), name, keys.tobytes(), rest


class StepProbe:
    """
    Traces one micro-batch that ends in an optimizer step.

    Args:
        make_trace: called when a batch is to be traced.
    """

    def __init__(self, make_trace: Callable[[], StepTrace]) -> None:
        self._make_trace = make_trace
        self._trace: StepTrace | None = None
        self._optimizer_stepped: bool
        self._elements: int
        self._generators: tuple[Any, ...]
        self.problem: str | None = None
        """Why the last traced batch has no result."""
        self.reads_values = False
        """A traced batch read a value on the host, by which its work may have been chosen."""
        self.draws_choice = False
        """A traced batch drew a random number on the host."""
        self.fault = False
        """The trace itself failed, so that another batch would fail in the same way: none is traced any more."""

    @property
    def running(self) -> bool:
        """A batch is being traced."""
        return self._trace is not None

    def start(self, elements: int = 0) -> None:
        """
        Begin to trace.

        Args:
            elements: of the batch's tensors.
        """
        if self.fault:
            return
        trace = self._make_trace()
        self._elements = elements
        self._optimizer_stepped = False
        self._generators = _host_generators()
        self._trace = trace
        trace.start()

    def give_up(self, problem: str) -> None:
        """Trace no batch any more, for a reason."""
        self.problem, self.fault = problem, True

    def begin_optimizer(self) -> None:
        """Mark the moment before an optimizer steps."""
        if self._trace is not None:
            self._optimizer_stepped = True
            self._trace.begin_optimizer()

    def end_optimizer(self) -> None:
        """Mark the moment after an optimizer has stepped."""
        if self._trace is not None and self._optimizer_stepped:
            self._trace.end_optimizer()

    def drop(self) -> None:
        """Stop tracing and discard the result; does nothing when no batch is being traced."""
        trace, self._trace = self._trace, None
        if trace is not None:
            trace.stop()

    def finish(self, *, micro_batches: int, whole: bool = True) -> StepFacts | None:
        """
        Stop tracing and return the result; None, and a `problem`, where it is not that of a whole step.

        Args:
            micro_batches: forward and backward passes in one optimizer step.
            whole: an optimizer must have stepped; False: the batch is a part of a step.
        """
        trace, self._trace = self._trace, None
        if trace is None:
            return None
        trace.stop()
        self.reads_values |= trace.reads_values
        self.draws_choice |= trace.draws_choice or self._generators != _host_generators()
        if trace.fault is not None:
            # The operations after the fault are missing, so the step would look cheaper than it is.
            self.give_up(trace.notes[-1] if trace.notes else type(trace.fault).__name__)
            return None
        if whole and not self._optimizer_stepped:
            self.problem = "no optimizer stepped in the traced batch"
            return None
        step = self._read(trace, micro_batches)
        return replace(step, longer=self._read(trace, micro_batches + 1)) if whole else step

    def _read(self, trace: StepTrace, micro_batches: int) -> StepFacts:
        return StepFacts(
            how="real",
            operations=tuple(trace.operations(micro_batches=micro_batches)),
            modules=trace.modules(micro_batches=micro_batches),
            parameters=tuple(trace.parameters()),
            optimizer=trace.optimizer_facts(),
            batch_norms=trace.batch_norms(),
            memory=trace.memory(),
            elements=self._elements,
            notes=tuple(trace.notes),
            passes=micro_batches,
        )
