"""A job in another precision: which are known, and what follows from a trace."""

from __future__ import annotations

from typing import Any

import pytest

from builders.toy_market import block_job, in_precisions, shapes, small_job
from trainfare_core.candidates import PlanSpace, enumerate_candidates
from trainfare_core.errors import TraceError
from trainfare_core.job_profile import JobProfile, MeasuredStep, OptimizerFacts, ParameterGroup, Quantiles
from trainfare_core.variants import JobVariant, variants_of, why_no_precision, with_precisions
from trainfare_core.variants.precisions import convert_saved_state, in_precision, precisions_to_trace


@pytest.mark.parametrize(
    ("own", "traced", "missing"),
    [
        ("32-true", (), ("bf16-mixed", "bf16-true", "transformer-engine")),
        ("bf16-mixed", (), ("bf16-true", "32-true", "transformer-engine")),
        ("16-mixed", ("bf16-true", "transformer-engine"), ("32-true",)),
        ("16-true", (), ("bf16-mixed", "32-true", "transformer-engine")),
        ("32-true", ("bf16-mixed", "bf16-true", "transformer-engine"), ()),
    ],
)
def test_a_trace_is_wanted_of_every_precision_that_does_not_follow(
    own: str, traced: tuple[str, ...], missing: tuple[str, ...]
) -> None:
    """bf16 and fp16 follow from each other; the answer names the command that traces the others."""
    job = in_precisions(small_job(precision=own), *traced)
    assert precisions_to_trace(job) == missing
    because = why_no_precision(job)
    assert all(f"--precision {text}" in because for text in missing)
    assert bool(because) == bool(missing)


def test_variants_are_those_that_are_known_and_say_which_narrow_the_weights() -> None:
    """The job as it is comes first; with checkpointing each is planned with it too."""
    job = in_precisions(small_job(precision="32-true"), "bf16-mixed", "bf16-true")
    assert variants_of(job) == (JobVariant(),)
    variants = variants_of(job, precision=True)
    assert [(variant.precision, variant.narrows_weights) for variant in variants] == [
        ("", False),
        ("bf16-mixed", False),
        ("16-mixed", False),
        ("bf16-true", True),
    ]
    both = variants_of(in_precisions(block_job(), "bf16-true"), precision=True, checkpointing=True)
    assert [(variant.precision, variant.checkpointing) for variant in both] == [
        *((each, False) for each in ("", "16-mixed", "bf16-true")),
        *((each, True) for each in ("", "16-mixed", "bf16-true")),
    ]
    space = PlanSpace(keep_plan=True, precision=True)
    assert space.variants(job) == (JobVariant(),)


def test_only_hardware_with_units_for_a_precision_gets_plans_in_it() -> None:
    """A T4 has no bf16, and none of its plans is in it; the script's own precision is tried there all the same."""
    job = in_precisions(small_job(precision="32-true"), "bf16-mixed", "bf16-true")
    plans = enumerate_candidates(
        job, shapes(("T4-16GB", 1), ("A100-SXM-80GB", 1)), PlanSpace(1, precision=True)
    )
    found = [
        {plans.variant_of(plan).precision for plan in range(len(plans)) if plans.shape[plan] == row}
        for row in (0, 1)
    ]
    assert found == [{"", "16-mixed"}, {"", "bf16-mixed", "16-mixed", "bf16-true"}]


def test_fp8_is_planned_on_gpus_with_units_for_it_alone() -> None:
    """A Gaudi 2 has fp8 too, and no Transformer Engine. What is trained changes with it."""
    job = in_precisions(small_job(precision="bf16-true"), "transformer-engine")
    names = ("A100-SXM-80GB", "H100-SXM-80GB", "Gaudi2-96GB", "MI300X")
    plans = enumerate_candidates(job, shapes(*((name, 1) for name in names)), PlanSpace(1, precision=True))
    with_fp8 = {int(plans.shape[row]) for row in range(len(plans)) if plans.variant_of(row).precision}
    assert {names[row] for row in with_fp8} == {"H100-SXM-80GB", "MI300X"}
    (fp8,) = variants_of(job, precision=True)[1:]
    assert (fp8.narrows_weights, fp8.changes_training) == (False, True)
    narrower = variants_of(in_precisions(small_job(), "transformer-engine"), precision=True)[-1]
    assert narrower.narrows_weights


def test_fp16_has_a_pass_over_the_gradients_and_bf16_does_not() -> None:
    """There and back is the same step: products in the other type, the scale of the loss added and dropped."""
    half = ParameterGroup(dtype="bf16", trainable=False, count=10, parameter_bytes=20)
    job = small_job()
    job = job.model_copy(update={"parameters": (*job.parameters, half)})
    there = in_precision(job, "16-mixed")
    (added,) = [group for group in there.operations if group.phase == "optimizer"]
    assert (added.bytes_read, added.bytes_written, added.bytes_fixed) == (4 * 10**6, 4 * 10**6, 8 * 10**6)
    assert {group.dtype for group in there.operations} == {"fp16", "fp32"}
    assert [group.dtype for group in there.parameters] == ["fp32", "fp16"]
    assert in_precision(there, "bf16-mixed") == job
    frozen = job.model_copy(update={"memory": job.memory.model_copy(update={"gradient_bytes": 0})})
    assert len(in_precision(frozen, "16-mixed").operations) == len(job.operations)


def test_the_measured_peak_of_memory_is_that_of_the_script_s_precision_alone() -> None:
    """It is left out where the precision is another; the measured time stays, as a correction of predictions."""
    quick = Quantiles(median_s=0.1, p10_s=0.1, p90_s=0.1)
    measured = MeasuredStep(device_name="A100", device_kind="cuda", steps=9, step=quick, peak_memory_bytes=7)
    changed = in_precision(small_job(measured=measured), "16-mixed").measured
    assert changed is not None
    assert (changed.peak_memory_bytes, changed.step) == (None, quick)


def test_a_precision_that_cannot_be_traced_is_a_note_and_the_others_are_kept() -> None:
    """The step may call what autocast refuses."""

    def trace(precision: str) -> JobProfile:
        if precision == "bf16-mixed":
            raise TraceError("the step calls binary_cross_entropy")
        return small_job(precision=precision)

    profile = with_precisions(small_job(precision="32-true"), trace)
    assert [step.precision for step in profile.precisions] == ["bf16-true", "transformer-engine"]
    assert profile.notes == ("the step cannot be traced in bf16-mixed: the step calls binary_cross_entropy",)
    assert profile.untraced_precisions == ("bf16-mixed",)
    assert with_precisions(profile, trace, ("bf16-true", "32-true")) == profile
    assert "bf16-mixed" not in why_no_precision(
        profile
    )  # the note says more, and another trace would not help


@pytest.mark.parametrize(("rows", "planned"), [(24, True), (20, False)])
def test_a_step_whose_rows_no_layer_in_fp8_takes_is_a_note(rows: int, planned: bool) -> None:
    """Transformer Engine refuses inputs with a number of rows that 8 does not divide."""
    group = small_job().operations[0]
    product = group.model_copy(
        update={"kind": "matmul", "dtype": "fp8", "phase": "forward", "shape": (1, rows, 32, 32)}
    )
    profile = with_precisions(
        small_job(), lambda text: small_job(precision=text, operations=(product,)), ["transformer-engine"]
    )
    assert (len(profile.precisions) == 1) == planned
    assert any("layers in fp8 refuse inputs of 20 rows" in note for note in profile.notes) != planned


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (16_000, 10_000),  # weights, buffers and state
        (4_800, 2_400),  # weights and buffers
        (480, 240),  # a part of the weights
        (0, 0),  # none is written
    ],
)
def test_a_checkpoint_has_the_size_of_its_precision(written: int, expected: int) -> None:
    """Weights and buffers are halved, and of the optimizer's state what the trace says."""

    def weights(size: int) -> dict[str, Any]:
        group = ParameterGroup(dtype="x", trainable=True, count=1_000, parameter_bytes=size)
        return {"parameters": (group,), "optimizer": OptimizerFacts(names=("Adam",), state_bytes=STATE[size])}

    job = small_job(precision="32-true", checkpoint_bytes=written, **weights(4_000))
    memory = job.memory.model_copy(update={"buffer_bytes": 800})
    job = in_precisions(job.model_copy(update={"memory": memory}), "bf16-true")
    half = {**weights(2_000), "memory": memory.model_copy(update={"buffer_bytes": 400})}
    job = job.model_copy(update={"precisions": (job.precisions[0].model_copy(update=half),)})
    for profile in (
        in_precision(job, "bf16-true"),
        JobVariant(precision="bf16-true").convert_saved_state(job),
    ):
        assert profile.plan.checkpoint_bytes == expected
    assert convert_saved_state(job, "32-true") == job
    fewer_bits = JobVariant(precision="bf16-true").convert_saved_state(job)
    assert (fewer_bits.precision, fewer_bits.operations) == ("32-true", job.operations)


STATE = {4_000: 11_200, 2_000: 7_600}
"""Bytes of optimizer state by those of the weights."""
