"""Runs the step of a module batch by batch: records it, counts which optimizers step, and makes their states."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Generator
from typing import Any

import torch
from torch import nn

from trainfare.fake_step.known_values import KnownValues
from trainfare.fake_step.random_work import RandomWork
from trainfare.fake_step.unknown_scalars import ScalarReads, tolerant_metrics
from trainfare.fake_step.user_errors import ADVICE, FakeTraceError, user_errors
from trainfare.job.loop import TrainingStep
from trainfare.trace import StepTrace


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
        self.stepped: list[int] = []
        """The optimizers that have stepped in the batch, by their places."""
        self._training = training
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
        parameters = [p for o in self.optimizers for group in o.param_groups for p in group["params"]]
        before = [parameter.grad for parameter in parameters]
        for parameter in parameters:
            if parameter.grad is None and parameter.requires_grad:
                parameter.grad = torch.zeros_like(parameter)
        for optimizer, step in zip(self.optimizers, self._plain_steps, strict=True):
            if not optimizer.state:
                # Suppressed: e.g. one whose step needs a closure; its state stays unknown.
                with contextlib.suppress(Exception), _all_at_once(optimizer):
                    step()
            if not optimizer.state:
                with contextlib.suppress(Exception):
                    step()
        if not leave_gradients:
            for parameter, grad in zip(parameters, before, strict=True):
                parameter.grad = grad

    def run(self, trace: StepTrace, batch: Any, index: int) -> None:
        """Run one micro-batch and its optimizer step, recorded by the trace."""
        self._trace = trace
        self.stepped = []
        self._reads.count = 0
        watched = self._random_work.watch()
        with self._reads, trace, user_errors(self._training.name, fake=self._fake), watched:
            self._training.run(batch, index)
        self._trace = None
        if self._reads.count and index:
            reads = f"{self._training.name} reads {self._reads.count} value(s) with item()"
            self.notes.append(f"{reads}: each makes the host wait for the device")

    def forward(self, trace: StepTrace, batch: Any) -> None:
        """Run the forward of one micro-batch, as `run` does before its backward."""
        watched = self._random_work.watch()
        with self._reads, trace, user_errors(self._training.name, fake=self._fake), watched:
            self._training.forward(batch)

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
            try:
                self._training.before_update(optimizer)
                step(**kwargs)
            finally:
                trace.end_optimizer()
                self._reads.count = reads  # an optimizer reads its own counter of steps, which is on the host
            self._note(index)
            return result

        # Learning-rate schedulers warn about a `step` that they have not wrapped; this one calls the wrapped one.
        vars(count_step)["_wrapped_by_lr_sched"] = True
        loose.step = count_step

    def _note(self, index: int) -> None:
        self._training.count_update()
        self.stepped.append(index)
