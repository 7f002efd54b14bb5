"""The roofline of a step: never beaten, monotone in the device, proportional in the job."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders.plans import predict_one
from builders.profiles import gpt_profile, operation, profile
from trainfare_core.hardware.accelerator_rows import Accelerator
from trainfare_core.hardware.accelerators import accelerator, accelerators
from trainfare_core.job_profile import JobProfile, ProfileSource
from trainfare_core.prediction.roofline.coefficients import calibration
from trainfare_core.prediction.roofline.features import TENSOR_KINDS
from trainfare_core.prediction.roofline.host import host_bound, host_launch_s
from trainfare_core.prediction.roofline.operations import Operations, Roofline
from trainfare_core.prediction.roofline.times import operation_seconds, operation_times

GPUS = tuple(device for device in accelerators() if device.kind == "gpu")
KINDS = (
    "matmul",
    "convolution",
    "attention",
    "normalization",
    "elementwise",
    "optimizer",
    "embedding",
    "unknown",
)


def device_seconds(job: JobProfile, device: Accelerator, ratio: float = 1.0) -> float:
    """Return the device time of one step on a device that need not be in the catalogue."""
    fit = calibration()
    operations = Operations.of(job)
    return float(operation_seconds(operations, [Roofline.of(device, operations)], ratio, fit).total_s.sum())


@pytest.mark.parametrize("ratio", [0.25, 1.0, 8.0])
def test_no_efficiency_exceeds_one(ratio: float) -> None:
    """On every accelerator of the catalogue, whatever its features, every operation sustains less than the peaks."""
    operations = Operations.of(gpt_profile())
    rooflines = [Roofline.of(device, operations) for device in accelerators()]
    seconds = operation_seconds(operations, rooflines, ratio, calibration())
    assert (seconds.compute_s + seconds.memory_s >= seconds.floor_s).all()


def test_a_device_takes_among_all_others_what_it_takes_alone() -> None:
    """Of 3,000 operations, whose arrays hold ten devices at a time; at two micro-batches, and none of one device."""
    phases = ("forward", "backward", "optimizer")
    groups = [operation(shape=(1, 64 + i, 64, 64), phase=phases[i % 3], flops=10**9 + i) for i in range(3000)]
    operations = Operations.of(profile(operations=tuple(groups)))
    rooflines = [Roofline.of(device, operations) for device in GPUS]
    device = np.repeat(np.arange(len(GPUS)), 2)
    ratio = np.tile([1.0, 2.0], len(GPUS))
    ratio[-1] = math.nan
    together = operation_times(operations, rooflines, device, ratio, calibration())
    assert np.isnan(together.total_s[:, -1]).all()
    for i in (0, 21, len(ratio) - 2):
        alone = operation_times(
            operations, [rooflines[device[i]]], np.zeros(1, dtype=np.int64), ratio[i : i + 1], calibration()
        )
        for name in ("compute_s", "memory_s", "launch_s", "floor_s"):
            assert getattr(together, name)[:, i] == pytest.approx(getattr(alone, name)[:, 0], rel=1e-12), name


@pytest.mark.parametrize("dtype", ["bf16", "fp16", "tf32"])
def test_no_step_beats_the_roofline(dtype: str) -> None:
    """A step takes at least sum(max(FLOPs / peak, bytes / bandwidth)) of the types the device really has."""
    job = gpt_profile(dtype=dtype, batch_size=64)
    for device in GPUS:
        floor_s = 0.0
        for group in job.operations:
            wanted = group.dtype if group.kind in TENSOR_KINDS else "fp32"
            peak = device.peak_flops_per_s(wanted) or device.peak_flops_per_s("fp32")
            assert peak
            floor_s += max(group.flops / peak, group.bytes_moved / device.memory_bandwidth_bytes_per_s)
        assert device_seconds(job, device) >= floor_s, device.name


def test_full_precision_3x3_convolutions_may_need_fewer_flops() -> None:
    """Winograd's saving is at most 4 and applies to fp32, 3x3, stride 1, one group: nothing else."""
    shape = (64, 256, 256, 1, 1, 3, 3, 1, 28, 28, 1, 0)
    plain = operation(
        kind="convolution", dtype="fp32", shape=shape, flops=10**13, bytes_read=0, bytes_written=0
    )
    variants = {
        "stride 2": plain.model_copy(update={"shape": (*shape[:10], 2, 0)}),
        "1x1": plain.model_copy(update={"shape": (*shape[:5], 1, 1, *shape[7:])}),
    }
    device = accelerator("V100-SXM2-16GB")
    fast_s = device_seconds(profile(operations=(plain,)), device)
    for name, variant in variants.items():
        assert fast_s <= device_seconds(profile(operations=(variant,)), device), name
    stride_s = device_seconds(profile(operations=(variants["stride 2"],)), device)
    assert stride_s <= 4 * fast_s * 1.001
    assert 1 / 4 <= calibration().overhead.winograd_flops_share < 1


@given(
    kind=st.sampled_from(KINDS),
    dtype=st.sampled_from(["fp32", "bf16", "tf32"]),
    flops=st.integers(0, 10**15),
    moved=st.integers(0, 10**12),
    factor=st.floats(1.01, 20),
    device=st.sampled_from(GPUS),
)
@settings(max_examples=60, deadline=None)
def test_a_better_device_is_never_slower(
    kind: str, dtype: str, flops: int, moved: int, factor: float, device: Accelerator
) -> None:
    """More bandwidth, or a higher peak at the same power per FLOP, never makes an operation slower."""
    job = profile(
        operations=(operation(kind=kind, dtype=dtype, flops=flops, bytes_read=moved, bytes_written=0),)
    )
    base_s = device_seconds(job, device)
    wide = replace(device, memory_bandwidth_bytes_per_s=device.memory_bandwidth_bytes_per_s * factor)
    assert device_seconds(job, wide) <= base_s * (1 + 1e-12)
    peaks = tuple(peak and peak * factor for peak in device.peaks_flops_per_s)
    strong = replace(device, peaks_flops_per_s=peaks, power_w=device.power_w and device.power_w * factor)
    assert device_seconds(job, strong) <= base_s * (1 + 1e-12)


@given(scale=st.integers(2, 1000), kind=st.sampled_from(KINDS))
@settings(max_examples=30, deadline=None)
def test_time_is_proportional_to_work(scale: int, kind: str) -> None:
    """FLOPs, bytes and launches times n is time times n: a group of n launches is n groups of one."""
    group = operation(kind=kind)
    many = group.model_copy(
        update={
            name: getattr(group, name) * scale
            for name in ("launches", "flops", "bytes_read", "bytes_written")
        }
    )
    device = accelerator("A100-SXM-80GB")
    single_s = device_seconds(profile(operations=(group,)), device)
    assert device_seconds(profile(operations=(many,)), device) == pytest.approx(scale * single_s)


@given(samples=st.integers(1, 63))
@settings(max_examples=30, deadline=None)
def test_a_smaller_micro_batch_saves_less_than_its_share(samples: int) -> None:
    """Weights, launches and the optimizer do not shrink: time falls, but slower than the micro-batch."""
    job, device, ratio = gpt_profile(batch_size=64), accelerator("H100-SXM-80GB"), samples / 64
    full_s, part_s = device_seconds(job, device), device_seconds(job, device, ratio)
    assert ratio * full_s < part_s < full_s


def test_only_batch_bytes_and_flops_scale() -> None:
    """An operation of nothing but weights' bytes takes the same time at any micro-batch."""
    fixed = operation(kind="copy", flops=0, bytes_read=10**9, bytes_written=0, bytes_fixed=10**9)
    device = accelerator("A100-SXM-80GB")
    job = profile(operations=(fixed,))
    assert device_seconds(job, device, 0.25) == device_seconds(job, device, 4.0)


def test_gradient_accumulation_repeats_all_but_the_optimizer() -> None:
    """Four micro-batches of a quarter cost more than one whole, by the weights and launches read again."""
    job = profile(operations=(operation(), operation(kind="optimizer", phase="optimizer", dtype="fp32")))
    whole = predict_one(job, "A100-SXM-80GB")
    split = predict_one(job, "A100-SXM-80GB", accumulate=4)
    parts = [
        device_seconds(profile(operations=(group,)), accelerator("A100-SXM-80GB")) for group in job.operations
    ]
    assert whole.step_s[0] == pytest.approx(sum(parts), rel=1e-3)
    assert split.step_s[0] == pytest.approx(4 * parts[0] + parts[1], rel=1e-3)


def test_a_step_of_tiny_operations_is_held_up_by_its_host() -> None:
    """Ten thousand launches of nothing take as long as the host needs to issue them, on any GPU alike."""
    job = profile(operations=(operation(launches=10_000, flops=1, bytes_read=1, bytes_written=0),))
    host_s = 10_000 * calibration().overhead.host_launch_s
    for name in ("T4-16GB", "H100-SXM-80GB", "B200-SXM-180GB"):
        table = predict_one(job, name)
        assert host_s <= table.step_s[0] < 1.1 * host_s
        assert table.launch_s[0] > 0.99 * table.step_s[0]


def test_a_compiled_step_is_faster_and_less_certain() -> None:
    """torch.compile fuses pointwise operations: fewer bytes and launches, a wider interval."""
    eager = gpt_profile()
    compiled = gpt_profile(source=ProfileSource(how="fake", tool_version="0", compiled=True))
    before, after = predict_one(eager, "A100-SXM-80GB"), predict_one(compiled, "A100-SXM-80GB")
    assert after.step_s[0] < before.step_s[0]
    assert after.log_sigma[0] > before.log_sigma[0]


@given(device=st.floats(1e-6, 10), host=st.floats(0, 10))
def test_the_host_bound_is_at_least_both_and_at_most_a_fifth_more(device: float, host: float) -> None:
    """The step is never shorter than device or host, nor much longer than the slower of them."""
    held = float(host_bound(np.array([device]), np.array([host]))[0])
    assert max(device, host) * (1 - 1e-12) <= held <= 1.2 * max(device, host)


def test_a_recurrent_layer_waits_for_every_time_step() -> None:
    """100 and 400 steps of 2 layers: 600 kernels more in a row, whatever the batch; the host issues one call."""
    card = accelerator("A100-SXM-80GB")
    short, long = (
        profile(
            operations=(
                operation(
                    kind="recurrent", name="aten._cudnn_rnn", shape=(8, steps, 512, 512, 2, 1), flops=1
                ),
            )
        )
        for steps in (100, 400)
    )
    waited = device_seconds(long, card) - device_seconds(short, card)
    assert waited == pytest.approx(600 * calibration().overhead.device_launch_s, rel=1e-3)
    fit = calibration()
    first, second = (float(host_launch_s(Operations.of(job), [card], fit).sum()) for job in (short, long))
    assert first == second


@pytest.mark.parametrize(("dtype", "used"), [("bf16", "fp32"), ("tf32", "fp32")])
def test_a_type_the_gpu_lacks_runs_at_its_fp32_rate(dtype: str, used: str) -> None:
    """A V100 computes bf16 and tf32 with its fp32 units; only bf16 is called an emulation."""
    device, fit = accelerator("V100-SXM2-16GB"), calibration()
    assert device.peak_flops_per_s(dtype) is None
    shape = (1, 4096, 4096, 4096)
    lacking, present = (
        Operations.of(profile(operations=(operation(dtype=wanted, shape=shape),))) for wanted in (dtype, used)
    )
    roofline = Roofline.of(device, lacking)
    values, other = (
        operation_seconds(operations, [Roofline.of(device, operations)], 1.0, fit).compute_s
        for operations in (lacking, present)
    )
    assert values[0, 0] == other[0, 0]
    assert roofline.emulated is (dtype == "bf16")
    assert bool(roofline.notes) is (dtype == "bf16")


def test_fp8_has_no_answer_where_there_is_no_fp8() -> None:
    """An A100 has no fp8 arithmetic: no prediction, with the reason, rather than another type's."""
    job = profile(operations=(operation(dtype="fp8"),))
    table = predict_one(job, "A100-SXM-80GB")
    assert np.isnan(table.step_s[0])
    assert "A100-SXM-80GB has no fp8 arithmetic" in str(table.unknown_because[0])
    assert np.isfinite(predict_one(job, "H100-SXM-80GB").step_s[0])


def test_packed_values_of_four_bits_have_no_answer_anywhere() -> None:
    """Torch counts a pair of them as one element, so a trace has half the FLOPs of their products."""
    job = profile(operations=(operation(dtype="float4_e2m1fn_x2"),))
    for name in ("A100-SXM-80GB", "B200-SXM-180GB"):
        table = predict_one(job, name)
        assert np.isnan(table.step_s[0])
        assert "4-bit values packed in pairs" in str(table.unknown_because[0])


def test_optimizer_time_does_not_depend_on_the_batch() -> None:
    """Optimizer FLOPs and bytes stay at any micro-batch, even those not marked as fixed."""
    update = operation(kind="optimizer", phase="optimizer", dtype="fp32", bytes_fixed=0)
    job, device = profile(operations=(update,)), accelerator("A100-SXM-80GB")
    assert device_seconds(job, device, 0.1) == device_seconds(job, device, 10.0)
