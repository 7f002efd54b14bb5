"""A job with activation checkpointing, derived from its profile without it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from builders.toy_market import GIB, block_job, shapes, small_job
from trainfare_core.candidates import PlanSpace, enumerate_candidates
from trainfare_core.job_profile import BatchFacts, JobProfile, MeasuredStep, MemoryMoment, Quantiles
from trainfare_core.prediction import predict
from trainfare_core.variants import JobVariant, variants_of, why_no_variant
from trainfare_core.variants.variant import add_checkpointing, why_not_checkpointed

QUICK = Quantiles(median_s=0.1, p10_s=0.1, p90_s=0.1)


def test_the_forward_of_the_blocks_runs_again_and_the_rest_does_not() -> None:
    """The one forward operation in a block is added to backward, marked as recomputed; the numerator of MFU stays."""
    job = block_job()
    changed = add_checkpointing(job)
    forward = job.operations[0]
    assert changed.step_flops == job.step_flops + forward.flops
    assert changed.model_step_flops == job.model_step_flops
    assert [(g.phase, g.recomputed) for g in changed.operations[len(job.operations) :]] == [
        ("backward", True)
    ]


def test_activations_of_all_blocks_but_one_are_gone_at_the_peak() -> None:
    """
    1 GiB is saved, 0.5 of it in four blocks, of which one needs 0.125 at a time.

    At the loss 0.5 GiB is left of 1 GiB; in the backward of the last block 0.5 + 0.125, of the first 0.5 / 4 + 0.125.
    """
    moments = (
        MemoryMoment(phase="forward", activation_bytes=GIB, gradient_bytes=0),
        MemoryMoment(phase="backward", activation_bytes=0, gradient_bytes=100),
    )
    job = block_job()
    job = job.model_copy(update={"memory": job.memory.model_copy(update={"moments": moments})})
    memory = add_checkpointing(job).memory
    assert memory.saved_activation_bytes == GIB // 2
    found = [(m.phase, m.activation_bytes / GIB, m.gradient_bytes) for m in memory.moments]
    assert found == [
        ("forward", 0.5, 0),
        ("backward", 0.0, 100),
        ("backward", 0.625, 100),
        ("backward", 0.25, 100),
    ]


def test_a_profile_says_why_it_has_no_checkpointed_variant() -> None:
    """Blocks that are not known, a script that checkpoints already, and blocks that would save nothing."""
    recomputing = add_checkpointing(block_job())
    nothing = block_job()
    assert nothing.memory.blocks is not None
    blocks = nothing.memory.blocks.model_copy(update={"saved_activation_bytes": 8, "input_bytes": 8})
    nothing = nothing.model_copy(update={"memory": nothing.memory.model_copy(update={"blocks": blocks})})
    for job, text in (
        (small_job(), "names no blocks"),
        (recomputing, "already checkpoints"),
        (nothing, "no more than their inputs"),
    ):
        assert text in why_not_checkpointed(job)
        assert variants_of(job, checkpointing=True) == (JobVariant(),)
        assert text in why_no_variant(job, checkpointing=True)[0]
    assert why_no_variant(block_job(), checkpointing=True) == why_no_variant(small_job()) == ()


def test_predictions_of_both_variants_stand_at_their_plans() -> None:
    """A checkpointed plan takes longer, needs less memory and is less sure; a measured peak is not taken for its own."""
    measured = MeasuredStep(
        device_name="NVIDIA A100-SXM4-80GB",
        device_kind="cuda",
        steps=10,
        step=QUICK,
        peak_memory_bytes=8 * GIB,
    )
    for job in (block_job(), block_job(measured=measured)):
        machines = shapes(("A100-SXM-80GB", 1.0), ("H100-SXM-80GB", 2.0))
        plans = enumerate_candidates(job, machines, PlanSpace(1, checkpointing=True))
        assert plans.variant is not None
        table = predict(job, machines, plans)
        on = plans.variant == 1
        twins = [plans.shape, plans.sharding, plans.accumulate]
        for column in twins:
            np.testing.assert_array_equal(column[on], column[~on])
        assert np.all(table.step_s[on] > table.step_s[~on])
        assert np.all(table.memory_bytes[on] < table.memory_bytes[~on])
        if job.measured is not None:  # elsewhere a longer step is held up less by its host, which narrows it
            own = plans.shape[on] == 0
            assert np.all(table.log_sigma[on][own] > table.log_sigma[~on][own])
        alone = predict(job, machines, enumerate_candidates(job, machines, PlanSpace(1)))
        np.testing.assert_array_equal(alone.step_s, table.step_s[~on])


def test_a_job_without_a_known_batch_has_the_variant_too() -> None:
    job = block_job().model_copy(update={"batch": BatchFacts(micro_batch_size=None, samples_per_step=None)})
    plans = enumerate_candidates(job, shapes(("A100-SXM-80GB", 1.0)), PlanSpace(1, checkpointing=True))
    assert plans.variant is not None
    assert plans.variant.tolist() == [0, 1]
    assert plans.as_scripted is not None
    assert plans.as_scripted.tolist() == [True, True]


def test_the_example_profiles_with_blocks_can_be_planned_with_checkpointing() -> None:
    """All but that of a perceptron, which repeats no block, and of a loop of Accelerate, traced on real tensors in it."""
    fields = {path.stem: why_not_checkpointed(read(path)) for path in Path("docs/examples").glob("*.json")}
    assert sorted(name for name, because in fields.items() if because) == ["accelerate-vit", "tiny"]


def read(path: Path) -> JobProfile:
    return JobProfile.from_json(path.read_bytes(), where=str(path))
