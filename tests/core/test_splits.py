"""Plans that split a decoder: their degrees divide what they split, and their batch is the script's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builders.profiles import gpt_profile, operation, profile
from builders.toy_market import decoder_job, in_precisions, shapes, small_job
from trainfare_core.candidates import SHARDINGS, PlanSpace, enumerate_candidates, plan_gaps, take
from trainfare_core.candidates.splits import LEAST_TOKENS, MOST_STAGES
from trainfare_core.job_profile import BatchFacts, JobProfile, ParallelFacts, ParameterGroup
from trainfare_core.variants import DecoderShape, why_not_split

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""A loaded machine is no counter-example."""
SPLIT = PlanSpace(64, model_parallel=True, checkpointing=True)


def with_batch(job: JobProfile, batch: int, micro: int = 1) -> JobProfile:
    return job.model_copy(update={"batch": BatchFacts(micro_batch_size=micro, samples_per_step=batch)})


@unhurried
@given(
    heads=st.integers(1, 128),
    layers=st.integers(1, 130),
    tokens=st.sampled_from([512, 4096, 8192, 32_768, 8191]),
    batch=st.integers(1, 2048),
    micro=st.sampled_from([1, 2, 3, 8]),
    count=st.sampled_from([1.0, 2.0, 3.0, 4.0, 8.0, 16.0]),
    experts=st.sampled_from([0, 6, 8, 64]),
)
def test_a_split_divides_what_it_splits_and_keeps_the_global_batch(
    heads: int, layers: int, tokens: int, batch: int, micro: int, count: float, experts: int
) -> None:
    """Micro-batch x accumulation x replicas are the script's batch, and tensor x pipeline x context x replicas all devices."""
    job = with_batch(decoder_job(heads=heads, layers=layers, tokens=tokens), batch * micro, micro)
    if experts:
        grouped = operation(kind="grouped_matmul", shape=(experts, 4096, 64, 64))
        job = job.model_copy(update={"operations": (*job.operations, grouped)})
    machines = shapes(("H100-SXM-80GB", count))
    every = enumerate_candidates(job, machines, SPLIT)
    assert every.parallel is not None
    plans = take(every, every.parallel.splits)
    assert plans.parallel is not None
    world, degrees = plans.devices_of(machines) * plans.nodes, plans.parallel.degrees
    replicas = plans.replicas_of(machines)
    assert np.array_equal(plans.micro_batch * plans.accumulate * replicas, np.full(len(plans), batch * micro))
    assert np.array_equal(world, degrees[:3].prod(axis=0) * replicas)
    tensor, pipeline, context, expert = degrees
    assert not (heads % tensor).any()
    assert not (tokens % (tensor * context)).any()
    assert not (layers % pipeline).any()
    assert pipeline.max(initial=1) <= MOST_STAGES
    assert not (count % (tensor * context)).any()
    assert ((context == 1) | ((tokens % (2 * context) == 0) & (tokens // context >= LEAST_TOKENS))).all()
    assert not (max(experts, 1) % expert).any()
    assert not ((replicas * context) % expert).any()
    assert (plans.accumulate >= pipeline)[pipeline > 1].all()
    alone = replicas * context == 1
    assert np.array_equal(plans.sharding == SHARDINGS.index("none"), alone)
    assert not plans.as_scripted.any() if plans.as_scripted is not None else False


@unhurried
@given(
    batch=st.integers(1, 64),
    strategy=st.sampled_from(["auto", "fsdp"]),
    count=st.sampled_from([1.0, 3.0, 8.0]),
    checkpointing=st.booleans(),
)
def test_plans_that_split_nothing_are_those_of_before(
    batch: int, strategy: str, count: float, checkpointing: bool
) -> None:
    """Without the flag there is no split plan, and with it every other plan is there, in the same order."""
    job = with_batch(decoder_job(parallel=ParallelFacts(strategy=strategy)), batch)
    machines = shapes(("A100-SXM-80GB", count), ("TPU-v5e", 4.0), ("MI300X-OAM-192GB", 8.0))
    own = enumerate_candidates(job, machines, PlanSpace(4, checkpointing=checkpointing))
    more = enumerate_candidates(job, machines, PlanSpace(4, checkpointing=checkpointing, model_parallel=True))
    assert own.parallel is None
    assert more.parallel is not None
    same = take(more, ~more.parallel.splits)
    for name in ("shape", "nodes", "sharding", "micro_batch", "accumulate", "devices", "as_scripted"):
        assert np.array_equal(getattr(own, name), getattr(same, name)), name
    assert set(more.shape[more.parallel.splits]) <= {0, 2}, "frameworks that split models run on GPUs"
    space = PlanSpace(4, keep_plan=True, model_parallel=True)
    assert enumerate_candidates(job, machines, space).parallel is None


def test_the_shape_of_a_decoder_is_read_from_its_attention() -> None:
    """Heads of queries and of keys, layers of one forward pass although a step has four, and tokens of a sample."""
    job = gpt_profile(layers=12, heads=12, sequence=1024, checkpointing=True)
    assert DecoderShape.of(job) == DecoderShape(heads=12, layers=12, tokens=1024, experts=0)
    grouped = operation(
        kind="attention", shape=(1, 32, 8, 4096, 4096, 128, 1), launches=128, name="attention"
    )
    eight = small_job(parallel=ParallelFacts(accumulate_grad_batches=4))
    eight = eight.model_copy(update={"operations": (*eight.operations, grouped)})
    assert DecoderShape.of(eight) == DecoderShape(heads=8, layers=32, tokens=4096, experts=0)


def test_what_cannot_be_split_has_a_reason_and_no_plans() -> None:
    """No decoder, weights in 4 bits, a batch that is not known, attention that is not causal, layers in fp8."""
    job = decoder_job()
    four_bits = ParameterGroup(dtype="int8", trainable=False, count=10**9, parameter_bytes=5 * 10**8)
    encoder = operation(kind="attention", shape=(1, 8, 8, 64, 64, 64, 0), name="encoder")
    cases = {
        "decoder-only": profile(),
        "8 or 4 bits": job.model_copy(update={"parameters": (*job.parameters, four_bits)}),
        "batch size is not known": job.model_copy(
            update={"batch": BatchFacts(micro_batch_size=None, samples_per_step=None)}
        ),
        "not causal": job.model_copy(update={"operations": (*job.operations, encoder)}),
        "puts in cannot be split": job.model_copy(update={"precision": "transformer-engine"}),
    }
    assert why_not_split(job) == ""
    for because, job_profile in cases.items():
        assert because in why_not_split(job_profile)
        assert enumerate_candidates(job_profile, shapes(("A100-SXM-80GB", 8.0)), SPLIT).parallel is None


@pytest.mark.parametrize(("batch", "planned"), [(4, True), (3, False)])
def test_more_devices_than_samples_are_used_where_the_model_is_split(batch: int, planned: bool) -> None:
    """A batch of 4 on 8 devices: two devices share each sample; 3 have one replica on all."""
    job, machine = with_batch(decoder_job(), batch), shapes(("A100-SXM-80GB", 8.0))
    plans = enumerate_candidates(job, machine, PlanSpace(1, model_parallel=True))
    assert plans.parallel is not None
    used = plans.devices_or_all[plans.parallel.splits]
    assert (used == 8).all()
    replicas = set(plans.replicas_of(machine)[plans.parallel.splits].tolist())
    assert replicas == ({1.0, 2.0, 4.0} if planned else {1.0})
    assert plan_gaps(job, machine).tolist() == [""]


def test_a_split_model_keeps_the_script_s_precision() -> None:
    """In another precision it may be none that can be split; plans that split nothing are tried in each."""
    job, machine = in_precisions(decoder_job(), "32-true"), shapes(("A100-SXM-80GB", 8.0))
    plans = enumerate_candidates(job, machine, PlanSpace(1, model_parallel=True, precision=True))
    assert plans.parallel is not None
    splits = plans.parallel.splits.tolist()
    seen = {(split, plans.variant_of(plan).precision) for plan, split in enumerate(splits)}
    assert {precision for split, precision in seen if split} == {""}
    assert {precision for split, precision in seen if not split} >= {"", "32-true"}


@pytest.mark.parametrize(
    ("micro", "samples", "known"), [(2, None, True), (None, 8, True), (None, None, False)]
)
def test_a_batch_is_known_by_either_of_its_sizes(micro: int | None, samples: int | None, known: bool) -> None:
    batch = BatchFacts(micro_batch_size=micro, samples_per_step=samples)
    why = why_not_split(decoder_job().model_copy(update={"batch": batch}))
    assert (why == "") == known
