"""
Length of a run on other numbers of devices under weak scaling: each device keeps the script's own batch.

The samples of an epoch are shared by the devices, so that it has fewer steps; a number of steps that the script states
stays, and the run then sees more samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np

from trainfare_core.arrays import Column, Rows
from trainfare_core.errors import InputError
from trainfare_core.job_profile import EpochFacts, JobProfile

_SLACK: Final = 1e-12
"""Keeps quotients that are whole in decimal whole in binary."""


@dataclass(frozen=True, slots=True)
class ScaledRun:
    """
    Length of a run for each of n numbers of devices; all arrays have shape (n,).

    Attributes:
        steps: optimizer steps; 0 where the data of one device are less than a step.
        validation_batches: of one device, in the whole run.
        checkpoint_every_n_steps: NaN: only at its end.
        epochs: NaN where they are not known.
        samples_ratio: samples that the run sees over those on the profile's devices.
        counted: its steps are counted from the data of an epoch, or stated; False: those of the profile are shared.
    """

    steps: Column
    validation_batches: Column
    checkpoint_every_n_steps: Column
    epochs: Column
    samples_ratio: Column
    counted: bool


def scale_run(profile: JobProfile, replicas: Rows) -> ScaledRun:
    """
    Return the length of a run whose devices keep the script's batch.

    A sampler gives each device a part of ceil(samples / devices), as torch's `DistributedSampler` does.

    Args:
        profile: of a run with a known number of steps.
        replicas: copies of the model that share the samples, shape (n,).

    Raises:
        ValueError: the number of steps is not known.

    >>> from trainfare_core.job_profile import BatchFacts, EpochFacts, ParallelFacts, RunPlan
    >>> epoch = EpochFacts(samples=1_281_167, batches=10_010, epochs=90)
    >>> plan = RunPlan(optimizer_steps=900_900, epoch=epoch)
    >>> batch = BatchFacts(micro_batch_size=128, samples_per_step=128)
    >>> profile = JobProfile.model_construct(plan=plan, batch=batch, parallel=ParallelFacts())
    >>> scale_run(profile, np.array([1, 8])).steps
    array([900900., 112680.])
    """
    plan, own = profile.plan, profile.parallel.data_parallel_size
    if plan.optimizer_steps is None:
        raise ValueError("a run of unknown length cannot be scaled")
    world = replicas.astype(np.float64)
    epoch = plan.epoch
    count = None if epoch is None else _choose_count(profile, epoch)
    every = np.full(len(world), plan.checkpoint_every_n_steps or np.nan)
    if epoch is None or count is None:
        steps = np.ceil(plan.optimizer_steps * own / world * (1 - _SLACK))
        batches = np.ceil(plan.validation_batches * own / world * (1 - _SLACK))
        epochs, seen = (
            np.full(len(world), plan.epochs or np.nan),
            steps * world / (max(plan.optimizer_steps, 1) * own),
        )
        return ScaledRun(steps, batches, every, epochs, seen, counted=False)
    in_epoch = count(world)
    steps = _count_steps(epoch, in_epoch)
    if epoch.checkpoint_every_n_epochs is not None:
        every = np.maximum(in_epoch * epoch.checkpoint_every_n_epochs, 1)
    validations = _count_validations(profile, epoch, steps, in_epoch, float(count(np.array([float(own)]))[0]))
    of_one = np.full(len(world), float(epoch.validation_batches))
    if epoch.validation_shared:
        of_one = np.ceil(of_one * own / world * (1 - _SLACK))
    seen = steps / max(plan.optimizer_steps, 1) * (world / own)
    epochs = np.where(np.isfinite(in_epoch), steps / np.maximum(in_epoch, 1), np.nan)
    return ScaledRun(steps, validations * of_one, every, epochs, seen, counted=True)


def _count_steps(epoch: EpochFacts, in_epoch: Column) -> Column:
    by_epochs = np.full(len(in_epoch), np.inf)
    if epoch.epochs is not None:
        by_epochs = np.ceil(in_epoch * epoch.epochs * (1 - _SLACK))
    by_steps = np.inf if epoch.max_steps is None else float(epoch.max_steps)
    return np.asarray(np.where(in_epoch > 0, np.minimum(by_epochs, by_steps), 0.0))


def _count_validations(
    profile: JobProfile, epoch: EpochFacts, steps: Column, in_epoch: Column, own_in_epoch: float
) -> Column:
    plan = profile.plan
    if epoch.validate_every_n_steps is not None:
        return steps // epoch.validate_every_n_steps
    own_runs = plan.validation_batches / (epoch.validation_batches or 1)
    if epoch.batches is None:
        return np.full(len(steps), own_runs)
    if epoch.validate_every_n_epochs is None:
        of_epoch = own_runs / max(math.ceil((plan.optimizer_steps or 0) / max(own_in_epoch, 1.0)), 1)
        return np.ceil(steps / np.maximum(in_epoch, 1)) * of_epoch
    whole, over = np.divmod(steps, np.maximum(in_epoch, 1))
    runs = whole // epoch.validate_every_n_epochs * epoch.validations_in_epoch
    # Of an epoch that the last step ends early, those that come before it.
    validates = (whole + 1) % epoch.validate_every_n_epochs == 0
    return runs + np.where(validates, over * epoch.validations_in_epoch // np.maximum(in_epoch, 1), 0)


def _choose_count(profile: JobProfile, epoch: EpochFacts) -> Callable[[Column], Column] | None:
    """
    Return how to count the steps of an epoch; None where no way gives those of the profile's own devices.

    Loops differ in what they do with the last batches of an epoch that are no whole accumulation.
    """
    own = np.array([float(profile.parallel.data_parallel_size)])
    if epoch.max_steps is None and (epoch.epochs is None or epoch.batches is None):
        return None
    # The samples that are named may not be those of the batches, as with a sampler of the user's own.
    for samples in (epoch.samples, None):
        count_batches = partial(_count_batches, profile, epoch.model_copy(update={"samples": samples}))
        if epoch.batches is not None and count_batches(own)[0] != epoch.batches:
            continue
        for whole in (np.ceil, np.floor):
            count = partial(_count_in_epoch, count_batches, whole, profile.parallel.accumulate_grad_batches)
            if _count_steps(epoch, count(own))[0] == profile.plan.optimizer_steps:
                return count
    return None


def _count_batches(profile: JobProfile, epoch: EpochFacts, world: Column) -> Column:
    batch = profile.batch.micro_batch_size
    if epoch.batches is None:
        return np.full(len(world), np.inf)
    if not epoch.shared:
        return np.full(len(world), float(epoch.batches))
    if epoch.samples is None or not batch:
        batches = epoch.batches * profile.parallel.data_parallel_size / world
        return np.floor(batches) if epoch.drops_last else np.ceil(batches * (1 - _SLACK))
    rows = np.ceil(epoch.samples / world * (1 - _SLACK))
    return np.floor(rows / batch) if epoch.drops_last else np.ceil(rows / batch)


def _count_in_epoch(
    count_batches: Callable[[Column], Column],
    whole: Callable[[Column], Column],
    accumulated: int,
    world: Column,
) -> Column:
    return whole(count_batches(world) / accumulated)


def launch_on(profile: JobProfile, devices: int, nodes: int = 1) -> JobProfile:
    """
    Return the profile of a script that its launcher starts on so many devices, each with the script's batch.

    Args:
        profile: of one whose batch follows the devices.
        devices: on each machine.
        nodes: machines.

    Raises:
        InputError: the number of devices is the script's own, or an epoch has no step there.
    """
    world = devices * nodes
    if world == profile.parallel.world_size:
        return profile
    if profile.batch.scales != "per_device":
        said = {
            "fixed": "the script itself says its devices",
            "global": "the script divides its batch by their number",
        }.get(profile.batch.scales or "", "nothing shares its batch")
        raise InputError(
            f"--launched {devices}: {said}, so a launcher's number changes nothing: leave it out"
        )
    plan, epoch = profile.plan, profile.plan.epoch
    update: dict[str, object] = {}
    if plan.optimizer_steps is not None:
        run = scale_run(profile, np.array([world]))
        if not run.steps[0]:
            raise InputError(f"--launched {devices}: an epoch has not one step for each of {world} devices")
        every, epochs = float(run.checkpoint_every_n_steps[0]), float(run.epochs[0])
        update = {
            "epochs": None if math.isnan(epochs) else epochs,
            "optimizer_steps": int(run.steps[0]),
            "validation_batches": int(run.validation_batches[0]),
            "checkpoint_every_n_steps": None if np.isnan(every) else int(every),
            "epoch": None if epoch is None else _launch_epoch(profile, epoch, world),
        }
    strategy = profile.parallel.strategy
    parallel = profile.parallel.model_copy(
        update={
            "devices": devices, "num_nodes": nodes, "strategy": "ddp" if strategy == "single_device" else strategy,
        }
    )  # fmt: skip
    return profile.model_copy(
        update={
            "plan": plan.model_copy(update=update),
            "parallel": parallel,
            "batch": profile.batch.model_copy(update={"scales": "fixed"}),
        }
    )


def _launch_epoch(profile: JobProfile, epoch: EpochFacts, world: int) -> EpochFacts:
    count = np.array([float(world)])
    batches = None if epoch.batches is None else int(_count_batches(profile, epoch, count)[0])
    own = profile.parallel.data_parallel_size
    validations = (
        math.ceil(epoch.validation_batches * own / world) if epoch.shared else epoch.validation_batches
    )
    return epoch.model_copy(update={"batches": batches, "validation_batches": validations})
