"""
Length of a run in optimizer steps, validation batches and checkpoints, from what its loop is told.

One optimizer step is what one JobProfile describes. Under automatic optimization it is the loop's own step. Under
manual optimization it ends with a batch in which any optimizer steps, however many of them do, and includes the
batches since the last such batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TypeVar

from trainfare_core.job_profile import UPPER_BOUND, BatchScale, EpochFacts, RunPlan

_Number = TypeVar("_Number", int, float)


@dataclass(frozen=True, slots=True)
class StepComposition:
    """
    What one optimizer step consists of; fractions are means over a run.

    Attributes:
        batches_per_step: micro-batches.
        calls_per_step: optimizer steps as `trainer.global_step` and `max_steps` count them.
    """

    batches_per_step: float = 1.0
    calls_per_step: float = 1.0


@dataclass(frozen=True, slots=True)
class CheckpointTrigger:
    """When one checkpoint callback saves; an interval of 0 means that it does not save by steps or by epochs."""

    every_n_steps: int
    every_n_epochs: int
    by_time: bool
    weights_only: bool


@dataclass(frozen=True, slots=True)
class LoopLength:
    """The settings of a training loop that decide the length of its run; None means no limit, or not known."""

    batches_per_epoch: int | None
    max_epochs: int | None
    max_steps: int | None
    estimated_steps: int | None = None
    """Steps of the run as the loop itself has counted them."""
    max_time_s: float | None = None
    time_is_up: bool = False
    accumulate_grad_batches: int = 1
    accumulation: tuple[tuple[int, int], ...] = ()
    """(first epoch, batches per step) where accumulation changes by epoch; empty where it does not."""
    automatic: bool = True
    """The loop steps the optimizer; False: the user's code does, and each step counts against `max_steps`."""
    optimizers: int = 1
    replicas: int | None = 1
    """Copies of the model that share the samples; None where the strategy does not say it."""
    calls_done: int = 0
    """Of `max_steps`, by earlier sessions of a resumed run."""
    validates: bool = False
    validation_batches: int | None = None
    validation_runs: int | None = None
    """Of the whole run, where the loop counts them itself."""
    validate_every_n_batches: int | None = None
    validate_every_n_steps: int | None = None
    """Optimizer steps between two validation runs, where the loop counts them and neither batches nor epochs."""
    validate_by_time: bool = False
    validate_every_n_epochs: int | None = 1
    checkpoints: tuple[CheckpointTrigger, ...] = ()
    scales: BatchScale | None = None
    """As `BatchFacts.scales`."""
    samples_per_epoch: int | None = None
    """Of all devices; None where only the batches are known."""
    drops_last: bool = False
    """A last batch that is not full is left out."""
    shares_data: bool = True
    """Devices share the samples of an epoch; False: each has all of them."""
    shares_validation: bool = True
    """The same of a validation."""
    epochs: float | None = None
    """After which the run ends, where the loop itself has made steps of them."""
    batches_per_step: float | None = None
    """Batches of the mean step, where steps take different numbers of them."""
    warmup_steps: int | None = None
    """Of the learning rate's warm-up, where it is stated in steps."""
    composed: str = (
        "manual optimization: one step is {batches}, in which {calls} optimizer steps count against max_steps"
    )
    """What one step is where the user's code steps the optimizer."""
    part: str = ""
    """That the run is one of several in its script; "" where it is the only one."""
    said: str = ""
    """Where its length was read."""
    early_end: str = ""
    """What may end the run before its last step, e.g. "EarlyStopping"."""
    no_length: str = "the training set has no length: give the samples of an epoch, or a number of steps"
    """Why the run has no end where only `max_epochs` is given, and what to do."""
    no_end: str = "neither max_steps nor max_epochs is given: the run has no end that can be priced"
    """The same where nothing is given."""


@dataclass(frozen=True, slots=True)
class RunEnd:
    """
    How far a run came that has ended by itself.

    Attributes:
        steps: optimizer steps, earlier sessions included.
        epochs: complete epochs.
        validation_batches: that ran; None in a resumed run, which saw only its own.
        by_time: `max_time` ended it.
    """

    steps: int
    epochs: int
    validation_batches: int | None
    by_time: bool


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """Length of the whole run, and the part of it that earlier sessions of a resumed run have done."""

    steps: int | None
    unknown_because: str | None
    steps_note: str | None
    steps_done_before: int
    epochs: float | None
    validation_batches: int
    checkpoint_every_n_steps: int | None
    checkpoint_weights_only: bool
    max_time_s: float | None
    notes: tuple[str, ...]
    epoch: EpochFacts | None = None
    warmup_steps: int | None = None

    def add(self, other: PlannedRun) -> PlannedRun:
        """Return the plan of this run and one like it, one after the other."""
        unknown = self if self.steps is None else other
        return replace(
            self,
            steps=_add(self.steps, other.steps),
            unknown_because=unknown.unknown_because,
            steps_note=self.steps_note or other.steps_note,
            epochs=_add(self.epochs, other.epochs),
            validation_batches=self.validation_batches + other.validation_batches,
            max_time_s=_add(self.max_time_s, other.max_time_s),
            epoch=None,
            notes=tuple(dict.fromkeys((*self.notes, *other.notes))),
        )

    @property
    def steps_left(self) -> int | None:
        """Optimizer steps that remain for this session; None where the length is unknown."""
        return None if self.steps is None else max(0, self.steps - self.steps_done_before)

    def run_plan(self, *, weights_bytes: int, state_bytes: int) -> RunPlan:
        """
        Return the plan in the form that the profile holds.

        Args:
            weights_bytes: size of parameters and buffers.
            state_bytes: size of the optimizer state.
        """
        return RunPlan(
            optimizer_steps=self.steps,
            unknown_because=self.unknown_because,
            steps_note=self.steps_note,
            epochs=self.epochs,
            validation_batches=self.validation_batches,
            checkpoint_bytes=weights_bytes + (0 if self.checkpoint_weights_only else state_bytes),
            checkpoint_every_n_steps=self.checkpoint_every_n_steps,
            max_time_s=self.max_time_s,
            epoch=self.epoch,
            warmup_steps=self.warmup_steps,
        )


def _add(first: _Number | None, second: _Number | None) -> _Number | None:
    return None if first is None or second is None else first + second


class RunPlanner:
    """
    Computes one `PlannedRun`.

    Args:
        facts: from the loop.
        composition: as counted so far under manual optimization; None: every optimizer steps in every batch.
        total_samples: samples in one epoch over all devices, for a training set without a length.
        micro_batch_size: samples of one batch on one device, needed with `total_samples`.
        ended: how far the run came, once it has ended by itself.
    """

    def __init__(
        self,
        facts: LoopLength,
        *,
        composition: StepComposition | None = None,
        total_samples: int | None = None,
        micro_batch_size: int | None = None,
        ended: RunEnd | None = None,
    ) -> None:
        self.facts = facts
        self._ended = ended
        self.notes = [facts.said] if facts.said else list[str]()
        self.step = composition or StepComposition(1.0, float(facts.optimizers))
        if facts.automatic:
            self.step = StepComposition(facts.batches_per_step or float(facts.accumulate_grad_batches), 1.0)
        self.batches_in_epoch = self._batches_per_epoch(total_samples, micro_batch_size)
        if facts.automatic and facts.accumulation:
            self.step = StepComposition(self._mean_accumulation(), 1.0)
        self.steps_in_epoch = (
            None
            if self.batches_in_epoch is None
            else math.ceil(self.batches_in_epoch / self.step.batches_per_step)
        )

    def plan(self) -> PlannedRun:
        """Return the plan."""
        facts, step = self.facts, self.step
        steps, reason, said = self._steps_of_the_run()
        if not facts.automatic and step != StepComposition():
            batches, calls = f"{step.batches_per_step:g} batches", f"{step.calls_per_step:g}"
            self.notes.append(facts.composed.format(batches=batches, calls=calls))
        return PlannedRun(
            steps=steps,
            unknown_because=reason,
            steps_note="; ".join(filter(None, (facts.part, said))) or None,
            steps_done_before=math.floor(facts.calls_done / step.calls_per_step),
            epochs=self._epochs(steps),
            validation_batches=self._validation_batches(steps),
            checkpoint_every_n_steps=self._checkpoint_every(),
            checkpoint_weights_only=bool(facts.checkpoints)
            and all(trigger.weights_only for trigger in facts.checkpoints),
            max_time_s=facts.max_time_s,
            notes=tuple(self.notes),
            epoch=self._describe_epoch(steps),
            warmup_steps=facts.warmup_steps,
        )

    def _describe_epoch(self, steps: int | None) -> EpochFacts | None:
        """Return what the steps on other devices are counted from; None where they are not counted by epochs."""
        facts = self.facts
        counted = facts.automatic and not facts.accumulation and facts.batches_per_step is None
        ended_early = self._ended is not None and self._ended.steps != steps
        if steps is None or ended_early or not counted:
            return None
        if self.batches_in_epoch is None and facts.max_steps is None:
            return None
        by_epochs = facts.validate_every_n_epochs is not None and facts.validate_every_n_steps is None
        every_n_batches = None if by_epochs else facts.validate_every_n_batches
        every_n_steps = (
            facts.validate_every_n_steps or (every_n_batches or 0) // facts.accumulate_grad_batches
        )
        return EpochFacts(
            samples=facts.samples_per_epoch,
            batches=self.batches_in_epoch,
            drops_last=facts.drops_last,
            shared=facts.shares_data,
            epochs=facts.max_epochs if facts.epochs is None else facts.epochs,
            max_steps=facts.max_steps if facts.epochs is None else None,
            validation_batches=(facts.validation_batches or 0) if facts.validates else 0,
            validation_shared=facts.shares_validation,
            validate_every_n_steps=every_n_steps or None,
            validate_every_n_epochs=facts.validate_every_n_epochs if facts.validation_runs is None else None,
            validations_in_epoch=self.batches_in_epoch
            // (facts.validate_every_n_batches or self.batches_in_epoch)
            if self.batches_in_epoch
            else 1,
            checkpoint_every_n_epochs=self._find_checkpoint_epochs(),
        )

    def _find_checkpoint_epochs(self) -> int | None:
        """Return after how many epochs the most frequent checkpoint is written; None where it goes by steps."""
        every = [trigger.every_n_epochs for trigger in self.facts.checkpoints if trigger.every_n_epochs > 0]
        by_steps = any(trigger.every_n_steps > 0 for trigger in self.facts.checkpoints)
        return min(every) if every and not by_steps else None

    def _batches_per_epoch(self, total_samples: int | None, micro_batch_size: int | None) -> int | None:
        if self.facts.batches_per_epoch is not None or total_samples is None:
            return self.facts.batches_per_epoch
        if micro_batch_size is None:
            self.notes.append(
                "total_samples is given, but the batch size is not known: give FareMeter(batch_size=...)"
            )
            return None
        if self.facts.replicas is None:
            self.notes.append(
                "total_samples is given, but the strategy does not say how many copies of the model share them"
            )
            return None
        per_device = math.ceil(total_samples / self.facts.replicas)
        return math.ceil(per_device / micro_batch_size)

    def _steps_of_the_run(self) -> tuple[int | None, str | None, str | None]:
        """Return the steps of the run, the reason where they are not known, and a note for where they are shown."""
        steps, reason = self._count_steps()
        ended = self._ended
        if ended is None or ended.steps == 0:
            by = self.facts.early_end
            return steps, reason, f"{by}{UPPER_BOUND}" if by and steps else None
        if steps is None:
            what = (
                "as many as max_time left room for on this machine"
                if ended.by_time
                else "that this run took; nothing gave its length before"
            )
            return ended.steps, None, what
        # Of manual optimization the number of calls in a step is a mean, so that the last step may be rounded away.
        if ended.steps + int(not self.facts.automatic) < steps and not ended.by_time:
            return steps, None, f"stopped at step {ended.steps:,} of at most {steps:,}: priced to the last"
        return steps, reason, None

    def _epochs(self, steps: int | None) -> float | None:
        if steps is None:
            return None
        if not self.steps_in_epoch:
            return None if self._ended is None else float(self._ended.epochs)
        return steps / self.steps_in_epoch

    def _count_accumulated(self, epoch: int) -> int:
        """Return the batches of one step in an epoch, as the Trainer's schedule has them."""
        return next((batches for first, batches in reversed(self.facts.accumulation) if first <= epoch), 1)

    def _count_scheduled(self) -> tuple[int, int] | None:
        """Return steps and batches of a run whose accumulation changes by epoch; None where its length is not known."""
        facts, per_epoch = self.facts, self.batches_in_epoch
        if not per_epoch or (facts.max_epochs is None and facts.max_steps is None):
            return None
        steps = batches = 0
        changes = sorted({0, *(first for first, _ in facts.accumulation)})
        for first, until in zip(changes, (*changes[1:], math.inf), strict=True):
            factor = self._count_accumulated(first)
            in_epoch = math.ceil(per_epoch / factor)
            epochs = min(until, math.inf if facts.max_epochs is None else facts.max_epochs) - first
            room = math.inf if facts.max_steps is None else facts.max_steps - steps
            taken = int(min(room, max(0.0, epochs) * in_epoch))
            steps += taken
            batches += min(taken * factor, math.ceil(taken / in_epoch) * per_epoch)
        return steps, batches

    def _mean_accumulation(self) -> float:
        scheduled = self._count_scheduled()
        if scheduled is not None and scheduled[0]:
            return scheduled[1] / scheduled[0]
        return float(self._count_accumulated(0))

    def _count_steps(self) -> tuple[int | None, str | None]:
        """Return the steps of the run, or None and the reason why they are not known."""
        facts, steps_in_epoch = self.facts, self.steps_in_epoch
        if facts.automatic and facts.accumulation:
            scheduled = self._count_scheduled()
            if scheduled is not None:
                return scheduled[0], None
            if facts.max_epochs is None and facts.max_steps is not None:
                return facts.max_steps, None
        elif facts.estimated_steps is not None and (
            facts.batches_per_epoch is not None or steps_in_epoch is None
        ):
            if facts.batches_per_epoch is None and facts.max_epochs is not None:
                self.notes.append(
                    "max_epochs could not be checked without a length: max_steps is taken as the end"
                )
            return facts.estimated_steps, None
        limits: list[int] = []
        if facts.max_steps is not None:
            limits.append(math.ceil(facts.max_steps / self.step.calls_per_step))
        if facts.max_epochs is not None and steps_in_epoch is not None:
            limits.append(max(facts.max_epochs, 1) * steps_in_epoch)
        if limits:
            return min(limits), None
        if facts.max_epochs is not None:
            return None, facts.no_length
        if facts.max_time_s is not None:
            what = f"only max_time ({facts.max_time_s:g} s) ends the run"
            return None, f"{what}: how many steps fit depends on the machine"
        return None, facts.no_end

    def _validation_batches(self, steps: int | None) -> int:
        facts, ended = self.facts, self._ended
        if ended is not None and ended.validation_batches is not None and steps == ended.steps:
            return ended.validation_batches
        if not facts.validates or facts.validation_batches == 0:
            return 0
        runs = self._validation_runs(steps)
        if runs == 0:
            return 0
        if runs is None or facts.validation_batches is None:
            what = "how often validation runs" if runs is None else "the number of validation batches"
            self.notes.append(f"{what} is not known: validation is left out of the cost")
            return 0
        return runs * facts.validation_batches

    def _validation_runs(self, steps: int | None) -> int | None:
        every_batches, every_epochs = self.facts.validate_every_n_batches, self.facts.validate_every_n_epochs
        if self.facts.validation_runs is not None:
            return self.facts.validation_runs
        if steps is None or self.facts.validate_by_time:
            return None
        if self.facts.validate_every_n_steps is not None:
            return steps // self.facts.validate_every_n_steps
        if every_epochs is None or self.steps_in_epoch is None or self.batches_in_epoch is None:
            batches = math.floor(steps * self.step.batches_per_step)
            return None if every_batches is None else batches // every_batches
        epochs, steps_over = divmod(steps, max(1, self.steps_in_epoch))
        runs_in_epoch = 1 if every_batches is None else self.batches_in_epoch // every_batches
        runs = epochs // every_epochs * runs_in_epoch
        if every_batches is not None and (epochs + 1) % every_epochs == 0:
            runs += math.floor(steps_over * self.step.batches_per_step) // every_batches
        return runs

    def _checkpoint_every(self) -> int | None:
        """Return the shortest checkpoint interval in optimizer steps."""
        intervals: list[int] = []
        for trigger in self.facts.checkpoints:
            if trigger.every_n_steps > 0:
                intervals.append(max(1, math.floor(trigger.every_n_steps / self.step.calls_per_step)))
            if trigger.every_n_epochs > 0:
                if self.steps_in_epoch is None:
                    self.notes.append(
                        "checkpoints are saved by epoch, whose length is not known: they are left out"
                    )
                else:
                    intervals.append(max(1, self.steps_in_epoch * trigger.every_n_epochs))
            if trigger.by_time:
                self.notes.append("checkpoints saved by time are left out of the cost")
        return min(intervals) if intervals else None
