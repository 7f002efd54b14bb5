"""The number of steps, validation batches and checkpoints of a `TrainingJob`, counted as Lightning counts."""

from __future__ import annotations

import dataclasses
import math

from trainfare.job.callback_schedules import accumulation_of, trigger_of
from trainfare.job.live_job import LiveJob
from trainfare.job.run_plan import LoopLength, RunPlanner, StepComposition
from trainfare.job.training_job import TrainingJob
from trainfare_core.errors import InputError
from trainfare_core.job_profile import RunPlan

__all__ = ["loop_length", "plan_of", "steps_per_epoch"]

_MOST = 10**18
"""Upper limit of every count in a job profile, so that it fits a 64-bit integer."""


def steps_per_epoch(job: TrainingJob) -> int | None:
    """
    Return the optimizer steps of one epoch, or None where `train_samples` is not known.

    Each device gets its share rounded up (the distributed sampler pads), the last batch may be short, and the last
    accumulation of an epoch ends in a step even when it is not full.

    >>> from trainfare import TrainingJob
    >>> steps_per_epoch(TrainingJob(module=object, batch=object, batch_size=8, train_samples=1001, devices=4))
    32
    """
    batches = _batches_per_epoch(job)
    return None if batches is None else math.ceil(batches / job.accumulate_grad_batches)


def plan_of(
    job: TrainingJob,
    *,
    checkpoint_bytes: int,
    optimizer_calls_per_step: float = 1,
    batches_per_step: float = 1.0,
    weights_bytes: int = 0,
) -> tuple[RunPlan, tuple[str, ...]]:
    """
    Return the run's plan, and notes on what had to be assumed.

    Args:
        job: the run as described.
        checkpoint_bytes: bytes of parameters, buffers and optimizer state.
        optimizer_calls_per_step: how often an optimizer steps in one step, under manual optimization.
            Lightning counts each against `max_steps`: two optimizers halve the number of training steps.
        batches_per_step: calls of `training_step` in one step, under manual optimization.
        weights_bytes: bytes of parameters and buffers, which is all that some checkpoints of a live Trainer hold.

    Raises:
        InputError: a product of the job's numbers is beyond what a profile can hold.
    """
    composition = StepComposition(float(batches_per_step), float(optimizer_calls_per_step))
    facts = loop_length(job)
    if isinstance(job, LiveJob):
        planned = RunPlanner(facts, composition=composition).plan()
        state_bytes = checkpoint_bytes - weights_bytes
        return planned.run_plan(weights_bytes=weights_bytes, state_bytes=state_bytes), planned.notes
    notes: list[str] = []
    automatic = bool(facts.accumulation) or composition == StepComposition()
    planned = RunPlanner(dataclasses.replace(facts, automatic=automatic), composition=composition).plan()
    in_epoch = steps_per_epoch(job)
    if in_epoch is not None:
        in_epoch = math.ceil(in_epoch / batches_per_step)
    steps, reason = _optimizer_steps(job, in_epoch, optimizer_calls_per_step)
    if facts.accumulation and steps is not None:
        steps = planned.steps
    every = job.checkpoint_every_n_steps
    if not automatic:
        notes.append(
            f"manual optimization: one step is {batches_per_step:g} batches, in which "
            f"{optimizer_calls_per_step:g} optimizer steps count against max_steps"
        )
        every = None if every is None else max(1, math.floor(every / optimizer_calls_per_step))
    epochs = None if steps is None or in_epoch is None else steps / in_epoch
    if in_epoch is None and job.max_epochs is not None and job.max_steps is not None:
        notes.append(
            "max_epochs could not be checked without train_samples: the run is taken to end at max_steps"
        )
    if job.val_check_interval is None:
        validation_batches = _validation_batches(job, steps, epochs, notes)
    else:
        validation_batches = planned.validation_batches
    if every is None:
        every = planned.checkpoint_every_n_steps
    notes += [note for note in planned.notes if "left out" in note]
    for name, count in (("max_epochs", steps), ("val_batches", validation_batches)):
        if count is not None and count > _MOST:
            raise InputError(
                f"TrainingJob.{name} makes a run of {count:.3g} batches, beyond what a profile can hold"
            )
    plan = RunPlan(
        optimizer_steps=steps,
        unknown_because=reason,
        epochs=epochs,
        validation_batches=validation_batches,
        checkpoint_bytes=checkpoint_bytes,
        checkpoint_every_n_steps=every,
    )
    return plan, tuple(notes)


def _batches_per_epoch(job: TrainingJob) -> int | None:
    """Return the batches of one epoch on one device, or None where `train_samples` is not known."""
    if isinstance(job, LiveJob):
        return job.live.facts.batches_per_epoch
    if job.train_samples is None:
        return None
    return math.ceil(math.ceil(job.train_samples / job.world_size) / job.batch_size)


def loop_length(job: TrainingJob) -> LoopLength:
    """Return the settings of a Trainer that decide how long it runs and when it validates and saves."""
    if isinstance(job, LiveJob):
        return job.live.facts
    batches = _batches_per_epoch(job)
    every = job.val_check_interval
    if isinstance(every, float):
        every = None if batches is None else max(1, int(batches * every))
    return LoopLength(
        batches_per_epoch=batches,
        estimated_steps=None,
        max_epochs=job.max_epochs,
        max_steps=job.max_steps,
        max_time_s=None,
        time_is_up=False,
        accumulate_grad_batches=job.accumulate_grad_batches,
        accumulation=accumulation_of(job.callbacks, job.accumulate_grad_batches),
        automatic=True,
        optimizers=1,
        replicas=job.world_size,
        calls_done=0,
        validates=job.val_batches > 0 and job.val_check_interval is not None,
        validation_batches=job.val_batches,
        validate_every_n_batches=every,
        validate_by_time=False,
        validate_every_n_epochs=1,
        checkpoints=tuple(trigger_of(each) for each in job.callbacks if hasattr(each, "save_top_k")),
    )


def _optimizer_steps(
    job: TrainingJob, in_epoch: int | None, calls_per_step: float
) -> tuple[int | None, str | None]:
    limits: list[int] = []
    if job.max_steps is not None:
        limits.append(math.ceil(job.max_steps / calls_per_step))
    if job.max_epochs is not None and in_epoch is not None:
        limits.append(job.max_epochs * in_epoch)
    if limits:
        return min(limits), None
    if job.max_epochs is not None:
        return None, "max_epochs is given without train_samples: the length of an epoch is not known"
    return None, "neither max_steps nor max_epochs is given: the run has no end that can be priced"


def _validation_batches(job: TrainingJob, steps: int | None, epochs: float | None, notes: list[str]) -> int:
    if job.val_batches == 0:
        return 0
    if steps is not None and job.val_every_n_steps is not None:
        return job.val_batches * (steps // job.val_every_n_steps)
    if epochs is not None:
        return job.val_batches * math.floor(epochs)
    notes.append(
        "val_batches is given, but how often validation runs is not known: it is left out of the cost"
    )
    return 0
