"""Plans that split the model beside those that do not: each is predicted as alone, and published layouts are met."""

from __future__ import annotations

import math
from dataclasses import fields

import numpy as np
import pytest

from builders.plans import shapes
from builders.profiles import gpt_profile
from trainfare_core.candidates import CandidateTable, PlanSpace, enumerate_candidates, take
from trainfare_core.job_profile import BatchFacts, JobProfile, ParallelFacts
from trainfare_core.prediction import PredictionTable, predict
from trainfare_core.prediction.engine import SPLIT_STEP_SIGMA, predict_run, prepare
from trainfare_core.variants import JobVariant

MACHINES = shapes("A100-SXM-80GB", count=8, network=1600)
"""NVIDIA's Selene: DGX A100 with eight 200 Gbit/s HDR adapters a machine for training traffic."""

# Narayanan et al. 2021, "Efficient Large-Scale Language Model Training on GPU Clusters Using Megatron-LM", table 1:
# layers, hidden size, heads, tensor x pipeline, GPUs, global batch, TFLOP/s a GPU; sequences of 2,048, a vocabulary of
# 51,200, mixed precision and activation checkpointing.
MEGATRON = [
    (30, 3072, 32, 2, 1, 64, 512, 138.0),
    (36, 4096, 32, 4, 1, 128, 512, 142.0),
    (40, 6144, 48, 8, 1, 256, 1024, 135.0),
    (48, 8192, 64, 8, 2, 512, 1536, 138.0),
]


def megatron(layers: int, width: int, heads: int, batch: int) -> JobProfile:
    """Return a step of `batch` micro-batches of one sample on one device."""
    profile = gpt_profile(
        layers=layers, width=width, heads=heads, sequence=2048, vocabulary=51_200, batch_size=1, dtype="fp16",
        checkpointing=True, parallel=ParallelFacts(accumulate_grad_batches=batch),
        batch=BatchFacts(micro_batch_size=1, samples_per_step=batch),
    )  # fmt: skip
    names = ("launches", "flops", "bytes_read", "bytes_written", "bytes_fixed")
    return profile.model_copy(
        update={
            "operations": tuple(
                group
                if group.phase == "optimizer"
                else group.model_copy(update={name: batch * getattr(group, name) for name in names})
                for group in profile.operations
            )
        }
    )


@pytest.mark.parametrize(
    ("layers", "width", "heads", "tensor", "pipeline", "gpus", "batch", "tflops"), MEGATRON
)
def test_published_layouts_of_megatron_are_among_the_plans_and_within_the_interval(
    layers: int, width: int, heads: int, tensor: int, pipeline: int, gpus: int, batch: int, tflops: float
) -> None:
    """The time of a step follows from the paper's own count of FLOPs (its equation 3); the layout fits, as it did."""
    job = megatron(layers, width, heads, batch)
    plans = enumerate_candidates(job, MACHINES, PlanSpace(64, model_parallel=True))
    assert plans.parallel is not None
    degrees = plans.parallel.degrees
    mine = np.all(degrees == np.array([[tensor], [pipeline], [1], [1]]), axis=0)
    mine &= (plans.nodes == gpus // 8) & plans.parallel.sharded_optimizer
    (row,) = np.flatnonzero(mine)
    answer = predict(job, MACHINES, take(plans, np.array([row])))
    flops = 96 * batch * 2048 * layers * width**2 * (1 + 2048 / (6 * width) + 51_200 / (16 * layers * width))
    error = math.log(flops / (gpus * tflops * 1e12) / float(answer.step_s[0]))
    assert abs(error) <= 1.2816 * float(answer.log_sigma[0])
    assert abs(math.expm1(-error)) <= 0.15  # predicted over measured minus one, as docs/prediction.md says
    assert answer.fits[0]


def test_a_split_is_predicted_as_alone_with_more_doubt_and_the_rest_as_without_it() -> None:
    """Rows of a mixed table are those of the engine for each kind: benchmarks call it with the same layouts."""
    job = gpt_profile(layers=32, width=4096, heads=32, batch_size=8)
    plans = enumerate_candidates(job, MACHINES, PlanSpace(2, model_parallel=True))
    assert plans.parallel is not None
    mixed = predict(job, MACHINES, plans)
    split = plans.parallel.splits
    alone = predict_run(prepare(job), MACHINES, take(plans, split))
    whole = predict(job, MACHINES, enumerate_candidates(job, MACHINES, PlanSpace(2)))
    for name in (field.name for field in fields(PredictionTable)):
        assert np.array_equal(getattr(mixed, name)[~split], getattr(whole, name)), name
        if name != "log_sigma":
            assert np.array_equal(getattr(mixed, name)[split], getattr(alone, name)), name
    assert mixed.log_sigma[split] == pytest.approx(np.hypot(alone.log_sigma, SPLIT_STEP_SIGMA))


def test_checkpointing_of_a_split_model_widens_both() -> None:
    """A change of the job and a split at once: the variances of both add, and no plan of another precision is split."""
    job = gpt_profile(layers=32, width=4096, heads=32, batch_size=8)
    plans = enumerate_candidates(job, MACHINES, PlanSpace(1, model_parallel=True))
    assert plans.parallel is not None
    variants = (JobVariant(), JobVariant(checkpointing=True))
    both = CandidateTable(
        **{
            **{field.name: getattr(plans, field.name) for field in fields(CandidateTable)},
            "variants": variants,
            "variant": plans.parallel.splits.astype(np.int64),
        }
    )
    changed, own = predict(job, MACHINES, both), predict(job, MACHINES, plans)
    split = plans.parallel.splits
    assert np.array_equal(changed.step_s[~split], own.step_s[~split])
    extra = np.sqrt(changed.log_sigma**2 - own.log_sigma**2)[split]
    assert extra == pytest.approx(np.full(len(extra), variants[1].step_log_sigma), rel=1e-6)
