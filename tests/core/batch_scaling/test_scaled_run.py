"""Steps, validations and checkpoints of a run on other numbers of devices, each with the script's batch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from builders.profiles import profile
from trainfare_core.batch_scaling import launch_on, scale_run
from trainfare_core.errors import InputError
from trainfare_core.job_profile import BatchFacts, EpochFacts, JobProfile, ParallelFacts, RunPlan

WORLDS = np.array([1, 2, 3, 8, 16, 1000])


def run_of(epoch: EpochFacts | None, steps: int, *, accumulated: int = 1, **plan: Any) -> JobProfile:
    """Return a run of batches of 128 on one device."""
    return profile().model_copy(
        update={
            "plan": RunPlan(optimizer_steps=steps, epoch=epoch, **plan),
            "batch": BatchFacts(
                micro_batch_size=128, samples_per_step=128 * accumulated, scales="per_device"
            ),
            "parallel": ParallelFacts(accumulate_grad_batches=accumulated),
        }
    )


def count_as_torch(samples: int, world: int, *, drops_last: bool, accumulated: int) -> int:
    """Return the steps of an epoch by torch's own `DistributedSampler` and `BatchSampler`."""
    from torch.utils.data import BatchSampler, DistributedSampler

    sampler = DistributedSampler(range(samples), num_replicas=world, rank=0)  # type: ignore[arg-type]
    return math.ceil(len(BatchSampler(sampler, 128, drops_last)) / accumulated)


@pytest.mark.parametrize("drops_last", [False, True])
@pytest.mark.parametrize("accumulated", [1, 3])
@pytest.mark.parametrize("samples", [100_001, 1_281_167, 128_000])
def test_the_steps_are_those_of_torchs_samplers(samples: int, accumulated: int, drops_last: bool) -> None:
    batches = samples // 128 if drops_last else math.ceil(samples / 128)
    epoch = EpochFacts(samples=samples, batches=batches, drops_last=drops_last, epochs=7)
    job = run_of(epoch, 7 * math.ceil(batches / accumulated), accumulated=accumulated)
    expected = [
        7 * count_as_torch(samples, int(world), drops_last=drops_last, accumulated=accumulated)
        for world in WORLDS
    ]
    assert scale_run(job, WORLDS).steps.tolist() == expected


def test_a_number_of_steps_stays_and_sees_more_samples() -> None:
    job = run_of(EpochFacts(batches=None, max_steps=5_000), 5_000)
    run = scale_run(job, WORLDS)
    assert run.steps.tolist() == [5_000.0] * len(WORLDS)
    assert run.samples_ratio.tolist() == WORLDS.tolist()


def test_the_first_limit_ends_the_run() -> None:
    """Of 1,000 steps and 4 epochs of 400 batches: the epochs end it from two devices on."""
    job = run_of(EpochFacts(samples=51_200, batches=400, epochs=4, max_steps=1_000), 1_000)
    assert scale_run(job, np.array([1, 2, 4])).steps.tolist() == [1_000, 800, 400]


def test_a_stream_that_each_device_reads_whole_has_as_many_steps() -> None:
    """An `IterableDataset` has no sampler under Lightning and in a loop of one's own."""
    job = run_of(EpochFacts(batches=400, shared=False, epochs=2), 800)
    run = scale_run(job, np.array([1, 8]))
    assert run.steps.tolist() == [800, 800]
    assert run.samples_ratio.tolist() == [1, 8]


def test_validations_and_checkpoints_go_by_epochs_or_by_steps() -> None:
    epoch = EpochFacts(
        samples=51_200, batches=400, epochs=4, validation_batches=41, checkpoint_every_n_epochs=2
    )
    job = run_of(epoch, 1_600, validation_batches=4 * 41, checkpoint_every_n_steps=800)
    run = scale_run(job, np.array([1, 8]))
    assert run.validation_batches.tolist() == [164, 4 * 6]  # 41 batches are 6 on each of eight devices
    assert run.checkpoint_every_n_steps.tolist() == [800, 100]
    by_steps = epoch.model_copy(update={"validate_every_n_steps": 100, "checkpoint_every_n_epochs": None})
    run = scale_run(
        run_of(by_steps, 1_600, validation_batches=16 * 41, checkpoint_every_n_steps=800), np.array([1, 8])
    )
    assert run.validation_batches.tolist() == [16 * 41, 2 * 6]
    assert run.checkpoint_every_n_steps.tolist() == [800, 800]


@pytest.mark.parametrize("epoch", [None, EpochFacts(samples=51_200, batches=400, epochs=3)])
def test_steps_that_an_epoch_does_not_explain_are_shared(epoch: EpochFacts | None) -> None:
    run = scale_run(run_of(epoch, 1_000), np.array([1, 3]))
    assert (run.steps.tolist(), run.counted) == ([1_000, 334], False)


def test_samples_that_are_not_those_of_the_batches_are_left_aside() -> None:
    """A sampler of the user's own draws a tenth of the data."""
    run = scale_run(run_of(EpochFacts(samples=512_000, batches=400, epochs=2), 800), np.array([1, 8]))
    assert (run.steps.tolist(), run.counted) == ([800, 100], True)


def test_data_of_less_than_a_step_for_each_device_have_none() -> None:
    job = run_of(EpochFacts(samples=1_000, batches=7, drops_last=True, epochs=2), 14)
    assert scale_run(job, np.array([1, 7, 8])).steps.tolist() == [14, 2, 0]
    with pytest.raises(InputError, match="not one step for each of 8 devices"):
        launch_on(job, 8)


def test_a_launched_run_is_scaled_once() -> None:
    job = run_of(EpochFacts(samples=100_001, batches=782, epochs=90), 70_380)
    launched = launch_on(job, 4, 2)
    assert launched.plan.optimizer_steps == 90 * 98
    assert (launched.parallel.devices, launched.parallel.num_nodes, launched.parallel.strategy) == (
        4,
        2,
        "ddp",
    )
    assert launched.global_samples_per_step == 1_024
    assert scale_run(launched, np.array([1, 8])).steps.tolist() == [70_380, 8_820]
    assert launch_on(launched, 4, 2) == launched
    with pytest.raises(InputError, match="the script itself says its devices"):
        launch_on(launched, 2)


@pytest.mark.parametrize("epoch", [None, EpochFacts(samples=0, batches=0, epochs=0, validation_batches=3)])
def test_a_run_of_no_step_stays_one(epoch: EpochFacts | None) -> None:
    run = scale_run(run_of(epoch, 0), WORLDS)
    assert run.steps.tolist() == run.samples_ratio.tolist() == [0.0] * len(WORLDS)


def test_a_run_of_unknown_length_is_not_scaled() -> None:
    job = run_of(None, 1).model_copy(update={"plan": RunPlan(optimizer_steps=None, unknown_because="a test")})
    with pytest.raises(ValueError, match="unknown length"):
        scale_run(job, WORLDS)
    assert launch_on(job, 8).global_samples_per_step == 1_024
