"""Plans keep the global batch, use as much of a machine as it allows, and no shape is dropped without a reason."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builders.toy_market import shapes, small_job
from trainfare_core.candidates import SHARDINGS, PlanSpace, enumerate_candidates, plan_gaps
from trainfare_core.candidates.space import divisors
from trainfare_core.job_profile import BatchFacts, JobProfile, ParallelFacts, SynchronizedNorms

A100, TPU = "A100-SXM-80GB", "TPU-v5e"
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""A loaded machine is no counter-example."""

COUNTS = st.sampled_from([0.125, 0.5, 1.0, 2.0, 3.0, 4.0, 8.0, 16.0, 256.0])


def job_of(micro: int | None, accumulate: int = 1, devices: int = 1) -> JobProfile:
    samples = None if micro is None else micro * accumulate
    return small_job(
        batch=1,
        parallel=ParallelFacts(devices=devices, accumulate_grad_batches=accumulate),
    ).model_copy(update={"batch": BatchFacts(micro_batch_size=micro, samples_per_step=samples)})


@unhurried
@given(
    counts=st.lists(COUNTS, min_size=1, max_size=5),
    micro=st.integers(1, 2_000),
    accumulate=st.integers(1, 4),
    devices=st.integers(1, 8),
    max_nodes=st.integers(1, 16),
)
def test_every_plan_keeps_the_global_batch(
    counts: list[float], micro: int, accumulate: int, devices: int, max_nodes: int
) -> None:
    """Micro-batch x accumulation x devices x nodes is the profile's global batch, in whole samples."""
    job = job_of(micro, accumulate, devices)
    machines = shapes(*((A100, count) for count in counts))
    plans = enumerate_candidates(job, machines, PlanSpace(max_nodes))
    world = plans.devices_of(machines) * plans.nodes
    np.testing.assert_array_equal(plans.micro_batch * plans.accumulate * world, micro * accumulate * devices)
    np.testing.assert_array_equal(plans.micro_batch, np.floor(plans.micro_batch))
    np.testing.assert_allclose(plans.micro_ratio, plans.micro_batch / micro)
    assert np.all(plans.micro_batch >= 1)
    assert np.all(plans.nodes <= max_nodes)
    assert np.all(machines.accelerator_count[plans.shape] % plans.devices_of(machines) == 0)


@unhurried
@given(
    counts=st.lists(COUNTS, min_size=1, max_size=6),
    micro=st.one_of(st.none(), st.integers(1, 300)),
    accumulate=st.integers(1, 4),
    devices=st.integers(1, 8),
    own=st.booleans(),
    synchronized=st.booleans(),
    keep_plan=st.booleans(),
)
def test_a_shape_has_a_plan_or_a_reason(
    counts: list[float], micro: int | None, accumulate: int, devices: int, own: bool, synchronized: bool, keep_plan: bool
) -> None:  # fmt: skip
    """Exactly the shapes without a plan have a text, and norms see as many samples as in the script."""
    job, machines = job_of(micro, accumulate, devices), shapes(*((A100, count) for count in counts))
    norms = SynchronizedNorms(modules=1, channels=8) if synchronized else None
    batch = job.batch.model_copy(update={"batch_norm": own, "synchronized_norms": norms})
    job, space = job.model_copy(update={"batch": batch}), PlanSpace(keep_plan=keep_plan)
    plans = enumerate_candidates(job, machines, space)
    planned = set(plans.shape.tolist())
    gaps = plan_gaps(job, machines, space)
    assert [gap == "" for gap in gaps] == [row in planned for row in range(len(counts))]
    if micro is not None and own:
        assert np.all(plans.micro_batch >= micro)
    if micro is not None and synchronized:
        assert np.all(plans.micro_batch * plans.devices_of(machines) * plans.nodes >= micro * devices)


def test_one_device_needs_no_sharding_and_more_try_both() -> None:
    """A single device runs unsharded; several run under DDP and under FSDP, never unsharded; also those in part."""
    machines = shapes((A100, 1), (A100, 4))
    plans = enumerate_candidates(job_of(32), machines, PlanSpace(1))
    used = plans.devices_of(machines)
    for row, devices, expected in (
        (0, 1, {"none"}),
        (1, 4, {"ddp", "fsdp"}),
        (1, 2, {"ddp", "fsdp"}),
        (1, 1, {"none"}),
    ):
        codes = plans.sharding[(plans.shape == row) & (used == devices)]
        assert {SHARDINGS[code] for code in codes} == expected


def test_hybrid_sharding_needs_machines_of_several_devices_and_zero_its_package() -> None:
    """Hybrid FSDP shards inside a machine; DeepSpeed is planned where the script uses it or it is allowed."""

    def names(job: JobProfile, space: PlanSpace) -> list[set[str]]:
        plans = enumerate_candidates(job, shapes((A100, 1), (A100, 4)), space)
        kinds = ((row, nodes) for row in (0, 1) for nodes in (1, 2))
        whole = plans.devices_or_all == np.array([1, 4])[plans.shape]
        return [
            {
                SHARDINGS[code]
                for code in plans.sharding[whole & (plans.shape == row) & (plans.nodes == nodes)]
            }
            for row, nodes in kinds
        ]

    both, zero = {"ddp", "fsdp"}, {"zero1", "zero2"}
    assert names(job_of(32), PlanSpace(2)) == [{"none"}, both, both, both | {"hybrid"}]
    allowed = [{"none"}, both | zero, both | zero, both | zero | {"hybrid"}]
    assert names(job_of(32), PlanSpace(2, deepspeed=True)) == allowed
    own = job_of(32).model_copy(update={"parallel": ParallelFacts(strategy="deepspeed_stage_1")})
    assert names(own, PlanSpace(2)) == allowed


def test_micro_batches_go_down_to_single_samples_and_up_to_the_whole_share() -> None:
    """A share of 12 is run whole, in about halves again and again, and one by one."""
    plans = enumerate_candidates(job_of(12), shapes((A100, 1)), PlanSpace(1))
    assert plans.accumulate.tolist() == [1, 2, 4, 12]
    assert plans.micro_batch.tolist() == [12, 6, 3, 1]


def test_accumulation_of_the_profile_can_be_undone() -> None:
    """A profile that accumulates 8 micro-batches of 4 may run 32 samples at once on a larger device."""
    plans = enumerate_candidates(job_of(4, accumulate=8), shapes((A100, 1)), PlanSpace(1))
    assert (plans.micro_batch[0], plans.micro_ratio[0], plans.accumulate[0]) == (32, 8, 1)


def test_several_machines_need_a_known_network() -> None:
    """Without a network speed, and in a TPU slice, one machine is all there is."""
    machines = shapes((A100, 1), (A100, 1, math.nan), (TPU, 4), (TPU, 4, math.nan))
    plans = enumerate_candidates(job_of(64), machines, PlanSpace(8))
    nodes = [sorted(set(plans.nodes[plans.shape == row].tolist())) for row in range(4)]
    assert nodes == [[1, 2, 4, 8], [1], [1], [1]]


def test_an_accelerator_that_no_catalogue_knows_is_still_planned() -> None:
    """Whether a device is known is decided later, with its reason; planning does not raise."""
    assert len(enumerate_candidates(job_of(8), shapes(("Nonesuch-1GB", 2)), PlanSpace(1))) > 0


def test_gaps_say_what_is_wrong() -> None:
    """Shared devices, uneven batches and unknown batches each have their own words."""
    machines = shapes((A100, 0.25), (TPU, 3), (TPU, 64), (A100, 3))
    share, uneven, many, part = plan_gaps(job_of(32), machines)
    assert "share of a device" in share
    assert "batch of 32" in uneven
    assert "3 devices" in uneven
    assert "64 devices" in many
    assert part == ""
    assert "not known" in plan_gaps(job_of(None, devices=4), shapes((A100, 2)), PlanSpace(1))[0]


def test_a_part_of_a_machine_is_used_where_the_batch_cannot_be_shared_by_all() -> None:
    """A batch of 4 takes 4 of 8 accelerators, one of 12 the same, on one machine; two machines need all of theirs."""
    for batch, used in ((4, 4), (12, 4), (3, 1), (16, 8)):
        plans = enumerate_candidates(job_of(batch), shapes((A100, 8)), PlanSpace(2))
        one, two = (plans.devices_of(shapes((A100, 8)))[plans.nodes == nodes] for nodes in (1, 2))
        assert set(one.tolist()) == {float(each) for each in (1, 2, 4, 8) if each <= used}
        assert set(two.tolist()) == ({8.0} if batch == 16 else set())


def test_a_tpu_slice_is_used_whole() -> None:
    """Its chips are wired for all of it: a batch of 4 has no plan on a slice of 8."""
    assert len(enumerate_candidates(job_of(4), shapes((TPU, 8)))) == 0


def test_an_unknown_batch_is_planned_only_where_the_step_stays_the_same() -> None:
    """With no batch size only the profile's own number of devices is planned, with its own accumulation."""
    job = small_job(batch=1, parallel=ParallelFacts(devices=4, accumulate_grad_batches=3)).model_copy(
        update={"batch": BatchFacts(micro_batch_size=None, samples_per_step=None)}
    )
    machines = shapes((A100, 1), (A100, 2), (A100, 8))
    plans = enumerate_candidates(job, machines, PlanSpace(4))
    assert set((plans.devices_of(machines) * plans.nodes).tolist()) == {4.0}
    assert np.all(np.isnan(plans.micro_batch))
    assert set(plans.micro_ratio.tolist()) == {1.0}
    assert set(plans.accumulate.tolist()) == {3}


@pytest.mark.parametrize("samples", [10**18, 2**59, 3**37, 999_999_999_989])
def test_absurd_batches_are_planned_without_delay(samples: int) -> None:
    """A batch of 10^18 samples, or a large prime, is legal and has some tens of plans."""
    job = job_of(samples)
    assert 2 <= len(enumerate_candidates(job, shapes((A100, 1)), PlanSpace(1))) < 100


def test_no_shapes_no_plans() -> None:
    """An empty catalogue gives an empty table and no reasons."""
    empty = shapes()
    assert len(enumerate_candidates(job_of(8), empty)) == 0
    assert len(plan_gaps(job_of(8), empty)) == 0


def list_marked(job: JobProfile, *machines: tuple[str, float]) -> list[str]:
    """Return the plans of whole machines marked as the script's own, as text."""
    machine_shapes = shapes(*machines)
    plans = enumerate_candidates(job, machine_shapes, PlanSpace(1))
    assert plans.as_scripted is not None
    whole = plans.devices_or_all == machine_shapes.accelerator_count[plans.shape]
    return [
        f"{SHARDINGS[plans.sharding[row]]} {plans.micro_batch[row]:g}x{plans.accumulate[row]}"
        for row in np.flatnonzero(plans.as_scripted & whole)
    ]


def test_the_script_s_own_plan_is_tried_on_every_machine_and_marked() -> None:
    """Its micro-batch, accumulated as often as the share asks for; a smaller share is run whole."""
    job = job_of(12, accumulate=8)
    assert list_marked(job, (A100, 1)) == ["none 12x8"]
    assert list_marked(job, (A100, 4)) == ["ddp 12x2"]
    assert list_marked(job, (A100, 16)) == ["ddp 6x1"]
    assert list_marked(job_of(5, accumulate=3), (A100, 1)) == [
        "none 5x3"
    ]  # halving 15 samples does not find 5


@pytest.mark.parametrize(
    ("strategy", "sharding"),
    [
        ("auto", "ddp"),
        ("ddp_spawn", "ddp"),
        ("single_device", "ddp"),
        ("fsdp", "fsdp"),
        ("deepspeed_stage_1", "zero1"),
        ("deepspeed_stage_2", "zero2"),
        ("deepspeed", "zero2"),
        ("deepspeed_stage_3", "fsdp"),
    ],
)
def test_auto_is_ddp_on_several_devices(strategy: str, sharding: str) -> None:
    """As in Lightning; a strategy that shards the weights stays one."""
    job = small_job(batch=32, parallel=ParallelFacts(strategy=strategy))
    assert list_marked(job, (A100, 4)) == [f"{sharding} 8x1"]


def test_keep_plan_tries_nothing_else_and_says_where_that_is_impossible() -> None:
    """Only marked plans are left; a share that the micro-batch does not divide is a gap with that reason."""
    job, machines = job_of(12, accumulate=8), shapes((A100, 4), (TPU, 6))
    space = PlanSpace(1, keep_plan=True)
    plans = enumerate_candidates(job, machines, space)
    assert plans.as_scripted is not None
    assert plans.devices_or_all.tolist() == [4, 2, 1]
    assert plans.as_scripted.all()
    assert plan_gaps(job, machines, space).tolist() == [
        "",
        "the script's micro-batch of 12 does not divide the samples of each of 6 devices",
    ]


def test_batch_norm_keeps_its_samples_unless_allowed() -> None:
    """A device never gets a smaller micro-batch than the script's, whatever fits; with leave, it does."""
    job = job_of(32).model_copy(
        update={"batch": BatchFacts(micro_batch_size=32, samples_per_step=32, batch_norm=True)}
    )
    machines = shapes((A100, 1), (TPU, 4), (A100, 4))
    strict, free = PlanSpace(1), PlanSpace(1, lower_batch_norm=True)
    table = enumerate_candidates(job, machines, strict)
    assert table.micro_batch.tolist() == [32, 32]
    assert table.devices_of(machines).tolist() == [1, 1]
    assert enumerate_candidates(job, machines, free).micro_batch.min() == 1
    assert ["--allow batch-norm" in gap for gap in plan_gaps(job, machines, strict)] == [
        False,
        True,
        False,
    ]
    assert plan_gaps(job, machines, free).tolist() == ["", "", ""]


def test_synchronized_norms_keep_the_samples_of_all_devices_unless_allowed() -> None:
    """Eight devices of 4 see 32 samples together: one device takes 32 at once and 16 devices 2, none with less."""
    job = job_of(4, devices=8)
    batch = job.batch.model_copy(update={"synchronized_norms": SynchronizedNorms(modules=1, channels=8)})
    job = job.model_copy(update={"batch": batch})
    machines = shapes((A100, 1), (A100, 16))
    table = enumerate_candidates(job, machines, PlanSpace(1))
    together = table.micro_batch * table.devices_of(machines) * table.nodes
    assert together.tolist() == [32] * len(together)
    assert set(table.devices_of(machines).tolist()) == {1, 2, 4, 8, 16}
    free = enumerate_candidates(job, machines, PlanSpace(1, lower_batch_norm=True))
    assert free.micro_batch[free.devices_of(machines) == 1].min() == 1
    own = PlanSpace(1, keep_plan=True)
    assert set(enumerate_candidates(job, machines, own).devices_of(machines).tolist()) == {8, 16}
    alone, _ = plan_gaps(job, machines, own).tolist()
    assert alone.startswith(
        "SyncBatchNorm sees 32 samples of all devices together and would see fewer on 1 device, which"
    )


def test_the_job_s_own_number_of_machines_is_tried_and_allowed() -> None:
    """Five nodes are no usual number, and eight are more than the default of four."""
    five = small_job(batch=40, parallel=ParallelFacts(devices=1, num_nodes=5))
    assert PlanSpace().node_counts(five).tolist() == [1, 2, 3, 4, 5]
    powers = [2**power for power in range(7)]
    usual = sorted({*powers, *(3 * power for power in powers if 3 * power <= 64)})
    assert PlanSpace(64).node_counts(small_job()).tolist() == usual
    eight = small_job(batch=8, parallel=ParallelFacts(devices=1, num_nodes=8))
    assert PlanSpace().node_counts(eight).tolist() == [1, 2, 3, 4, 6, 8]
    assert PlanSpace(4).node_counts(eight).tolist() == [1, 2, 3, 4]
    assert max(enumerate_candidates(eight, shapes((A100, 1))).nodes) == 8


def test_divisors_of_odd_squares() -> None:
    """Every odd prime is tried, three too."""
    assert divisors(9 * 25) == [1, 3, 5, 9, 15, 25, 45, 75, 225]


def test_another_batch_is_at_most_eight_times_the_script_s() -> None:
    """Nine devices would need nine samples of a script that trains on one."""
    space = PlanSpace(1, other_batch=True)
    for devices, used in ((8, {8.0}), (9, {1.0})):
        machines = shapes((A100, devices))
        assert set(enumerate_candidates(job_of(1), machines, space).devices_of(machines).tolist()) == used
