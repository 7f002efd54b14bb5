"""Runs the step of a module batch by batch: records it, counts which optimizers step, and makes their states."""

from __future__ import annotations

import contextlib
import gc
import inspect
import io
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from trainfare.fake_step.known_values import KnownValues
from trainfare.fake_step.random_work import RandomWork
from trainfare.fake_step.unknown_scalars import ScalarReads, tolerant_metrics
from trainfare.fake_step.user_errors import ADVICE, FakeTraceError, user_errors
from trainfare.job.loop import TrainingStep
from trainfare.trace import StepTrace

_OPERATIONS: Final = 4_000
"""Operations of the forwards that are compared with that of the traced batch; chosen: a third of a second of CPU."""
_OPERATIONS_AFTER_CHANGE: Final = 20_000
"""The same where the first batch differs from the second: for all others, or to fill what is kept. Chosen."""


@contextlib.contextmanager
def _all_at_once(optimizer: torch.optim.Optimizer) -> Generator[None, None, None]:
    """Make an optimizer update all parameters by one call of each operation inside the block, where it can."""
    groups: list[dict[str, Any]] = optimizer.param_groups
    looped = [group for group in groups if group.get("foreach", False) is None and not group.get("fused")]
    for group in looped:
        group["foreach"] = True
    try:
        yield
    finally:
        for group in looped:
            group["foreach"] = None


@contextlib.contextmanager
def without_collection() -> Generator[None, None, None]:
    """
    Keep Python from collecting garbage inside the block, and collect before it what earlier steps have left.

    Memory in cycles would be released at another place of each step, and the peak would differ from run to run.
    """
    was = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


class StepRunner:
    """
    Runs one step after another, each recorded by a trace.

    Args:
        module: whose step it is.
        training: the step.
        known: values of fake tensors that are known all the same; None where the tensors are real.
        random_work: is told which values are read.
    """

    def __init__(
        self, module: nn.Module, training: TrainingStep, known: KnownValues | None, random_work: RandomWork
    ) -> None:
        self.notes: list[str] = []
        self.optimizers = training.optimizers
        self.manual = training.manual
        self.stepped: list[int] = []
        """The optimizers that have stepped in the batch, by their places."""
        self._training = training
        code = getattr(getattr(module, training.name, None), "__code__", None)
        self.place = "" if code is None else f" at {Path(code.co_filename).name}:{code.co_firstlineno}"
        """Where the step is defined, for an error."""
        self._plain_steps: list[Callable[..., Any]] = []
        self._trace: StepTrace | None = None
        self._fake = known is not None
        self._random_work = random_work
        self._reads = ScalarReads(known, random_work.read)
        if self._fake:
            tolerant_metrics(module, self.notes)
        for index, optimizer in enumerate(self.optimizers):
            self._count(optimizer, index)

    @property
    def passes(self) -> int:
        """Forward and backward passes in one optimizer step, of which one is traced."""
        return self._training.passes

    def create_states(self, *, leave_gradients: bool = False) -> None:
        """
        Step every optimizer once with gradients of zero, so that its state exists as in every later step.

        Under manual optimization an optimizer may first step in the batch that is traced for it.

        Args:
            leave_gradients: keep the gradients of zero, which a run has until `zero_grad` of its next step.
        """
        with self._fill_gradients(leave=leave_gradients):
            for optimizer, step in zip(self.optimizers, self._plain_steps, strict=True):
                if not optimizer.state:
                    # Suppressed: e.g. one whose step needs a closure; its state stays unknown.
                    with contextlib.suppress(Exception), _all_at_once(optimizer):
                        step()
                if not optimizer.state:
                    with contextlib.suppress(Exception):
                        step()

    @contextlib.contextmanager
    def _fill_gradients(self, *, leave: bool = False) -> Generator[None, None, None]:
        """Give parameters without gradients some of zero inside the block."""
        parameters = [p for o in self.optimizers for group in o.param_groups for p in group["params"]]
        before = [parameter.grad for parameter in parameters]
        for parameter in parameters:
            if parameter.grad is None and parameter.requires_grad:
                parameter.grad = torch.zeros_like(parameter)
        yield
        if not leave:
            for parameter, grad in zip(parameters, before, strict=True):
                parameter.grad = grad

    def run(self, trace: StepTrace, batch: Any, index: int) -> None:
        """Run one micro-batch and its optimizer step, recorded by the trace."""
        self._trace = trace
        self.stepped = []
        self._reads.count = 0
        watched = self._random_work.watch()
        errors = user_errors(self._training.name, fake=self._fake)
        with without_collection(), self._reads, trace, errors, watched:
            self._training.run(batch, index)
        self._trace = None
        if self._reads.count and index:
            reads = f"{self._training.name} reads {self._reads.count} value(s) with item()"
            self.notes.append(f"{reads}: each makes the host wait for the device")

    def compare_batches(self, traces: Callable[[], StepTrace], batches: Callable[[], Any], most: int) -> None:
        """
        Note where later batches or optimizer steps do different work.

        The forwards of the batches that follow run without their backwards, and steps of optimizers that are not
        torch's, which may do more in every k-th one.

        Args:
            traces: makes traces that do not record.
            batches: makes batches.
            most: batches and steps that are compared.
        """
        work, begin = self._random_work, self._random_work.operations
        first, silent = len(work.works), contextlib.redirect_stdout(io.StringIO())
        operations = _OPERATIONS if len(set(work.works[-2:])) == 1 else _OPERATIONS_AFTER_CHANGE
        with contextlib.suppress(Exception), silent:  # e.g. a forward that needs the backward before it
            for index in range(first, 0 if self.manual else most + 1):
                if index > first + 1 and work.operations - begin >= operations:
                    break
                self._training.count_update()
                self.forward(traces(), batches(), index)
                if work.works[-1] != work.works[first]:
                    return work.note_difference()
        for optimizer, step in zip(self.optimizers, self._plain_steps, strict=True):
            if type(optimizer).__module__.startswith("torch.optim"):
                continue
            with contextlib.suppress(Exception), self._fill_gradients():
                begin, first = work.operations, len(work.works)
                while len(work.works) < first + most and work.operations - begin < operations:
                    with work.watch():
                        step()
                    if work.works[-1] != work.works[first]:
                        return work.note_difference()
        return None

    def forward(self, trace: StepTrace, batch: Any, index: int = 0) -> None:
        """Run the forward of one micro-batch, as `run` does before its backward."""
        watched = self._random_work.watch()
        with self._reads, trace, user_errors(self._training.name, fake=self._fake), watched:
            self._training.forward(batch, index)

    def _count(self, optimizer: torch.optim.Optimizer, index: int) -> None:
        """Replace `optimizer.step`: run the closure, then step in the optimizer phase of the trace, and count it."""
        loose: Any = optimizer
        step: Callable[..., Any] = loose.step
        self._plain_steps.append(step)
        closure_parameter = inspect.signature(type(optimizer).step).parameters.get("closure")
        needs_closure = closure_parameter is not None and closure_parameter.default is inspect.Parameter.empty

        def count_step(closure: Callable[[], Any] | None = None, **kwargs: Any) -> Any:
            if needs_closure and self._fake:
                msg = f"{type(optimizer).__name__}.step reruns the training step"
                raise FakeTraceError(f"{msg} a number of times that depends on values. {ADVICE}", msg)
            if needs_closure:
                self._note(index)
                return step(closure=closure, **kwargs)  # the trace tells update and closure apart by itself
            result = closure() if closure is not None else None
            trace = self._trace
            if trace is None:
                return step(**kwargs)
            reads = self._reads.count
            trace.begin_optimizer()
            self._random_work.updating = True
            try:
                self._training.before_update(optimizer)
                step(**kwargs)
            finally:
                trace.end_optimizer()
                self._random_work.updating = False
                self._reads.count = reads  # an optimizer reads its own counter of steps, which is on the host
            self._note(index)
            return result

        # Learning-rate schedulers warn about a `step` that they have not wrapped; this one calls the wrapped one.
        vars(count_step)["_wrapped_by_lr_sched"] = True
        loose.step = count_step

    def _note(self, index: int) -> None:
        self._training.count_update()
        self.stepped.append(index)
