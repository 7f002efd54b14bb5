"""The number of steps, validation batches and checkpoints of a `TrainingJob`, counted as Lightning counts."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator
from typing import Any, cast

from trainfare.job.live_job import LiveJob
from trainfare.job.run_plan import CheckpointTrigger, LoopLength, PlannedRun, RunPlanner, StepComposition
from trainfare.job.training_job import TrainingJob
from trainfare_core.errors import InputError
from trainfare_core.job_profile import UPPER_BOUND, JobProfile, RunPlan

_MOST = 10**18
"""Upper limit of every count in a job profile, so that it fits a 64-bit integer."""
_NO_LENGTH = "max_epochs is given without train_samples: the length of an epoch is not known"


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
    facts = describe_length(job)
    if isinstance(job, LiveJob):
        planned = RunPlanner(facts, composition=composition).plan()
        for length in job.live.further:
            planned = planned.add(RunPlanner(length, composition=composition).plan())
        plan = planned.run_plan(weights_bytes=weights_bytes, state_bytes=checkpoint_bytes - weights_bytes)
        note = "; ".join(filter(None, (job.live.part, plan.steps_note)))
        return plan.model_copy(update={"steps_note": note or None}), planned.notes
    automatic = bool(facts.accumulation) or composition == StepComposition()
    if not automatic:  # the job's own accumulation is a part of what was counted
        batches = composition.batches_per_step * job.accumulate_grad_batches
        facts = dataclasses.replace(facts, automatic=False)
        planned = RunPlanner(
            facts, composition=dataclasses.replace(composition, batches_per_step=batches)
        ).plan()
    else:
        planned = RunPlanner(facts).plan()
    steps, validation_batches = planned.steps, planned.validation_batches
    for name, count in (("max_epochs", steps), ("val_batches", validation_batches)):
        if count is not None and count > _MOST:
            raise InputError(
                f"TrainingJob.{name} makes a run of {count:.3g} batches, beyond what a profile can hold"
            )
    if job.checkpoint_every_n_steps is not None:
        calls = 1 if facts.automatic else composition.calls_per_step
        every = max(1, math.floor(job.checkpoint_every_n_steps / calls))
        planned = dataclasses.replace(planned, checkpoint_every_n_steps=every)
    plan = planned.run_plan(weights_bytes=weights_bytes, state_bytes=checkpoint_bytes - weights_bytes)
    plan = plan.model_copy(update={"checkpoint_bytes": checkpoint_bytes})
    return plan, tuple(_notes(job, facts, planned, composition))


def with_steps(profile: JobProfile, steps: int | None) -> JobProfile:
    """
    Return the profile of a run of so many optimizer steps, where the script does not say how many it makes.

    Args:
        profile: of the script.
        steps: as the profile counts them; None: not given. Of a loop of the script's own they go before what was read
            of it.

    Raises:
        InputError: the script says it to a Trainer.
    """
    if steps is None or profile.plan.optimizer_steps == steps:
        return profile
    if profile.plan.optimizer_steps is not None and profile.source.loop != "plain":
        said = f"the script says how many steps it makes: {profile.plan.optimizer_steps:,}"
        raise InputError(f"{said}; leave out the number of steps")
    notes = (note for note in (profile.plan.steps_note or "").split("; ") if not note.endswith(UPPER_BOUND))
    note = "; ".join(notes) or None
    known = {"optimizer_steps": steps, "unknown_because": None, "steps_note": note, "epochs": None}
    return profile.model_copy(update={"plan": profile.plan.model_copy(update=known)})


def _batches_per_epoch(job: TrainingJob) -> int | None:
    """Return the batches of one epoch on one device, or None where `train_samples` is not known."""
    if isinstance(job, LiveJob):
        return job.live.facts.batches_per_epoch
    if job.train_samples is None:
        return None
    return math.ceil(math.ceil(job.train_samples / job.world_size) / job.batch_size)


def describe_length(job: TrainingJob) -> LoopLength:
    """Return what decides how long a job runs and when it validates and saves."""
    if isinstance(job, LiveJob):
        return job.live.facts
    batches = _batches_per_epoch(job)
    every = job.val_check_interval
    if isinstance(every, float):
        every = None if batches is None else max(1, int(batches * every))
    return LoopLength(
        batches_per_epoch=batches,
        max_epochs=job.max_epochs,
        max_steps=job.max_steps,
        accumulate_grad_batches=job.accumulate_grad_batches,
        accumulation=accumulation_of(job.callbacks, job.accumulate_grad_batches),
        replicas=job.world_size,
        validates=job.val_batches > 0,
        validation_batches=job.val_batches,
        validate_every_n_batches=every,
        validate_every_n_steps=job.val_every_n_steps,
        early_end=early_end_of(job.callbacks, None, job.module),
        checkpoints=tuple(
            trigger_of(callback) for callback in job.callbacks if hasattr(callback, "save_top_k")
        ),
        no_length=_NO_LENGTH,
    )


def _notes(
    job: TrainingJob, length: LoopLength, planned: PlannedRun, composition: StepComposition
) -> Iterator[str]:
    """Give what had to be assumed, in the words of a `TrainingJob`."""
    if not length.automatic:
        yield (
            f"manual optimization: one step is {composition.batches_per_step:g} batches, in which "
            f"{composition.calls_per_step:g} optimizer steps count against max_steps"
        )
    if length.batches_per_epoch is None and job.max_epochs is not None and job.max_steps is not None:
        yield "max_epochs could not be checked without train_samples: the run is taken to end at max_steps"
    for note in planned.notes:
        if note.startswith("how often validation runs") and job.val_check_interval is None:
            yield "val_batches is given, but how often validation runs is not known: it is left out of the cost"
        elif "left out" in note:
            yield note


def accumulation_of(callbacks: Iterable[Any], accumulated: int) -> tuple[tuple[int, int], ...]:
    """
    Return the schedule of a `GradientAccumulationScheduler` by its attribute, which both namespaces have.

    Args:
        callbacks: of a Trainer.
        accumulated: batches per step that the Trainer was made with; a schedule of that alone is none.
    """
    for callback in callbacks:
        scheduling = getattr(callback, "scheduling", None)
        if isinstance(scheduling, dict) and set(cast("dict[int, int]", scheduling).values()) - {accumulated}:
            return tuple(sorted(cast("dict[int, int]", scheduling).items()))
    return ()


def early_end_of(callbacks: Iterable[Any], max_time_s: float | None, module: object = None) -> str:
    """Return what may end a run before its last step, in words; "" where nothing of Lightning's does."""
    names = {base.__name__ for callback in callbacks for base in type(callback).__mro__}
    time = [] if max_time_s is None else [f"max_time ({max_time_s:g} s)"]
    # Lightning ends an epoch where this hook returns -1.
    code = getattr(getattr(module, "on_train_batch_start", None), "__code__", None)
    hook = ["on_train_batch_start"] if -1 in getattr(code, "co_consts", ()) else []
    return " or ".join((["EarlyStopping"] if "EarlyStopping" in names else []) + hook + time)


def trigger_of(callback: Any) -> CheckpointTrigger:
    """Return when a checkpoint callback of Lightning saves."""
    saves = getattr(callback, "save_top_k", 1) != 0
    return CheckpointTrigger(
        every_n_steps=int(getattr(callback, "_every_n_train_steps", 0) or 0) if saves else 0,
        every_n_epochs=int(getattr(callback, "_every_n_epochs", 0) or 0) if saves else 0,
        by_time=saves and getattr(callback, "_train_time_interval", None) is not None,
        weights_only=bool(getattr(callback, "save_weights_only", False)),
    )
