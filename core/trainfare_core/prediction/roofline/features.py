"""
What is known of an operation and of a device that nobody has measured: the inputs of the fitted efficiencies.

An efficiency is logistic(sum of coefficient x feature). A feature is named `subject:detail`; one that the fit never
saw has no coefficient and counts as zero, so an absent class falls back to its kind. Sizes are logarithms to base
2, clipped, so that no shape lies far outside of what was fitted.
"""

from __future__ import annotations

import math
from typing import Final, TypeAlias

from trainfare_core.hardware.accelerators import Accelerator
from trainfare_core.job_profile import OperationGroup

__all__ = [
    "TENSOR_KINDS",
    "Features",
    "compute_features",
    "device_compute_features",
    "device_memory_features",
    "layout_of",
    "log2_tiles",
    "memory_features",
]

Features: TypeAlias = tuple[tuple[str, float], ...]

TENSOR_KINDS: Final = frozenset(("matmul", "grouped_matmul", "convolution", "attention", "recurrent"))
"""Kinds that run on matrix units; all others run on vector units at the fp32 rate, whatever their dtype."""
_TILE: Final = 128
_LAYOUT_KINDS: Final = frozenset(("normalization", "pooling", "activation", "elementwise"))
_HALF: Final = frozenset(("fp16", "bf16"))
_TYPICAL_WATTS: Final = {"tensor": 1.0, "vector": 12.0}
"""Watts per dense TFLOP/s; what a device of unknown power counts as."""


def layout_of(groups: tuple[OperationGroup, ...]) -> str:
    """Return "nhwc" where most convolution FLOPs of a step run channels-last, "nchw" where not, "" without any."""
    last = sum(g.flops for g in groups if g.kind == "convolution" and len(g.shape) > 11 and g.shape[11])
    total = sum(g.flops for g in groups if g.kind == "convolution")
    if not total:
        return ""
    return "nhwc" if 2 * last > total else "nchw"


def compute_features(group: OperationGroup) -> Features:
    """Return what decides the share of the peak that an operation with FLOPs reaches, apart from the device."""
    found: list[tuple[str, float]] = [(f"kind:{group.kind}", 1.0)]
    if group.kind == "convolution" and len(group.shape) > 11:
        found += _convolution_features(group)
    elif group.kind in ("matmul", "grouped_matmul") and len(group.shape) == 4:
        batch, rows, columns, depth = group.shape
        if batch > 1:
            found.append(("matmul:batched", 1.0))
        found.append(("matmul:narrow", _short(min(rows, columns), 256)))
        found.append(("matmul:depth", _short(depth, 512)))
        if group.dtype in _HALF and any(size % 8 for size in (rows, columns, depth)):
            found.append(("matmul:misaligned", 1.0))
    if group.phase == "backward":
        found.append((f"backward:{group.kind}", 1.0))
    return tuple(found)


def _convolution_features(group: OperationGroup) -> list[tuple[str, float]]:
    _, c_in, c_out, groups, depth, height, width = group.shape[:7]
    last, kernel = bool(group.shape[11]), depth * height * width
    depthwise = groups > 1 and groups >= min(c_in, c_out)
    kind = "depthwise" if depthwise else "grouped" if groups > 1 else "dense"
    half = group.dtype in _HALF
    found = [(f"conv:{kind}", 1.0)] if kind != "dense" else []
    if last:
        found.append((f"nhwc:{kind}", 1.0))
    if kind == "dense":
        found.append(("conv:1x1" if kernel == 1 else "conv:3x3" if kernel == 9 else "conv:large", 1.0))
        found.append(("conv:narrow", _short(min(c_in, c_out), 256)))
        if half and (c_in % 8 or c_out % 8):
            found.append(("conv:misaligned", 1.0))
    else:
        found.append((f"{kind}:width", _short(c_in // groups, 64)))
        if kernel > 9:
            found.append((f"{kind}:large", math.log2(kernel / 9)))
            if last:
                found.append((f"nhwc:{kind}-large", math.log2(kernel / 9)))
    if depth > 1 or group.shape[7] > 1:
        found.append(("conv:3d", 1.0))
    elif group.shape[8] == 1 and height == 1 and width > 1:
        found.append(("conv:1d", 1.0))
    if group.name.endswith((".weight", ".input")):
        found.append((f"{group.name.rsplit('.', 1)[1]}:{kind}", 1.0))
    return found


def memory_features(group: OperationGroup, layout: str) -> Features:
    """Return what decides the share of the bandwidth that an operation reaches, apart from the device."""
    found: list[tuple[str, float]] = [(f"kind:{group.kind}", 1.0)]
    if group.kind == "convolution" and len(group.shape) > 11:
        _, c_in, c_out, groups, depth, height, width = group.shape[:7]
        kind = "dense" if groups == 1 else "depthwise" if groups >= min(c_in, c_out) else "grouped"
        found.append((f"conv:{kind}", 1.0))
        if depth * height * width > 1:
            found.append((f"conv:{kind}-wide", 1.0))
        if group.shape[11]:
            found.append((f"nhwc:{kind}", 1.0))
            if kind != "dense" and depth * height * width > 9:
                found.append((f"nhwc:{kind}-large", 1.0))
        if group.name.endswith((".weight", ".input")):
            found.append((f"{group.name.rsplit('.', 1)[1]}:{kind}", 1.0))
    elif group.phase == "backward":
        found.append((f"backward:{group.kind}", 1.0))
    if group.kind in _LAYOUT_KINDS and layout == "nhwc":
        found.append((f"nhwc:{group.kind}", 1.0))
    if group.kind in ("normalization", "softmax") and len(group.shape) == 2:
        what = "batchnorm" if "batch_norm" in group.name else group.kind
        if what == "batchnorm":
            found.append(("batchnorm", 1.0))
        else:
            found.append((f"{what}:short", _short(group.shape[1], 1024)))
    if group.kind == "copy" and group.name.rsplit(".", 1)[-1] in ("cat", "clone", "constant_pad_nd", "roll"):
        found.append(("copy:strided", 1.0))
    if group.dtype in _HALF and group.kind not in TENSOR_KINDS:
        found.append(("half", 1.0))
    return tuple(found)


def log2_tiles(group: OperationGroup) -> float:
    """Return log2 of how many 128 x 128 tiles of output one launch has; NaN where that is not known."""
    if group.kind in ("matmul", "grouped_matmul") and len(group.shape) == 4:
        batch, rows, columns, _ = group.shape
        return math.log2(batch * math.ceil(rows / _TILE) * math.ceil(columns / _TILE))
    if group.kind == "convolution" and len(group.shape) > 11 and not group.name.endswith(".weight"):
        images, _, c_out, groups, *_rest = group.shape
        pixels = images * math.prod(group.shape[7:10])
        return math.log2(groups * math.ceil(pixels / _TILE) * math.ceil(c_out / groups / _TILE))
    return math.nan


def device_compute_features(device: Accelerator, path: str) -> Features:
    """
    Return what predicts the sustained share of the peak of a device nobody has measured.

    A card with too little power for its peak cannot hold its clock, the watts a FLOP needs fall from year to year,
    and a peak that is high for the bandwidth is harder to reach.
    """
    candidates = ("bf16", "fp16", "tf32") if path == "tensor" else ("fp32",)
    peak = next((p for dtype in candidates if (p := device.peak_flops_per_s(dtype))), None)
    if not peak:
        return ()
    watts = device.power_w
    found = [("device:year", (device.release_year - 2020) / 5.0)]
    if watts:
        found.append(("device:watts", math.log(watts / (peak / 1e12) / _TYPICAL_WATTS[path])))
    flops_per_byte = peak / device.memory_bandwidth_bytes_per_s
    found.append(("device:ridge", math.log2(flops_per_byte / (150.0 if path == "tensor" else 20.0))))
    return tuple(found)


def device_memory_features(device: Accelerator) -> Features:
    """Return what predicts the sustained share of the bandwidth of a device nobody has measured."""
    found = [("device:year", (device.release_year - 2020) / 5.0)]
    found.append(("device:bandwidth", math.log2(device.memory_bandwidth_bytes_per_s / 1e12)))
    return tuple(found)


def _short(size: int, full: int) -> float:
    """Return log2(size / full) where size is smaller, 0 where not, at least -6."""
    return max(-6.0, min(0.0, math.log2(max(size, 1) / full)))
