"""
What changes the step after the first epoch, followed before launch: unfreezing, pruning, accumulation by epoch.

The hooks that make such changes are called on the traced module for one epoch after the other. Where the step that
follows is another one, it is traced, and the phases are added by their share of the run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.overrides import TorchFunctionMode

from trainfare.fake_step.fake_step import LaterSteps, join_sentences
from trainfare.job import describe, place_in_user_code
from trainfare.job.run_plan import LoopLength
from trainfare.lightning.callbacks import changes_at_start, is_lightnings, prune, prunes
from trainfare.lightning.trainer_stub import TrainerStub
from trainfare.trace import StepFacts
from trainfare.trace.training_phases import PhaseSignature, TrainingPhases
from trainfare_core.errors import TraceError

MAX_EPOCHS: Final = 1_000
"""Epochs whose hooks are called; a chosen value, above every schedule that unfreezes by epochs. Later ones count as the
last of these."""
MAX_TRACED: Final = 8
"""Phases after the first that are traced; a chosen value: each costs two steps. The others count as the nearest."""


@dataclass(slots=True)
class _Done:
    """Steps and batches of the epochs so far."""

    length: LoopLength
    steps: int = 0
    batches: int = 0

    def add(self, epochs: int, accumulated: int) -> bool:
        """Add epochs with so many batches in a step; return whether the run goes on after them."""
        in_epoch = self.length.batches_per_epoch or 1
        most = math.inf if self.length.max_steps is None else self.length.max_steps - self.steps
        taken = int(min(most, epochs * math.ceil(in_epoch / accumulated)))
        self.steps += taken
        self.batches += min(epochs * in_epoch, taken * accumulated)
        return taken < most


class LaterEpochs(LaterSteps):
    """
    The callbacks, and the hook of a module, that may change its step from one epoch to the next.

    Args:
        module: the traced module.
        trainer: the stub that it reads as its Trainer.
        callbacks: of the run, already set up.
        length: of the run.
        set_up_with: the module that the callbacks were set up with; may be the traced one.
    """

    def __init__(
        self,
        module: nn.Module,
        trainer: TrainerStub,
        callbacks: Iterable[Any],
        length: LoopLength,
        set_up_with: object,
    ) -> None:
        callbacks = tuple(callbacks)
        self._module, self._trainer, self._length, self._set_up_with = module, trainer, length, set_up_with
        self._at_start = [callback for callback in callbacks if changes_at_start(callback)]
        self._pruning = [callback for callback in callbacks if prunes(callback)]
        own_hook = getattr(type(module), "on_train_epoch_start", None)
        self._own_hook: Callable[[], Any] | None = (
            None if own_hook is None or is_lightnings(own_hook) else getattr(module, own_hook.__name__, None)
        )

    @property
    def change_step(self) -> bool:
        """Whether there is anything that may change the step."""
        return bool(self._at_start or self._pruning or self._own_hook)

    def begin(self) -> None:
        """
        Call what the callbacks do at the start of the first epoch.

        Raises:
            TraceError: one raised.
        """
        for problem in self._start():
            raise TraceError(problem)

    def note_unfollowed(self, step: StepFacts) -> StepFacts:
        """Return a step under manual optimization, of which later epochs are not followed, with that said."""
        if not (self._at_start or self._pruning):
            return step
        problem = "of the first epoch; later ones are not followed under manual optimization"
        return replace(step, differs=join_sentences(step.differs, problem))

    def mean_step(self, first: StepFacts, micro_batches: int, retrace: Callable[[], StepFacts]) -> StepFacts:
        """
        Return the mean step of the run.

        Args:
            first: a step of the first epoch.
            micro_batches: of a step, as the job says; the first epoch may have another number.
            retrace: traces a step of the module as it is then.
        """
        if not self.change_step:
            return first
        length, done, phases = self._length, _Done(self._length), TrainingPhases()
        phases.see(PhaseSignature.of(self._module, self._read_accumulation), 0)
        phases.trace(first)
        at_first, problem, traced = self._read_accumulation, "", 0
        epochs = MAX_EPOCHS if length.max_epochs is None else min(MAX_EPOCHS, length.max_epochs)
        goes_on = done.add(1, at_first)
        for epoch in range(1, epochs):
            problem = next(self._next(epoch), "") if goes_on else ""
            if problem or not goes_on:
                break
            phases.see(PhaseSignature.of(self._module, self._read_accumulation), done.steps)
            if phases.untraced and traced < MAX_TRACED:
                traced += 1
                phases.trace(retrace())
            goes_on = done.add(1, self._read_accumulation)
        if length.max_epochs is not None and goes_on:
            done.add(max(0, length.max_epochs - epochs), self._read_accumulation)
        unknown = "the length of the run" if length.max_epochs is None and length.max_steps is None else ""
        unknown = "the length of an epoch" if length.batches_per_epoch is None else unknown
        if len(phases) > 1 and unknown:
            phases, problem = TrainingPhases(), f"later ones differ, and {unknown} is not known"
        step, said = phases.mean_step(done.steps) or (first, "of the first epoch" if problem else "")
        per_step = done.batches / done.steps if len(phases) > 1 else at_first
        return replace(step, differs=join_sentences(said, problem), batches_per_step=per_step / micro_batches)

    @property
    def _read_accumulation(self) -> int:
        return max(1, int(self._trainer.accumulate_grad_batches))

    def _next(self, epoch: int) -> Iterator[str]:
        """Go on to an epoch; give what kept a hook from being followed."""
        for callback in self._pruning:
            yield from _find_problem(prune, callback, epoch - 1, self._set_up_with, self._module)
        self._trainer.current_epoch = epoch
        yield from self._start()
        if self._own_hook is not None:
            yield from _find_problem(self._own_hook)

    def _start(self) -> Iterator[str]:
        for callback in self._at_start:
            yield from _find_problem(callback.on_train_epoch_start, self._trainer, self._module)


def _find_problem(hook: Callable[..., Any], *args: Any) -> Iterator[str]:
    """Call a hook of the user's, which may need what a trace does not have; give why it could not be called."""
    try:
        with _SameTensors():
            hook(*args)
    except Exception as error:  # noqa: BLE001 - it may raise anything; the epochs before it are known
        code_place = place_in_user_code(error.__traceback__)
        name = getattr(hook, "__qualname__", hook)
        yield f"later ones are not followed: {name} raised {describe(error)}{f' at {code_place}' if code_place else ''}"


class _SameTensors(TorchFunctionMode):
    """Answers whether two fake tensors are equal by whether they are one, as code means that looks for a parameter."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.equal and any(isinstance(arg, FakeTensor) for arg in args):
            return args[0] is args[1]
        return func(*args, **(kwargs or {}))
