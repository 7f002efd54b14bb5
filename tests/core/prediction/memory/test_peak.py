"""Peak memory: its parts, its sharding, and the edge between fits and does not fit."""

from __future__ import annotations

import dataclasses
import math
from typing import get_args

import numpy as np
import pytest

from builders.plans import predict_one
from builders.profiles import gpt_profile, profile
from trainfare_core.candidates import ModelParallel
from trainfare_core.hardware.accelerators import accelerator
from trainfare_core.job_profile import JobProfile, MeasuredStep, MemoryMoment, Quantiles
from trainfare_core.prediction import predict_machine
from trainfare_core.prediction.memory.calibrated import (
    Corrections,
    MemoryClass,
    correct_parts,
    memory_classes,
    memory_fit,
    memory_note,
    memory_peak,
)
from trainfare_core.prediction.memory.peak import MemoryParts, memory_parts, usable_memory_bytes
from trainfare_core.prediction.memory.sharding import Shards
from trainfare_core.prediction.uncertainty import Z80

ONE = np.ones(1)
WHOLE, SHARDED = np.array([False]), np.array([True])


def activations(size: int) -> JobProfile:
    """Return a ResNet-50 whose saved activations have this many bytes."""
    job = profile(batch_size=1)
    return job.model_copy(update={"memory": job.memory.model_copy(update={"saved_activation_bytes": size})})


def watch_step(*moments: MemoryMoment) -> JobProfile:
    """Return a GPT whose step was watched: these instants, and no sums."""
    job = gpt_profile()
    return job.model_copy(update={"memory": job.memory.model_copy(update={"moments": moments})})


def compute_held_bytes(job: JobProfile, ratio: float = 1.0, world: float = 1.0, passes: int = 1) -> float:
    """Bytes of activations, gradients and temporaries at the peak of one device; several are sharded over."""
    parts = memory_parts(
        job, ratio * ONE, world * ONE, np.array([world > 1]), passes=np.array([passes], dtype=np.int64)
    )
    return float((parts.activations_bytes + parts.temporary_bytes + parts.gradients_bytes)[0])


def test_the_peak_is_the_highest_instant_and_not_a_sum() -> None:
    """Small batches peak in the update, large ones where backward begins, and accumulation keeps the gradients there."""
    input_bytes, gradients = gpt_profile().memory.input_bytes, gpt_profile().memory.gradient_bytes
    start = MemoryMoment(phase="backward", activation_bytes=600, fixed_bytes=7)
    update = MemoryMoment(
        phase="optimizer", activation_bytes=4, gradient_bytes=gradients, optimizer_bytes=gradients
    )
    job = watch_step(start, update)
    large = 100.0 * gradients
    assert compute_held_bytes(job) == pytest.approx(2 * gradients + 4 + input_bytes)
    assert compute_held_bytes(job, large) == pytest.approx((600 + input_bytes) * large + 7)
    for passes in (
        2,
        4,
    ):  # a difference, beside which the activations of a large batch do not hide the gradients
        kept = compute_held_bytes(job, large, passes=passes) - compute_held_bytes(job, large)
        assert kept == pytest.approx(gradients)


def test_a_job_that_accumulates_keeps_its_gradients_without_being_asked() -> None:
    """Where no plan says how many passes a step has, it has as many as the profile."""
    start = MemoryMoment(phase="backward", activation_bytes=10**9)
    job = watch_step(start)
    four = job.model_copy(update={"parallel": job.parallel.model_copy(update={"accumulate_grad_batches": 4})})
    once, more = (memory_parts(job, ONE, ONE, WHOLE).gradients_bytes[0] for job in (job, four))
    assert (once, more) == (0, job.memory.gradient_bytes)


def test_gradients_and_the_update_are_sharded_and_activations_are_not() -> None:
    """Over 8 devices the update holds an eighth; the start of backward holds its activations and two gathered units."""
    gradients = gpt_profile().memory.gradient_bytes
    update = MemoryMoment(
        phase="optimizer", activation_bytes=0, gradient_bytes=gradients, optimizer_bytes=gradients
    )
    start = MemoryMoment(phase="backward", activation_bytes=10**9)
    input_bytes = gpt_profile().memory.input_bytes
    assert compute_held_bytes(watch_step(update), world=8) == pytest.approx(2 * gradients / 8 + input_bytes)
    units = compute_held_bytes(watch_step(start), world=8) - compute_held_bytes(watch_step(start))
    assert 0 < units < gpt_profile().parameter_bytes


def make_adapted() -> JobProfile:
    """Return a GPT of which a hundredth trains."""
    job, (group,) = gpt_profile(), gpt_profile().parameters
    few = group.count // 100
    parts = (
        group.model_copy(update={"count": few, "parameter_bytes": 4 * few}),
        group.model_copy(
            update={
                "trainable": False,
                "count": group.count - few,
                "parameter_bytes": 4 * (group.count - few),
            }
        ),
    )
    moment = MemoryMoment(phase="backward", activation_bytes=4, gradient_bytes=4 * few)
    memory = job.memory.model_copy(update={"gradient_bytes": 4 * few, "moments": (moment,)})
    return job.model_copy(update={"parameters": parts, "memory": memory})


def test_flat_units_have_gradients_of_frozen_weights_too() -> None:
    """FSDP of whole blocks: an adapter's gradients are as large as the weights; wrapped apart they are a hundredth."""
    job = make_adapted()
    flat, apart = (
        memory_parts(job, ONE, 8 * ONE, SHARDED, flat_units=flag).gradients_bytes[0] for flag in (True, False)
    )
    assert flat == pytest.approx(job.parameter_bytes / 8)
    assert apart == pytest.approx(job.memory.gradient_bytes / 8)
    copies = memory_parts(job, ONE, 8 * ONE, WHOLE).gradients_bytes[0]
    assert copies == 2 * job.memory.gradient_bytes, "and DDP's buckets"


def split(**changes: int | bool) -> ModelParallel:
    """Return one plan that splits the model so."""
    arrays = {name: np.array([value]) for name, value in changes.items()}
    return dataclasses.replace(ModelParallel.none(1), **arrays)


def test_tensor_parallelism_alone_does_not_divide_norms_and_dropout() -> None:
    """The share is what the norms read and write: the rest is divided by the degree (Korthikanti et al. 2022)."""
    job = gpt_profile()
    one = memory_parts(job, ONE, ONE, WHOLE).activations_bytes[0]
    divided, alone = (
        memory_parts(job, ONE, 4 * ONE, WHOLE, split(tensor=4, sequence_parallel=flag)).activations_bytes[0]
        for flag in (True, False)
    )
    assert divided == pytest.approx(one / 4, rel=0.02)
    norms = sum(
        g.bytes_moved - g.bytes_fixed
        for g in job.operations
        if g.kind == "normalization" and g.phase == "forward"
    )
    assert alone - divided == pytest.approx(0.75 * norms, rel=0.05)


def test_the_first_stage_has_the_table_of_tokens() -> None:
    """A quarter of the blocks and the whole embedding; sharded stages hold their weights gathered over the micro-batches."""
    job = gpt_profile(layers=8, width=512, heads=8)
    stage = memory_parts(job, ONE, 4 * ONE, WHOLE, split(pipeline=4)).weights_bytes[0]
    assert stage > 1.3 * job.parameter_bytes / 4
    assert stage < job.parameter_bytes
    passes = np.array([4])
    plain, sharded = (
        memory_parts(job, ONE, 16 * ONE, flag, split(pipeline=4), passes) for flag in (WHOLE, SHARDED)
    )
    assert sharded.weights_bytes[0] == pytest.approx(plain.weights_bytes[0] / 4)
    assert sharded.temporary_bytes[0] > plain.temporary_bytes[0] + stage / 2, "gathered, in 16 bits"


def test_a_sharded_optimizer_has_buckets() -> None:
    """Two of them, as large as the gradients and at most 1 GB each; the state is sharded over the replicas."""
    job = gpt_profile()
    plain, sharded = (
        memory_parts(job, ONE, 4 * ONE, WHOLE, split(tensor=1, sharded_optimizer=flag))
        for flag in (False, True)
    )
    assert sharded.optimizer_bytes[0] == pytest.approx(plain.optimizer_bytes[0] / 4)
    more = sharded.gradients_bytes[0] - plain.gradients_bytes[0]
    assert more == pytest.approx(2 * min(job.memory.gradient_bytes, 10**9))


def test_one_device_holds_weights_gradients_and_moments() -> None:
    """AdamW in mixed precision: 4 + 4 + 8 bytes a parameter, each under its own name."""
    job = gpt_profile()
    parts, count = memory_parts(job, ONE, ONE, WHOLE), job.trainable_parameters
    assert parts.weights_bytes[0] == 4 * count
    assert parts.gradients_bytes[0] == 4 * count
    assert parts.optimizer_bytes[0] == 8 * count
    assert parts.total_bytes[0] > 16 * count + job.memory.saved_activation_bytes


def test_only_activations_and_temporaries_grow_with_the_micro_batch() -> None:
    """Twice the micro-batch: twice the activations, the same weights, gradients and optimizer state."""
    job = profile(batch_size=64)
    parts, two = memory_parts(job, ONE, ONE, WHOLE), memory_parts(job, 2 * ONE, ONE, WHOLE)
    assert two.activations_bytes[0] == 2 * parts.activations_bytes[0]
    assert two.weights_bytes[0] == parts.weights_bytes[0]
    assert two.optimizer_bytes[0] == parts.optimizer_bytes[0]


def test_fsdp_shards_state_and_gathers_a_layer() -> None:
    """Over 8 devices weights, gradients and moments are an eighth; a gathered unit is added."""
    job = gpt_profile(layers=24, width=2048, heads=16)
    whole, sharded = memory_parts(job, ONE, ONE, WHOLE), memory_parts(job, ONE, 8 * ONE, SHARDED)
    for name in ("weights_bytes", "gradients_bytes", "optimizer_bytes"):
        assert getattr(sharded, name)[0] == pytest.approx(getattr(whole, name)[0] / 8)
    assert sharded.temporary_bytes[0] > whole.temporary_bytes[0]
    assert sharded.total_bytes[0] < whole.total_bytes[0]


def test_ddp_needs_more_than_one_device_alone() -> None:
    """Gradient buckets and collective buffers come on top."""
    job = gpt_profile()
    assert memory_parts(job, ONE, 2 * ONE, WHOLE).total_bytes[0] > (
        memory_parts(job, ONE, ONE, WHOLE).total_bytes[0] + job.memory.gradient_bytes
    )


def test_the_edge_between_fits_and_not() -> None:
    """A job fits as long as the upper 80 % bound is within the usable memory, and not a byte longer."""
    usable = usable_memory_bytes(accelerator("T4-16GB"))
    low, high = 0, int(usable)
    while high - low > 1:
        middle = (low + high) // 2
        fits = bool(predict_one(activations(middle), "T4-16GB").fits[0])
        low, high = (middle, high) if fits else (low, middle)
    inside, outside = predict_one(activations(low), "T4-16GB"), predict_one(activations(high), "T4-16GB")
    assert inside.fits[0]
    assert not outside.fits[0]
    assert inside.missing_bytes[0] == 0
    assert 0 < outside.missing_bytes[0] < 10
    upper = float(outside.memory_bytes[0]) * math.exp(Z80 * float(outside.memory_log_sigma[0]))
    assert upper == pytest.approx(usable, abs=10)


def test_usable_memory_is_less_than_the_data_sheet() -> None:
    """The driver keeps a part of every device."""
    device = accelerator("A100-SXM-40GB")
    assert 0.95 * device.memory_bytes < usable_memory_bytes(device) < 0.99 * device.memory_bytes


def make_measured(peak_gib: float) -> JobProfile:
    half = Quantiles(median_s=0.1, p10_s=0.1, p90_s=0.1)
    step = MeasuredStep(
        device_name="cpu", device_kind="cuda", steps=5, step=half, peak_memory_bytes=int(peak_gib * 2**30)
    )
    return profile(batch_size=64, measured=step)


def test_a_measured_peak_replaces_the_estimate_for_the_same_micro_batch() -> None:
    """What the allocator held counts, plus the context it does not see."""
    same, other = (
        predict_one(make_measured(7), "A100-SXM-80GB"),
        predict_one(make_measured(7), "A100-SXM-80GB", ratio=2.0),
    )
    assert float(same.memory_bytes[0]) == pytest.approx((7 + 0.75) * 2**30)
    assert same.memory_log_sigma[0] == memory_fit().measured_sigma < other.memory_log_sigma[0]
    peak = memory_peak(make_measured(7), ONE, ONE, WHOLE)
    assert peak.parts.total_bytes[0] == pytest.approx(peak.peak_bytes[0])
    assert peak.parts.allocated_bytes[0] == pytest.approx(peak.allocated_bytes[0])
    assert peak.allocated_bytes[0] < peak.peak_bytes[0]


def test_a_measured_peak_corrects_other_micro_batches_by_a_power() -> None:
    """The shipped power of measured over predicted holds here too, with the interval of such predictions."""
    estimate, twice = (predict_one(profile(batch_size=64), "A100-SXM-80GB", ratio=r) for r in (1.0, 2.0))
    corrected = predict_one(make_measured(30), "A100-SXM-80GB", ratio=2.0)
    off = (30 + 0.75) * 2**30 / float(estimate.memory_bytes[0])
    carried = float(corrected.memory_bytes[0]) / float(twice.memory_bytes[0])
    assert carried == pytest.approx(off ** memory_fit().carried_share, rel=1e-6)
    assert corrected.memory_log_sigma[0] == pytest.approx(memory_fit().corrected.half_80 / Z80)
    sure, unsure = (
        predict_one(job, "A100-SXM-80GB", count=8, ratio=2.0).memory_log_sigma[0]
        for job in (make_measured(30), profile(batch_size=64))
    )
    assert sure == unsure, "one device says how much is off, and not how sure eight are"


def test_classes_say_what_is_known() -> None:
    """Devices, adapters, small weights and split models are told apart by the profile and the plan."""
    values, two = ONE, 2 * ONE
    assert memory_classes(gpt_profile(), values)[0] == "one_device"
    assert memory_classes(make_adapted(), values)[0] == "one_device_adapters"
    assert memory_classes(make_adapted(), two)[0] == "several_devices"
    assert memory_classes(gpt_profile(), two, split(tensor=2))[0] == "model_parallel"
    assert memory_classes(gpt_profile(), two, split(tensor=1))[0] == "several_devices"
    job = make_adapted()
    small = tuple(
        g if g.trainable else g.model_copy(update={"parameter_bytes": g.count // 2}) for g in job.parameters
    )
    assert memory_classes(job.model_copy(update={"parameters": small}), two)[0] == "quantised"


def test_the_device_holds_more_than_the_allocator_counts() -> None:
    """Two quantities with an interval each: their difference is cached blocks, the context and the collective library."""
    job, fit = gpt_profile(), memory_fit()
    peak, parts = memory_peak(job, ONE, 8 * ONE, WHOLE), memory_parts(job, ONE, 8 * ONE, WHOLE)
    assert peak.parts.total_bytes[0] == pytest.approx(peak.peak_bytes[0])
    assert peak.parts.allocated_bytes[0] == pytest.approx(peak.allocated_bytes[0])
    more = fit.corrections.cached_share * peak.allocated_bytes[0] + (0.75 + 0.5) * 2**30
    assert peak.peak_bytes[0] - peak.allocated_bytes[0] == pytest.approx(more)
    assert peak.parts.weights_bytes[0] == parts.weights_bytes[0]
    assert peak.log_sigma[0] * Z80 == pytest.approx(fit.device["several_devices"].half_80)
    assert peak.allocated_log_sigma[0] * Z80 == pytest.approx(fit.allocated["several_devices"].half_80)


def test_corrections_are_added_where_they_belong() -> None:
    """Weights in few bits and convolutions add an amount, whatever the batch; activations and temporaries stay."""
    size = np.array([8.0 * 2**30])
    parts = MemoryParts(size, 0 * size, 0 * size, size, size, 0 * size)
    numbers = Corrections(
        quantised_bytes=3.0, convolution_bytes=5.0, split_gradient_factor=2.0, cached_share=0.25
    )
    values, quantised = np.array(["one_device"]), np.array(["quantised"])
    plain, small = (correct_parts(parts, name, numbers, convolutions=False) for name in (values, quantised))
    assert correct_parts(parts, values, numbers, convolutions=True).temporary_bytes[0] == size[0] + 5
    gradients = dataclasses.replace(parts, gradients_bytes=size)
    whole, split_over = (
        correct_parts(gradients, np.array([name]), numbers, convolutions=False).gradients_bytes[0]
        for name in ("several_devices", "model_parallel")
    )
    assert (whole, split_over) == (size[0], 2 * size[0])
    assert plain.allocated_bytes[0] == parts.allocated_bytes[0]
    assert small.temporary_bytes[0] == size[0] + 3
    assert plain.overhead_bytes[0] == pytest.approx(0.25 * 3 * size[0])


def test_a_prediction_says_what_its_memory_rests_on() -> None:
    """How many published figures of its class there are, and whether its own measured peak counts."""
    several = memory_fit().device["several_devices"]
    answer = predict_machine(gpt_profile(batch_size=64), "H100-SXM-80GB", 8)
    assert f"{several.rows} published figures of device use of several devices" in answer.notes[-1]
    assert "own measured peak" not in answer.notes[-1]
    assert answer.allocated_bytes.mid < answer.memory_bytes.mid
    alone = memory_note(make_measured(7), 1)
    assert "of one device" in alone
    assert "own measured peak corrects it" in alone


def test_what_ships_says_where_it_comes_from() -> None:
    """Every class has an interval of both quantities, and no correction is negative or out of proportion."""
    fit = memory_fit()
    assert set(fit.allocated) == set(fit.device) == set(get_args(MemoryClass))
    assert len(fit.data_sha256) == 64
    assert sum(fit.fitted_on.values()) > 1000
    for spread in (*fit.allocated.values(), *fit.device.values(), fit.corrected):
        assert 0 < spread.half_50 < spread.half_80 <= spread.half_90
    assert fit.corrections.cached_share < 0.5
    assert fit.corrections.quantised_bytes < 2 * 2**30


def with_experts() -> JobProfile:
    """Return a job whose products are experts'."""
    job = gpt_profile()
    experts = tuple(
        g.model_copy(update={"kind": "grouped_matmul"}) if g.kind == "matmul" and g.bytes_fixed else g
        for g in job.operations
    )
    return job.model_copy(update={"operations": experts})


def test_fsdp_divides_experts_over_all_devices_once() -> None:
    """Each of eight devices stores an eighth of all weights, whatever the group; one of a group of four gathers fewer."""
    moe, eight = with_experts(), 8 * ONE
    alone, spread = (memory_parts(moe, ONE, eight, SHARDED, split(expert=n)) for n in (1, 4))
    assert alone.weights_bytes[0] == pytest.approx(moe.parameter_bytes / 8)
    assert spread.weights_bytes[0] == alone.weights_bytes[0]
    assert spread.optimizer_bytes[0] == alone.optimizer_bytes[0] == moe.optimizer.state_bytes / 8
    assert spread.gradients_bytes[0] == alone.gradients_bytes[0]
    assert spread.temporary_bytes[0] < alone.temporary_bytes[0]


def test_experts_are_spread_over_their_group() -> None:
    """Each of four devices holds a quarter of the experts, and the rest whole."""
    moe = with_experts()
    whole, spread = (memory_parts(moe, ONE, 4 * ONE, WHOLE, split(expert=n)).weights_bytes[0] for n in (1, 4))
    assert whole == moe.parameter_bytes
    assert whole / 4 <= spread < 0.6 * whole


def test_the_last_stage_of_a_pipeline_has_the_logits_and_one_micro_batch() -> None:
    """The end of forward is its peak alone: the first stage keeps more micro-batches, without what the loss adds."""
    saved = gpt_profile().memory.saved_activation_bytes
    end = MemoryMoment(phase="backward", activation_bytes=3 * saved)
    middle = MemoryMoment(phase="backward", activation_bytes=saved - 1, gradient_bytes=1)
    passes = np.array([4])

    def activations_of(*moments: MemoryMoment) -> float:
        parts = memory_parts(watch_step(*moments), ONE, 4 * ONE, WHOLE, split(pipeline=4), passes)
        return float(parts.activations_bytes[0]) - gpt_profile().memory.input_bytes

    assert activations_of(end) == pytest.approx(saved / 4)
    assert activations_of(middle) == pytest.approx(saved - 1)


def test_the_last_stage_of_an_interleaved_pipeline_keeps_most_chunks() -> None:
    """With three chunks a device of four stages, the last one keeps nine of the twelve chunks where the loss is."""
    loss = MemoryMoment(phase="forward", activation_bytes=10**12)
    job = watch_step(loss)
    job = job.model_copy(update={"memory": job.memory.model_copy(update={"saved_activation_bytes": 10**12})})

    def compute_kept(chunks: int, passes: int = 16) -> float:
        plan = dataclasses.replace(split(pipeline=4), virtual=np.array([chunks]))
        return float(memory_parts(job, ONE, 4 * ONE, WHOLE, plan, np.array([passes])).activations_bytes[0])

    assert compute_kept(3) == pytest.approx(10**12 * 9 / 12, rel=1e-3)
    assert compute_kept(3, passes=1) == pytest.approx(compute_kept(1)), "a step of one micro-batch keeps one"


def test_a_core_with_its_own_memory_holds_a_replica_of_its_own() -> None:
    """A chip of two cores holds the state twice, and each sample once; sharded, it holds the state once."""
    job, two = gpt_profile(batch_size=8), 2 * ONE
    whole = memory_peak(job, ONE, ONE, WHOLE).parts
    cores = memory_peak(job, ONE, ONE, WHOLE, cores=two).parts
    assert cores.weights_bytes[0] == pytest.approx(2 * whole.weights_bytes[0])
    assert cores.optimizer_bytes[0] == pytest.approx(2 * whole.optimizer_bytes[0])
    assert cores.activations_bytes[0] == pytest.approx(whole.activations_bytes[0])
    shards = Shards.of_fsdp(8 * ONE, SHARDED)
    halves = memory_peak(job, ONE, 8 * ONE, SHARDED, shards=shards, cores=two).parts
    assert halves.optimizer_bytes[0] == pytest.approx(
        memory_peak(job, ONE, 8 * ONE, SHARDED, shards=shards).parts.optimizer_bytes[0]
    )


def test_a_core_has_at_least_one_whole_sample() -> None:
    """A micro-batch of one on two cores is one sample on each: half a sample cannot be trained."""
    job, two = gpt_profile(batch_size=8), 2 * ONE
    one = memory_peak(job, ONE / 8, ONE, WHOLE, cores=two).parts.activations_bytes[0]
    assert one == pytest.approx(memory_peak(job, ONE / 4, ONE, WHOLE, cores=two).parts.activations_bytes[0])


def test_a_job_must_fit_the_share_of_a_core() -> None:
    """State of 20 GiB fits a TPU v4 of 32 GiB, and not a TPU v3 of 32 GiB, whose two cores have 16 GiB each."""
    job = profile(batch_size=8)
    optimizer = job.optimizer.model_copy(update={"state_bytes": 19 * 2**30})
    job = job.model_copy(update={"optimizer": optimizer})
    assert predict_machine(job, "TPU-v4").verdict == "fits"
    answer = predict_machine(job, "TPU-v3")
    assert answer.verdict == "does not fit"
    assert sum(answer.memory_parts.model_dump().values()) == pytest.approx(answer.memory_bytes.mid)
