"""Terms of the efficiencies of operations and of devices that were never measured."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from builders.plans import predict_one
from builders.profiles import operation, profile
from trainfare_core.hardware.accelerators import accelerator
from trainfare_core.job_profile import OperationGroup, ProfileSource
from trainfare_core.prediction.roofline.coefficients import calibration
from trainfare_core.prediction.roofline.features import (
    BRIEF,
    COMPILED_LOOP,
    PATHS,
    Path,
    compute_terms,
    device_compute_terms,
    device_memory_terms,
    layout_of,
    log2_tiles,
    measure_unfilled_waves,
    memory_terms,
    shape_at,
)
from trainfare_core.prediction.roofline.operations import Operations, Roofline
from trainfare_core.prediction.roofline.times import operation_seconds

DENSE = (64, 256, 256, 1, 1, 3, 3, 1, 28, 28, 1, 0)


def convolution(shape: tuple[int, ...] = DENSE, dtype: str = "fp16") -> OperationGroup:
    return operation(kind="convolution", name="aten.convolution", dtype=dtype, shape=shape)


def seconds_per_flop(group: OperationGroup, name: str = "A100-SXM-80GB") -> float:
    operations = Operations.of(
        profile(operations=(group.model_copy(update={"bytes_read": 0, "bytes_written": 0}),))
    )
    roofline = Roofline.of(accelerator(name), operations)
    return float(operation_seconds(operations, [roofline], 1.0, calibration()).compute_s[0, 0]) / group.flops


@pytest.mark.parametrize("groups", [1, 32, 256])
def test_each_term_of_a_convolutions_memory_counts_once(groups: int) -> None:
    """Its layout and its size too: a term is there or it is not."""
    terms = memory_terms(convolution((64, 256, 256, groups, 1, 5, 5, 1, 28, 28, 1, 1)), "nhwc")
    assert any("nhwc:" in name for name, _ in terms)
    assert {weight for _, weight in terms} == {1.0}


def test_a_depthwise_or_grouped_convolution_is_less_efficient_than_a_dense_one() -> None:
    dense = seconds_per_flop(convolution())
    grouped = seconds_per_flop(convolution((64, 256, 256, 32, 1, 3, 3, 1, 28, 28, 1, 0)))
    depthwise = seconds_per_flop(convolution((64, 256, 256, 256, 1, 3, 3, 1, 28, 28, 1, 0)))
    assert 1.1 * dense < grouped
    assert 1.2 * dense < depthwise


def test_the_logits_of_many_operations_are_those_of_each() -> None:
    fit, groups = (
        calibration(),
        (convolution(), operation(kind="matmul"), convolution(), convolution(dtype="bf16")),
    )
    terms = [compute_terms(group, "tensor") for group in groups]
    assert fit.logits(terms).tolist() == [fit.logit(term) for term in terms]
    assert fit.logits([]).shape == (0,)


def test_tensor_units_like_channels_last_and_whole_eights() -> None:
    dense = seconds_per_flop(convolution())
    assert seconds_per_flop(convolution((*DENSE[:-1], 1))) < dense
    assert ("tensor|conv:misaligned", 1.0) in compute_terms(convolution((64, 256, 250, *DENSE[3:])), "tensor")
    odd = (64, 256, 250, *DENSE[3:])
    for other in (
        compute_terms(convolution(odd, dtype="fp32"), "tensor"),
        compute_terms(convolution(odd), "vector"),
    ):
        assert not any(name.endswith("conv:misaligned") for name, _ in other), (
            "of matrix units in 16 bits alone"
        )


def product(rows: int, columns: int, depth: int) -> OperationGroup:
    return operation(kind="matmul", dtype="bf16", shape=(1, rows, columns, depth))


@pytest.mark.parametrize(
    ("sides", "halvings"),
    [
        ((4096, 4096, 4096), 0.0),
        ((16384, 16384, 16384), 0.0),
        ((2048, 2048, 2048), -1.0),
        ((8192, 1024, 1024), -1.0),
    ],
)
def test_a_product_is_as_large_as_the_geometric_mean_of_its_sides(
    sides: tuple[int, int, int], halvings: float
) -> None:
    """Up to 4,096; below it each halving costs efficiency, and no side alone decides."""
    terms = dict(compute_terms(product(*sides), "tensor"))
    assert terms["shared|matmul:size"] == pytest.approx(halvings)


def test_a_small_product_uses_less_of_the_peak_than_a_large_one() -> None:
    """With full waves of tiles both, and a reduction that no library splits."""
    large, small = (seconds_per_flop(product(16384, side, side)) for side in (1920, 512))
    assert small > 1.05 * large


@pytest.mark.parametrize("kind", ["matmul", "attention"])
def test_products_of_the_backward_pass_reach_the_share_of_the_peak_of_forward_ones(kind: str) -> None:
    """No term of their own: most made what was left out of the fit worse."""
    forward = operation(kind=kind, dtype="bf16", shape=(1, 4096, 1024, 512))
    backward = forward.model_copy(update={"phase": "backward"})
    assert compute_terms(backward, "tensor") == compute_terms(forward, "tensor")


def test_kernels_above_nine_and_other_dimensions_have_terms_of_their_own() -> None:
    """Of a depthwise convolution of 7 x 7 in channels last, in compute and in memory; of 1 and 3 dimensions; of gradients."""
    wide = convolution((64, 256, 256, 256, 1, 7, 7, 1, 28, 28, 1, 1))
    large = math.log2(49 / 9)
    assert {("shared|depthwise:large", large), ("shared|nhwc:depthwise-large", large)} <= set(
        compute_terms(wide, "tensor")
    )
    assert {name for name, _ in memory_terms(wide, "nhwc")} >= {
        "memory|conv:depthwise-wide", "memory|nhwc:depthwise", "memory|nhwc:depthwise-large",
    }  # fmt: skip
    for shape, name in (
        ((8, 64, 64, 1, 3, 3, 3, 8, 28, 28, 1, 0), "conv:3d"),
        ((8, 64, 64, 1, 1, 1, 3, 1, 1, 512, 1, 0), "conv:1d"),
    ):
        assert (f"tensor|{name}", 1.0) in compute_terms(convolution(shape), "tensor")
    for groups, kind in ((1, "dense"), (32, "grouped"), (256, "depthwise")):
        weights = convolution((64, 256, 256, groups, *DENSE[4:])).model_copy(
            update={"name": "aten.convolution_backward.weight", "phase": "backward"}
        )
        terms = {*compute_terms(weights, "tensor"), *memory_terms(weights, "nchw")}
        of_weights = {(f"shared|weight:{kind}", 1.0), (f"memory|weight:{kind}", 1.0)}
        assert terms & of_weights == (of_weights if kind != "depthwise" else set())


def test_the_layout_is_that_of_most_convolution_flops() -> None:
    last = convolution((*DENSE[:-1], 1))
    few = convolution().model_copy(update={"flops": 1})
    assert layout_of((last, few)) == "nhwc"
    assert layout_of((convolution(), few)) == "nchw"
    assert layout_of((operation(kind="matmul"),)) == ""
    norm = operation(kind="normalization", name="aten.native_batch_norm", dtype="fp16", shape=(4096, 64))
    assert ("memory|nhwc:normalization", 1.0) in memory_terms(norm, "nhwc")
    assert not any("nhwc" in name for name, _ in memory_terms(norm, "nchw"))


def test_a_class_that_was_never_fitted_counts_as_its_kind() -> None:
    fit = calibration()
    for path in PATHS:
        known = compute_terms(operation(kind="matmul", shape=(1, 4096, 4096, 4096)), path)
        assert fit.logit((*known, (f"{path}|matmul:unheard-of", 1.0))) == fit.logit(known)
    assert fit.logit((("memory|kind:unheard-of", 1.0),)) == 0.0


def test_the_shape_of_a_product_grows_where_its_weights_are_not() -> None:
    """Tokens are the size that the fixed bytes, the weights', do not contain: rows, or the depth of their gradient."""
    forward = operation(shape=(1, 512, 768, 1024), bytes_fixed=2 * 768 * 1024)
    gradient = operation(phase="backward", shape=(1, 768, 1024, 512), bytes_fixed=2 * 768 * 1024)
    scores = operation(shape=(96, 128, 128, 64), bytes_fixed=0)
    assert shape_at(forward, 1 / 16) == (1, 32, 768, 1024)
    assert shape_at(gradient, 1 / 16) == (1, 768, 1024, 32)
    assert shape_at(scores, 0.5) == (48, 128, 128, 64)
    assert shape_at(convolution(), 4.0) == (256, *DENSE[1:])
    assert shape_at(convolution(), 1e-9)[0] == 1
    for group in (operation(phase="optimizer"), operation(kind="softmax", shape=(4096, 64))):
        assert shape_at(group, 4.0) == group.shape


def test_few_tiles_leave_a_large_device_idle() -> None:
    """64 tiles fill an L4 and half of an H100: the H100 gains less on them than on a product that fills both."""
    small, large = (operation(kind="matmul", dtype="bf16", shape=(1, m, m, 1024)) for m in (1024, 8192))
    assert log2_tiles(small) == 6.0
    assert log2_tiles(large) == 12.0
    deep = operation(kind="matmul", dtype="fp16", shape=(1, 256, 256, 1_048_576))
    assert log2_tiles(deep) == 2 + 9  # 4 tiles, 512 thread blocks on each
    assert log2_tiles(operation(kind="matmul", dtype="fp16", shape=(1, 256, 256, 2047))) == 2
    layer = operation(kind="recurrent", dtype="fp16", shape=(128, 32, 1024, 1024, 1, 1))
    assert (log2_tiles(layer), log2_tiles(layer, 8.0)) == (5, 8)  # 4,096 gates; eight times the batch
    assert math.isnan(log2_tiles(operation(kind="elementwise")))
    for empty in ((0, 8, 8, 8), (1, 0, 8, 8), (1, 8, 0, 8)):
        assert math.isnan(log2_tiles(operation(kind="matmul", shape=empty)))
    assert math.isnan(log2_tiles(operation(kind="convolution", shape=(1, 8, 8, 0, *[1] * 8))))
    gain = seconds_per_flop(small, "H100-SXM-80GB") / seconds_per_flop(small, "L4-24GB")
    assert gain > seconds_per_flop(large, "H100-SXM-80GB") / seconds_per_flop(large, "L4-24GB")


@pytest.mark.parametrize("path", PATHS)
def test_convolutions_of_a_generation_have_a_term_of_their_own(path: Path) -> None:
    device = accelerator("H100-SXM-80GB")
    with_term = dict(device_compute_terms(device, path, convolution=True))
    assert set(with_term) - set(dict(device_compute_terms(device, path))) == {
        f"{path}|gen-convolution:hopper"
    }


def test_one_tile_leaves_most_of_a_gpu_idle_and_fills_the_matrix_unit_of_a_tpu() -> None:
    tiles = np.array([0.0, 5.0, math.nan])
    devices = [accelerator(name) for name in ("A100-SXM-80GB", "TPU-v4", "Gaudi2", "Trainium1")]
    gpu, *others = measure_unfilled_waves(tiles, devices)
    assert gpu.tolist() == [-4.0, 5 - math.log2(108), 0.0]
    assert not np.any(others)


def memory_s(group: OperationGroup, name: str = "A100-SXM-80GB") -> float:
    operations = Operations.of(profile(operations=(group,)))
    roofline = Roofline.of(accelerator(name), operations)
    return float(operation_seconds(operations, [roofline], 1.0, calibration()).memory_s[0, 0])


def test_a_kernel_of_a_few_microseconds_does_not_use_all_bandwidth_and_more_bytes_never_take_less_time() -> (
    None
):
    """Below ln 2 a doubling of the bytes costs less efficiency than the bytes gain: seconds grow with bytes."""
    shipped = calibration().coefficients
    assert 0.3 < shipped[BRIEF] < shipped[BRIEF] - shipped["memory|device:bandwidth"] < math.log(2)
    sizes = [2**power for power in range(12, 30)]
    values = [memory_s(operation(kind="elementwise", flops=0, bytes_read=n, bytes_written=0)) for n in sizes]
    assert values == sorted(values)
    assert values[0] / sizes[0] > 2 * values[-1] / sizes[-1]
    assert memory_s(
        operation(kind="elementwise", flops=0, bytes_read=64 * 2**20, bytes_written=0, launches=256)
    ) > 1.5 * memory_s(operation(kind="elementwise", flops=0, bytes_read=64 * 2**20, bytes_written=0))


def test_brief_products_have_terms_of_their_shape_alone() -> None:
    small, large = (
        operation(
            kind="matmul", dtype="bf16", shape=(1, 512, 512, 512), flops=1, bytes_read=n, bytes_written=0
        )
        for n in (2**16, 2**28)
    )
    assert memory_s(small) / 2**16 == pytest.approx(memory_s(large) / 2**28)


def test_a_graph_compiler_unrolls_recurrent_layers() -> None:
    layer = operation(kind="recurrent", dtype="bf16", shape=(128, 32, 1024, 1024, 1, 1))
    operations = Operations.of(profile(operations=(layer,)))
    fit = calibration()
    assert fit.coefficients[COMPILED_LOOP] < 0
    plain = fit.model_copy(update={"coefficients": {**fit.coefficients, COMPILED_LOOP: 0.0}})
    for name, slower in (("TPU-v3", True), ("A100-SXM-80GB", False)):
        roofline = Roofline.of(accelerator(name), operations)
        with_loop, without = (
            operation_seconds(operations, [roofline], 1.0, which).compute_s[0, 0] for which in (fit, plain)
        )
        assert bool(with_loop > 1.5 * without) == slower
        assert bool(with_loop == without) != slower


@pytest.mark.parametrize("path", PATHS)
def test_a_geforce_card_exceeds_the_clock_that_its_peak_is_stated_for(path: Path) -> None:
    card = accelerator("RTX-3090")
    plain = replace(card, consumer=False)
    assert set(device_compute_terms(card, path)) - set(device_compute_terms(plain, path)) == {
        (f"{path}|device:consumer", 1.0)
    }
    assert set(device_memory_terms(card)) - set(device_memory_terms(plain)) == {
        ("memory|device:consumer", 1.0)
    }
    fit = calibration()
    assert fit.coefficients[f"{path}|device:consumer"] > 0
    assert fit.coefficients["memory|device:consumer"] > 0


@pytest.mark.parametrize("path", PATHS)
def test_a_device_without_known_power_still_has_terms(path: Path) -> None:
    device = accelerator("A100-SXM-80GB")
    with_power = dict(device_compute_terms(device, path))
    without = dict(device_compute_terms(replace(device, power_w=None), path))
    assert set(with_power) - set(without) == {f"{path}|device:watts"}
    nothing = replace(device, peaks_flops_per_s=(None,) * len(device.peaks_flops_per_s))
    assert not any("device:" in name for name, _ in device_compute_terms(nothing, path))


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
