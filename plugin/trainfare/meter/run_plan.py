"""
Length of a run in optimizer steps, validation batches and checkpoints, read from a Trainer in `on_train_start`.

One optimizer step is what one JobProfile describes. Under automatic optimization it is Lightning's own step. Under
manual optimization it ends with a batch in which any optimizer steps, however many of them do, and includes the
batches since the last such batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, cast

from trainfare.meter.timing.validation_clock import batches_of
from trainfare_core.job_profile import RunPlan

__all__ = ["CheckpointTrigger", "PlannedRun", "StepComposition", "TrainerFacts", "plan_run", "read_trainer"]


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
class TrainerFacts:
    """The settings of a Trainer that decide the length of its run; None means no limit, or not known."""

    batches_per_epoch: int | None
    estimated_steps: int | None
    max_epochs: int | None
    max_steps: int | None
    max_time_s: float | None
    accumulate_grad_batches: int
    accumulation_changes: bool
    automatic: bool
    optimizers: int
    world_size: int
    calls_done: int
    validates: bool
    validation_batches: int | None
    validate_every_n_batches: int | None
    validate_by_time: bool
    validate_every_n_epochs: int | None
    checkpoints: tuple[CheckpointTrigger, ...]


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """Length of the whole run, and the part of it that earlier sessions of a resumed run have done."""

    steps: int | None
    unknown_because: str | None
    steps_done_before: int
    epochs: float | None
    validation_batches: int
    checkpoint_every_n_steps: int | None
    checkpoint_weights_only: bool
    max_time_s: float | None
    notes: tuple[str, ...]

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
            epochs=self.epochs,
            validation_batches=self.validation_batches,
            checkpoint_bytes=weights_bytes + (0 if self.checkpoint_weights_only else state_bytes),
            checkpoint_every_n_steps=self.checkpoint_every_n_steps,
            max_time_s=self.max_time_s,
        )


def read_trainer(trainer: Any) -> TrainerFacts:
    """
    Read a Trainer of either namespace once its loaders exist.

    Args:
        trainer: in `on_train_start` or later; before that, the number of batches is not known.
    """
    loop = trainer.fit_loop.epoch_loop
    automatic = bool(trainer.lightning_module.automatic_optimization)
    return TrainerFacts(
        batches_per_epoch=_whole(trainer.num_training_batches),
        estimated_steps=_whole(trainer.estimated_stepping_batches) if automatic else None,
        max_epochs=_whole(trainer.max_epochs),
        max_steps=_whole(trainer.max_steps),
        max_time_s=_max_time_s(trainer),
        accumulate_grad_batches=max(1, int(trainer.accumulate_grad_batches)),
        accumulation_changes=any(len(getattr(c, "scheduling", ())) > 1 for c in trainer.callbacks),
        automatic=automatic,
        optimizers=max(1, len(trainer.optimizers)),
        world_size=max(1, int(trainer.world_size)),
        calls_done=int(trainer.global_step),
        validates=bool(trainer.enable_validation),
        validation_batches=batches_of(getattr(loop.val_loop, "_max_batches", None)),
        validate_every_n_batches=_whole(getattr(trainer, "val_check_batch", None)),
        validate_by_time=getattr(trainer, "_val_check_time_interval", None) is not None,
        validate_every_n_epochs=trainer.check_val_every_n_epoch,
        checkpoints=tuple(_trigger(callback) for callback in trainer.checkpoint_callbacks),
    )


def plan_run(
    facts: TrainerFacts,
    *,
    composition: StepComposition | None = None,
    total_samples: int | None = None,
    micro_batch_size: int | None = None,
) -> PlannedRun:
    """
    Compute the length of the run.

    Args:
        facts: from `read_trainer`.
        composition: as counted so far under manual optimization; None: every optimizer steps in every batch.
        total_samples: samples in one epoch over all devices, for a training set without a length.
        micro_batch_size: samples of one batch on one device, needed with `total_samples`.
    """
    composition = _composition(facts, composition)
    notes: list[str] = []
    batches_in_epoch = _batches_per_epoch(facts, total_samples, micro_batch_size, notes)
    steps_in_epoch = (
        None if batches_in_epoch is None else math.ceil(batches_in_epoch / composition.batches_per_step)
    )
    steps, reason = _steps(facts, composition, steps_in_epoch, notes)
    epochs = None if steps is None or not steps_in_epoch else steps / steps_in_epoch
    if not facts.automatic and (composition.batches_per_step, composition.calls_per_step) != (1.0, 1.0):
        notes.append(
            f"manual optimization: one step is {composition.batches_per_step:g} batches, in which "
            f"{composition.calls_per_step:g} optimizer steps count against max_steps"
        )
    return PlannedRun(
        steps=steps,
        unknown_because=reason,
        steps_done_before=math.floor(facts.calls_done / composition.calls_per_step),
        epochs=epochs,
        validation_batches=_validation_total(
            facts, composition, steps, steps_in_epoch, batches_in_epoch, notes
        ),
        checkpoint_every_n_steps=_checkpoint_every(facts, composition, steps_in_epoch, notes),
        checkpoint_weights_only=bool(facts.checkpoints) and all(c.weights_only for c in facts.checkpoints),
        max_time_s=facts.max_time_s,
        notes=tuple(notes),
    )


def _composition(facts: TrainerFacts, counted: StepComposition | None) -> StepComposition:
    if facts.automatic:
        return StepComposition(float(facts.accumulate_grad_batches), 1.0)
    return counted or StepComposition(1.0, float(facts.optimizers))


def _batches_per_epoch(
    facts: TrainerFacts, total_samples: int | None, micro_batch_size: int | None, notes: list[str]
) -> int | None:
    if facts.batches_per_epoch is not None or total_samples is None:
        return facts.batches_per_epoch
    if micro_batch_size is None:
        notes.append(
            "total_samples is given, but the batch size is not known: give FareMeter(batch_size=...)"
        )
        return None
    per_device = math.ceil(total_samples / facts.world_size)
    return math.ceil(per_device / micro_batch_size)


def _steps(
    facts: TrainerFacts, composition: StepComposition, steps_in_epoch: int | None, notes: list[str]
) -> tuple[int | None, str | None]:
    if facts.accumulation_changes and not (facts.max_epochs is None and facts.max_steps is not None):
        return None, "accumulate_grad_batches changes by epoch: give Trainer(max_steps=...) and max_epochs=-1"
    if facts.estimated_steps is not None and (facts.batches_per_epoch is not None or steps_in_epoch is None):
        if facts.batches_per_epoch is None and facts.max_epochs is not None:
            notes.append("max_epochs could not be checked without a length: max_steps is taken as the end")
        return facts.estimated_steps, None
    limits: list[int] = []
    if facts.max_steps is not None:
        limits.append(math.ceil(facts.max_steps / composition.calls_per_step))
    if facts.max_epochs is not None and steps_in_epoch is not None:
        limits.append(max(facts.max_epochs, 1) * steps_in_epoch)
    if limits:
        return min(limits), None
    if facts.max_epochs is not None:
        advice = "give FareMeter(total_samples=...) or Trainer(max_steps=...)"
        return None, f"the training set has no length: {advice}"
    if facts.max_time_s is not None:
        return (
            None,
            f"only max_time ({facts.max_time_s:g} s) ends the run: how many steps fit depends on the machine",
        )
    return None, "neither max_steps nor max_epochs is given: the run has no end that can be priced"


def _validation_total(
    facts: TrainerFacts,
    composition: StepComposition,
    steps: int | None,
    steps_in_epoch: int | None,
    batches_in_epoch: int | None,
    notes: list[str],
) -> int:
    if not facts.validates or facts.validation_batches == 0:
        return 0
    runs = _validation_runs(facts, composition, steps, steps_in_epoch, batches_in_epoch)
    if runs is None or facts.validation_batches is None:
        what = "how often validation runs" if runs is None else "the number of validation batches"
        notes.append(f"{what} is not known: validation is left out of the cost")
        return 0
    return runs * facts.validation_batches


def _validation_runs(
    facts: TrainerFacts,
    composition: StepComposition,
    steps: int | None,
    steps_in_epoch: int | None,
    batches_in_epoch: int | None,
) -> int | None:
    every = facts.validate_every_n_batches
    if steps is None or facts.validate_by_time:
        return None
    if facts.validate_every_n_epochs is None:
        return None if every is None else math.floor(steps * composition.batches_per_step) // every
    if steps_in_epoch is None or batches_in_epoch is None:
        return None if every is None else math.floor(steps * composition.batches_per_step) // every
    whole_epochs, steps_over = divmod(steps, max(1, steps_in_epoch))
    runs = whole_epochs // facts.validate_every_n_epochs * (1 if every is None else batches_in_epoch // every)
    if every is not None and (whole_epochs + 1) % facts.validate_every_n_epochs == 0:
        runs += math.floor(steps_over * composition.batches_per_step) // every
    return runs


def _checkpoint_every(
    facts: TrainerFacts, composition: StepComposition, steps_in_epoch: int | None, notes: list[str]
) -> int | None:
    intervals: list[int] = []
    for trigger in facts.checkpoints:
        if trigger.every_n_steps > 0:
            intervals.append(max(1, math.floor(trigger.every_n_steps / composition.calls_per_step)))
        if trigger.every_n_epochs > 0:
            if steps_in_epoch is None:
                notes.append("checkpoints are saved by epoch, whose length is not known: they are left out")
            else:
                intervals.append(max(1, steps_in_epoch * trigger.every_n_epochs))
        if trigger.by_time:
            notes.append("checkpoints saved by time are left out of the cost")
    return min(intervals) if intervals else None


def _whole(value: Any) -> int | None:
    """Return a whole number; None for the values by which Lightning says "no limit": None, -1 and inf."""
    if value is None or not math.isfinite(value) or value < 0:
        return None
    return int(value)


def _max_time_s(trainer: Any) -> float | None:
    for callback in trainer.callbacks:
        remaining: Any = getattr(callback, "time_remaining", None)
        elapsed: Any = getattr(callback, "time_elapsed", None)
        if callable(remaining) and callable(elapsed):
            left_s = remaining()
            if isinstance(left_s, int | float):
                return float(left_s) + float(cast("Any", elapsed)())
    return None


def _trigger(callback: Any) -> CheckpointTrigger:
    saves = getattr(callback, "save_top_k", 1) != 0
    return CheckpointTrigger(
        every_n_steps=int(getattr(callback, "_every_n_train_steps", 0) or 0) if saves else 0,
        every_n_epochs=int(getattr(callback, "_every_n_epochs", 0) or 0) if saves else 0,
        by_time=saves and getattr(callback, "_train_time_interval", None) is not None,
        weights_only=bool(getattr(callback, "save_weights_only", False)),
    )
