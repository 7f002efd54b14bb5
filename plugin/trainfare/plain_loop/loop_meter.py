"""A loop of the user's own as the meter sees it, which is known by its batches and the steps of its optimizers."""
# An attribute is what the property of `Loop` asks for.
# pyright: reportIncompatibleMethodOverride=false, reportIncompatibleVariableOverride=false

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Generator, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar, cast

import torch
from torch import nn
from torch.optim.optimizer import (
    Optimizer,
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from trainfare.job.loop import Phase, ToldLoop
from trainfare.job.processes import find_processes
from trainfare.job.run_facts import RunFacts
from trainfare.job.run_plan import LoopLength
from trainfare.meter.fare_log import warn_user
from trainfare.meter.fit_meter import FitMeter
from trainfare.meter.guarded_meter import GuardedMeter
from trainfare.meter.metered_run import parameters_of
from trainfare.meter.services import MeterServices
from trainfare.meter.settings import LoopKeywords, MeterSettings, check_keywords, with_meter_keywords
from trainfare.plain_loop import run_facts
from trainfare.plain_loop.found_objects import count_batches, read_sharing
from trainfare_core.errors import InputError
from trainfare_core.job_profile import OperationGroup

if TYPE_CHECKING:
    from typing_extensions import Unpack

_Batch = TypeVar("_Batch")
STEPS_SEEN_BEFORE: Final = 2
"""Optimizer steps after which the batches of one are known. Chosen: a loop that steps in its first batch and then in
every fourth (`if i % 4 == 0`) shows in the second step alone what the others are."""


class LoopMeter(GuardedMeter, ToldLoop):
    """
    Measures a loop from the entry to the end of its `with` block; see `FareMeter.loop`.

    A fault in it ends the measurement with one warning, and every exception of the loop is passed on.
    """

    optimizers: Sequence[Optimizer] = ()
    """Those of torch."""
    updates: int = 0
    """Steps of the optimizers."""
    epochs: int = 0
    """Whole passes over the data."""
    _active: ClassVar[LoopMeter | None] = None
    _counted: int
    _automatic: bool

    def __init__(
        self,
        model: nn.Module,
        optimizers: Sequence[Optimizer],
        total_steps: int | None,
        settings: MeterSettings,
        services: MeterServices,
    ) -> None:
        self._model, self.optimizers, self._total_steps = model, optimizers, total_steps
        # The steps that show what one consists of are a part of the warm-up; of several optimizers each batch shows it.
        self._seen_before = STEPS_SEEN_BEFORE if len(optimizers) == 1 else 0
        warmup_steps = max(0, settings.warmup_steps - self._seen_before)
        super().__init__(settings.model_copy(update={"warmup_steps": warmup_steps}))
        self.services = services
        self._undo = contextlib.ExitStack()
        self._loader: Any = None
        self._started = self._in_batch = self._in_pass = self._sees_own = False
        self._depth = 0
        """Calls of `step` under way: one of a derived class calls that of its base, which torch tells of too."""
        self._counted = self._done_before = 0
        self._batches = self._batches_in_pass = self._since_step = 0
        self._last_of_pass: int | None = None
        self._passes, self._automatic = 1, len(optimizers) == 1
        self.stopped = False
        """The budget is reached, on all ranks after the same step: `steps` gives no more batches, and you save."""
        self._per_step: Counter[int] = Counter()
        """How many optimizer steps took a number of batches."""

    # The loop of the user.

    def __enter__(self) -> LoopMeter:  # noqa: PYI034 - typing.Self is newer than Python 3.10
        if LoopMeter._active is not None or self._batches:
            warn_user("FareMeter measures neither a loop inside another one nor one for the second time")
            return self
        self._prepare_meter(find_processes()[2], first_rank=not self.rank)
        LoopMeter._active = self
        self._undo.callback(register_optimizer_step_pre_hook(self._before_update).remove)
        self._undo.callback(register_optimizer_step_post_hook(self._after_update).remove)
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if LoopMeter._active is not self:
            return
        LoopMeter._active = None
        self._undo.close()
        # Where the loop has raised, a second Ctrl-C ends the report, and must not replace the exception under way.
        with contextlib.nullcontext() if error is None else contextlib.suppress(BaseException):
            self.call_guarded(lambda meter: meter.end(error) if self._started else self._explain_no_start())
            self.call_guarded(lambda meter: meter.release())
        # The meter may be kept longer than the model that it has measured.
        self._forget()
        self._loader = None
        self._model, self.optimizers = nn.Identity(), ()

    def steps(self, loader: Iterable[_Batch]) -> Generator[_Batch, None, None]:
        """
        Yield the batches of one pass over a loader, each measured from here to the next.

        Args:
            loader: a DataLoader, or anything that gives batches.
        """
        if self._in_batch:  # left before its end
            self.call_guarded(lambda meter: meter.epoch_end())
            self._end_batch()
        self._loader, self._batches_in_pass = getattr(loader, "iterable", loader), 0  # that of tqdm
        self.call_guarded(lambda meter: meter.validation_end())
        self.call_guarded(lambda meter: meter.epoch_start())
        self.tell(Phase.DATA_WAIT, "begin")
        batches, self._in_pass, whole = iter(() if self.stopped else loader), True, False
        try:
            while True:
                try:
                    held = [next(batches)]
                except StopIteration:
                    whole = True
                    return
                finally:
                    self.tell(Phase.DATA_WAIT, "end")
                self._begin_batch(held[0])
                yield held.pop()  # kept by the loop's own variable alone
                self._end_batch()
                if self.stopped:
                    return
                self.tell(Phase.DATA_WAIT, "begin")
        finally:
            self._in_pass = False
            if whole:
                self.epochs, self._last_of_pass = self.epochs + 1, self._batches_in_pass
            elif self._in_batch and self.updates != self._counted:
                self._end_batch()  # left by `break` after its optimizer step
            if (
                not self._in_batch
            ):  # else it was cut off: an exception is to find the trace that it happened in
                self.call_guarded(lambda meter: meter.validation_start())

    def step(self) -> None:
        """Note the end of a batch in a loop without `steps`; inside that, there is nothing to note."""
        if not self._in_pass:
            self._end_batch()
            self._begin_batch(None)

    @contextlib.contextmanager
    def pause(self) -> Generator[None, None, None]:
        """Leave out what is no part of a training step, such as validation; for a loop that does it between batches."""
        self.call_guarded(lambda meter: meter.validation_start())
        try:
            yield
        finally:
            self.call_guarded(lambda meter: meter.validation_end())

    def state_dict(self) -> dict[str, Any]:
        """Return the seconds and steps so far, for your checkpoint."""
        return {**super().state_dict(), "steps": self.updates}

    def load_state_dict(self, state_dict: Any) -> None:
        """Go on from the state in a checkpoint; called before `with`. A state of another form is ignored."""
        super().load_state_dict(state_dict)
        steps = cast("dict[str, Any]", state_dict).get("steps") if isinstance(state_dict, dict) else None
        if isinstance(steps, int) and steps >= 0:
            self.updates = self._counted = self._done_before = steps

    @classmethod
    def switch_off_active(cls) -> int | None:
        """Measure the loop that is measured now no more, and return the number of steps that its meter was given."""
        active = cls._active
        if active is None:
            return None
        active.call_guarded(lambda meter: meter.release())
        active._meter = None  # noqa: SLF001
        return active._total_steps  # noqa: SLF001

    # Its parts.

    def _begin_batch(self, batch: Any) -> None:
        self._in_batch, self._depth = True, 0  # after a step that has raised
        if not self._started and self._per_step.total() >= self._seen_before:
            self._started, self._done_before = True, self.updates
            self.call_guarded(lambda meter: meter.start(self))
        self.call_guarded(lambda meter: meter.batch_start(batch), every_batch=True)

    def _end_batch(self) -> None:
        self._in_batch = False
        self._batches, self._batches_in_pass = self._batches + 1, self._batches_in_pass + 1
        self._since_step += 1
        if self.updates != self._counted:
            if not self._started:
                self._passes = self._since_step
                self._automatic &= self.updates == self._counted + 1
            self._per_step[self._since_step] += 1
            self._since_step, self._counted = 0, self.updates
        self.call_guarded(lambda meter: meter.batch_end(), every_batch=True)
        self.stopped |= self._stops_here

    def _find_own(self, optimizer: Optimizer) -> Optimizer | None:
        """Return that of the loop's optimizers which an optimizer is, or is the inner one of, as in SAM; else None."""
        for own in self.optimizers:
            if own is optimizer:
                self._sees_own = True
                return own
        parameters: set[int] = set() if self._sees_own else parameters_of(optimizer)
        return next((own for own in self.optimizers if parameters & parameters_of(own)), None)

    def _before_update(self, optimizer: Optimizer, *_: Any) -> None:
        def note(meter: FitMeter) -> None:
            own = self._find_own(optimizer)
            self._depth += own is not None
            if own is not None and self._depth == 1:
                self.tell(Phase.OPTIMIZER, "begin")
                meter.before_step(own)

        if not torch.compiler.is_compiling():  # else the hook would become a part of the user's compiled step
            self.call_guarded(note, every_batch=True)

    def _after_update(self, optimizer: Optimizer, *_: Any) -> None:
        def note(_: FitMeter) -> None:
            self._depth -= self._find_own(optimizer) is not None
            if not self._depth and self._find_own(optimizer) is not None:
                self.updates += 1
                self.tell(Phase.OPTIMIZER, "end")

        if not torch.compiler.is_compiling():
            self.call_guarded(note, every_batch=True)

    def _explain_no_start(self) -> None:
        """Say that too few steps were made, or none was seen."""
        needed = self._settings.steps_needed + self._seen_before
        why = f"not enough steps (have {self.updates - self._done_before}, need {needed})"
        if self._batches and not self.updates:
            why = f"in {self._batches} batches no step of the optimizer of FareMeter.loop was seen: one that is a "
            why += "part of a compiled function is not"
        if self._settings.report and not self.rank:
            self.services.say(f"trainfare: {why}")

    # What the meter asks.

    @property
    def module(self) -> nn.Module:
        """The user's module, without wrappers."""
        return run_facts.unwrap_module(self._model)

    @property
    def rank(self) -> int:
        """As torch.distributed has it."""
        return find_processes()[0]

    @property
    def world_size(self) -> int:
        """As torch.distributed has it."""
        return find_processes()[1]

    @property
    def passes(self) -> int:
        """Batches of the last step before the measurement; where a batch may have several steps, one."""
        return self._passes if self._automatic else 1

    @property
    def is_last_batch(self) -> bool:
        """The batch is where the pass before ended."""
        return self._batches_in_pass + 1 == self._last_of_pass

    @property
    def ends_in_step(self) -> bool:
        """All but one of the batches of a step have ended."""
        return self._since_step + 1 >= self._passes

    def run_facts(self) -> RunFacts:
        """Read model, loader and processes."""
        return run_facts.read_run(self._model, self._loader, self.passes)

    def complete_facts(self, facts: RunFacts, operations: Sequence[OperationGroup]) -> RunFacts:
        """Add the precision of an autocast, and say where steps took other numbers of batches."""
        mean = self._mean_passes()
        if mean is not None:
            note = f"optimizer steps took from {min(self._per_step)} to {max(self._per_step)} batches: the mean, "
            facts = replace(facts, notes=(*facts.notes, f"{note}{mean:.3g}, is priced"))
        return run_facts.complete_facts(facts, operations)

    def length(self) -> LoopLength:
        """Return the steps that were given, and those that are done before the measurement."""
        return LoopLength(
            batches_per_epoch=None,
            max_epochs=None,
            max_steps=self._total_steps,
            accumulate_grad_batches=self.passes,
            automatic=self._automatic,
            optimizers=len(self.optimizers),
            calls_done=self._done_before,
            composed="one step is {batches}, in which optimizers step {calls} times",
        )

    def complete_length(self, length: LoopLength) -> LoopLength:
        """Add the batches of the mean step so far, and what other numbers of processes would do to them."""
        length = replace(self.add_mean_step(length), scales=run_facts.find_scale(self._model, self._loader))
        batches, steps = count_batches(self._loader), self._total_steps or self.updates
        if length.scales != "per_device" or not batches or length.batches_per_step is not None:
            return length
        sharing = read_sharing(self._loader, type(self._loader).__module__)
        # Steps that are whole passes over shared data are fewer on more devices; any others are taken as they are.
        in_pass = math.ceil(batches / self.passes)
        if not sharing.is_shared or not steps or steps % in_pass:
            return length
        return replace(
            length,
            batches_per_epoch=batches,
            epochs=steps / in_pass,
            drops_last=sharing.drops_last,
            samples_per_epoch=sharing.samples,
        )

    def add_mean_step(self, length: LoopLength) -> LoopLength:
        """Return the length with the batches of the mean step so far."""
        return replace(length, batches_per_step=self._mean_passes())

    def _mean_passes(self) -> float | None:
        """Return the batches of the mean step, None where steps take equally many."""
        steps = self._per_step.total()
        others = steps - self._per_step[self._passes]
        if not self._automatic or others < STEPS_SEEN_BEFORE:  # of which the first may differ
            return None
        return sum(passes * count for passes, count in self._per_step.items()) / steps

    def folder(self) -> Path:
        """Return the current folder."""
        return Path()


class FareMeter:
    """Measures a loop of the user's own; the `trainfare.FareMeter` of Lightning derives from it."""

    services = MeterServices()
    """Clock, prices, tracing, files and console; tests replace it on a subclass."""

    @classmethod
    @with_meter_keywords(LoopKeywords)
    def loop(
        cls,
        model: nn.Module | Sequence[nn.Module],
        optimizer: Optimizer | Sequence[Optimizer],
        *,
        total_steps: int | None = None,
        **settings: Unpack[LoopKeywords],
    ) -> LoopMeter:
        """
        Return the meter of a loop in plain PyTorch, Lightning Fabric or Accelerate, to be entered by `with`.

        Args:
            model: what is trained, as the loop calls it: also in DDP, or from `fabric.setup`, `accelerator.prepare` or
                `torch.compile`. Several as a list.
            optimizer: that steps, likewise.
            total_steps: optimizer steps of the whole run, of several optimizers together; default: known at its end.
            settings: those of `trainfare.FareMeter`, but for `pilot` and `log_metrics`.

        Raises:
            InputError: an argument that cannot be used; the message names it.
        """
        checked = check_keywords(LoopKeywords, "FareMeter.loop({}=...): it takes", settings)
        models: list[Any] = list(model) if isinstance(model, (list, tuple)) else [model]
        given: list[Any] = list(optimizer) if isinstance(optimizer, (list, tuple)) else [optimizer]
        optimizers: list[Any] = [run_facts.unwrap_optimizer(part) for part in given]
        if not models or not all(isinstance(part, nn.Module) for part in models):
            raise InputError("FareMeter.loop: the model must be a torch.nn.Module, or several in a list")
        if not optimizers or not all(isinstance(part, Optimizer) for part in optimizers):
            raise InputError("FareMeter.loop: the optimizer must be one of torch.optim, or several in a list")
        if total_steps is not None and (type(total_steps) is not int or total_steps < 1):
            raise InputError("FareMeter.loop(total_steps=...): it must be a whole number above 0, or None")
        together = models[0] if len(models) == 1 else nn.ModuleList(models)
        return LoopMeter(together, optimizers, total_steps, checked, cls.services)
