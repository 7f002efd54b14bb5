"""What is known of an operation and of a device that nobody has measured."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from builders.plans import predict_one
from builders.profiles import operation, profile
from trainfare_core.hardware.accelerators import accelerator
from trainfare_core.job_profile import OperationGroup, ProfileSource
from trainfare_core.prediction.roofline.coefficients import PATHS, calibration
from trainfare_core.prediction.roofline.features import (
    compute_features,
    device_compute_features,
    layout_of,
    log2_tiles,
    memory_features,
)
from trainfare_core.prediction.roofline.operations import Operations, device_rates

DENSE = (64, 256, 256, 1, 1, 3, 3, 1, 28, 28, 1, 0)


def convolution(shape: tuple[int, ...] = DENSE, dtype: str = "fp16") -> OperationGroup:
    return operation(kind="convolution", name="aten.convolution", dtype=dtype, shape=shape)


def seconds_per_flop(group: OperationGroup, name: str = "A100-SXM-80GB") -> float:
    fit = calibration()
    return float(
        device_rates(
            accelerator(name), Operations.of(profile(operations=(group,)), fit), fit
        ).seconds_per_flop[0]
    )


def test_a_depthwise_or_grouped_convolution_is_less_efficient_than_a_dense_one() -> None:
    dense = seconds_per_flop(convolution())
    grouped = seconds_per_flop(convolution((64, 256, 256, 32, 1, 3, 3, 1, 28, 28, 1, 0)))
    depthwise = seconds_per_flop(convolution((64, 256, 256, 256, 1, 3, 3, 1, 28, 28, 1, 0)))
    assert 1.2 * dense < grouped
    assert 1.2 * dense < depthwise


def test_tensor_units_like_channels_last_and_whole_eights() -> None:
    dense = seconds_per_flop(convolution())
    assert seconds_per_flop(convolution((*DENSE[:-1], 1))) < dense
    assert ("conv:misaligned", 1.0) in compute_features(convolution((64, 256, 250, *DENSE[3:])))
    assert not any(name == "conv:misaligned" for name, _ in compute_features(convolution(dtype="fp32")))
    odd = operation(kind="matmul", dtype="bf16", shape=(1, 4096, 4096, 1001))
    assert ("matmul:misaligned", 1.0) in compute_features(odd)


def test_the_layout_is_that_of_most_convolution_flops() -> None:
    last = convolution((*DENSE[:-1], 1))
    few = convolution().model_copy(update={"flops": 1})
    assert layout_of((last, few)) == "nhwc"
    assert layout_of((convolution(), few)) == "nchw"
    assert layout_of((operation(kind="matmul"),)) == ""
    norm = operation(kind="normalization", name="aten.native_batch_norm", dtype="fp16", shape=(4096, 64))
    assert ("nhwc:normalization", 1.0) in memory_features(norm, "nhwc")
    assert not any(name.startswith("nhwc") for name, _ in memory_features(norm, "nchw"))


def test_a_class_that_was_never_fitted_counts_as_its_kind() -> None:
    fit = calibration()
    known = compute_features(operation(kind="matmul", shape=(1, 4096, 4096, 4096)))
    for path in PATHS:
        assert fit.compute_logit((*known, ("matmul:of-tomorrow", 1.0)), path) == fit.compute_logit(
            known, path
        )
    assert fit.memory_logit((("kind:of-tomorrow", 1.0),)) == 0.0


def test_few_tiles_leave_a_large_device_idle() -> None:
    """64 tiles fill an L4 and half of an H100: the H100 gains less on them than on a product that fills both."""
    small, large = (operation(kind="matmul", dtype="bf16", shape=(1, m, m, 4096)) for m in (1024, 8192))
    assert log2_tiles(small) == 6.0
    assert log2_tiles(large) == 12.0
    assert math.isnan(log2_tiles(operation(kind="elementwise")))
    gain = seconds_per_flop(small, "H100-SXM-80GB") / seconds_per_flop(small, "L4-24GB")
    assert gain > seconds_per_flop(large, "H100-SXM-80GB") / seconds_per_flop(large, "L4-24GB")


@pytest.mark.parametrize("path", PATHS)
def test_a_device_without_known_power_still_has_features(path: str) -> None:
    device = accelerator("A100-SXM-80GB")
    with_power = dict(device_compute_features(device, path))
    without = dict(device_compute_features(replace(device, power_w=None), path))
    assert set(with_power) - set(without) == {"device:watts"}
    assert (
        device_compute_features(
            replace(device, peaks_flops_per_s=(None,) * len(device.peaks_flops_per_s)), path
        )
        == ()
    )


def test_hosts_of_the_years_of_torch_1_issue_launches_more_slowly() -> None:
    small = operation(launches=10_000, flops=1, bytes_read=1, bytes_written=0)
    old, new = (
        predict_one(
            profile(
                operations=(small,), source=ProfileSource(how="fake", tool_version="0", torch_version=version)
            ),
            "V100-SXM2-16GB",
        ).step_s[0]
        for version in ("1.12", "2.8.0")
    )
    assert old > 1.3 * new


def test_backward_launches_cost_the_host_less_than_forward() -> None:
    forward, backward = (
        predict_one(
            profile(
                operations=(operation(launches=10_000, flops=1, bytes_read=1, bytes_written=0, phase=phase),)
            ),
            "H100-SXM-80GB",
        ).step_s[0]
        for phase in ("forward", "backward")
    )
    assert backward < forward
    assert np.isfinite(backward)
