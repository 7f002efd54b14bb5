"""
Names and values of what decides an operation's efficiency: the terms of the fitted logits.

An efficiency is logistic(sum of coefficient x term). A term is named `part|subject:detail`; `part` is the arithmetic
path ("vector": fp32 and fp64, "tensor": everything narrower), "shared" (both paths) or "memory". A term that the fit
never had counts as zero, so an unknown class falls back to its kind. Sizes are logarithms to base 2, clipped,
so that no shape lies far outside of what was fitted. Shapes that depend on the micro-batch are those of the
micro-batch that is asked for, so a scaled profile and one traced at that size have the same terms.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from trainfare_core.hardware.accelerator_rows import Accelerator
from trainfare_core.job_profile import OperationGroup

Terms: TypeAlias = tuple[tuple[str, float], ...]
Path: TypeAlias = Literal["vector", "tensor"]
PATHS: Final[tuple[Path, ...]] = ("vector", "tensor")

TENSOR_KINDS: Final = frozenset(("matmul", "grouped_matmul", "convolution", "attention", "recurrent"))
"""Kinds that run on matrix units; all others run on vector units at the fp32 rate, whatever their dtype."""
WAVES: Final = "shared|waves"
"""How far an operation with less than one wave of tiles leaves the device idle."""
BRIEF: Final = "memory|brief"
"""How short a kernel is: one of a few microseconds ends before all of the memory's bandwidth is in use."""
COMPILED_LOOP: Final = "tensor|recurrent:compiled"
"""A recurrent layer behind a graph compiler: a loop of products, with no kernel that keeps its weights on chip."""
CONSTANT: Final = "1"

_TILE: Final = 128
"""Edge of one thread block's output tile in the large GEMM kernels of cuBLAS and CUTLASS."""
_SPLIT_DEPTH: Final = 2048
"""Depth of a reduction from which several thread blocks share one tile of output (split-K), each with so much of it."""
_GATES: Final = 4
"""Of an LSTM's unit; a GRU has three."""
_LAYOUT_KINDS: Final = frozenset(("normalization", "pooling", "activation", "elementwise"))
_HALF: Final = frozenset(("fp16", "bf16"))
_BYTES: Final = {"fp64": 8, "fp32": 4, "tf32": 4, "fp8": 1, "mxfp8": 1, "fp4": 0.5, "int8": 1}
"""Bytes of one element; every other matrix type has 2."""
_TYPICAL_WATTS: Final = {"tensor": 1.0, "vector": 12.0}
"""Watts per dense TFLOP/s: the zero of `device:watts`, and what a device of unknown power counts as."""
_FULL_PRODUCT, _FULL_WIDTH, _FULL_GROUP, _FULL_ROW = 4096, 256, 64, 1024
"""
Sizes from which an operation counts as large: smaller products (geometric mean of the three sides of one), narrower
convolutions, groups and rows have a term that grows with every halving. Chosen values; the coefficients are fitted
around them.
"""
_TYPICAL_SM_COUNT: Final = 100
"""Multiprocessors of a device whose number is not in the catalogue; between a V100 (80) and an H100 (132)."""
_LEAST_FILL: Final = -4.0
"""Less than 1/16 of one wave of tiles counts as 1/16: the term is fitted on hardly anything smaller."""
_SHORTEST: Final = -6.0
"""Sizes below 1/64 of the full one count as 1/64, so that no term grows without bound. A chosen value."""
_KEPT: Final = 4_096
"""Operations whose terms are kept: a step repeats its layers, and the same step is predicted again. At most 7 MB."""
_PRODUCTS: Final = frozenset(("matmul", "grouped_matmul"))
_OF_ROWS: Final = frozenset(("normalization", "softmax"))
"""Kinds whose shape, where it has two sizes, is that of rows and of the elements of one."""


def layout_of(groups: tuple[OperationGroup, ...]) -> str:
    """Return "nhwc" where most convolution FLOPs of a step run channels-last, "nchw" where not, "" without any."""
    last = sum(g.flops for g in groups if g.kind == "convolution" and len(g.shape) > 11 and g.shape[11])
    total = sum(g.flops for g in groups if g.kind == "convolution")
    if not total:
        return ""
    return "nhwc" if 2 * last > total else "nchw"


def shape_at(group: OperationGroup, ratio: float) -> tuple[int, ...]:
    """
    Return an operation's shape at another micro-batch.

    Args:
        group: as profiled; optimizer operations do not depend on the batch.
        ratio: micro-batch over the profile's.
    """
    axis = _batch_axis(group) if ratio != 1.0 else None
    if axis is None:
        return group.shape
    size = max(1, round(group.shape[axis] * ratio))
    return (*group.shape[:axis], size, *group.shape[axis + 1 :])


def _batch_axis(group: OperationGroup) -> int | None:
    """
    Return the axis of `group.shape` that grows with the micro-batch; None where no term depends on one.

    In a product of (m x k) and (k x n) with weights, two of the three sizes are those of the weights, whose bytes the
    profile marks as fixed; the third is the tokens or samples. Products without weights are batched.
    """
    if group.phase == "optimizer":
        return None
    if group.kind == "recurrent" or (group.kind == "convolution" and len(group.shape) > 11):
        return 0
    if group.kind == "grouped_matmul" and len(group.shape) == 4:
        return 1
    if group.kind != "matmul" or len(group.shape) != 4:
        return None
    batch, m, n, k = group.shape
    if not group.bytes_fixed or batch > 1:
        return 0
    weights = group.bytes_fixed / (max(group.launches, 1) * _BYTES.get(group.dtype, 2))
    distance = {
        axis: abs(math.log(max(size, 1) / weights)) for axis, size in ((1, n * k), (3, m * n), (2, m * k))
    }
    return min(distance, key=distance.__getitem__)


def serial_kernels(group: OperationGroup) -> int:
    """Return kernels of which none can start before the one ahead of it has ended."""
    if group.kind == "recurrent" and len(group.shape) == 6:
        _, steps, _, _, layers, _ = group.shape
        return group.launches * max(steps * layers, 1)
    return group.launches


def uses_winograd(group: OperationGroup) -> bool:
    """Whether cuDNN may run a convolution with fewer multiplications: 3x3, stride 1, one group, full precision."""
    if group.kind != "convolution" or group.dtype != "fp32" or len(group.shape) < 11:
        return False
    _, _, _, groups, depth, height, width, _, _, _, stride = group.shape[:11]
    return (groups, depth, height, width, stride) == (1, 1, 3, 3, 1)


def measure_unfilled_waves(tiles: NDArray[np.float64], devices: Sequence[Accelerator]) -> NDArray[np.float64]:
    """
    Return how far less than one wave of tiles fills each device: log2, 0 where it is full or not known.

    Devices behind a graph compiler have a few large matrix units each, which one tile fills.

    Args:
        tiles: of `log2_tiles`, shape (operations,).
        devices: n of them; the result has shape (n, operations).
    """
    units = np.array(
        [math.log2(d.sm_count or _TYPICAL_SM_COUNT) if d.kind == "gpu" else -math.inf for d in devices]
    )
    known = np.nan_to_num(tiles, nan=math.inf)
    return np.asarray(np.clip(known - units[:, None], _LEAST_FILL, 0.0))


def compute_terms(group: OperationGroup, path: Path, ratio: float = 1.0) -> Terms:
    """Return what decides the share of the peak that an operation with FLOPs reaches, apart from the device."""
    sized = group.kind == "convolution" or group.kind in _PRODUCTS
    shape = shape_at(group, ratio) if sized else ()
    return _compute_terms(group.kind, group.name, group.dtype, shape, path)


@lru_cache(maxsize=_KEPT)
def _compute_terms(kind: str, name: str, dtype: str, shape: tuple[int, ...], path: Path) -> Terms:
    terms: list[tuple[str, float]] = []
    if kind == "convolution" and len(shape) > 11:
        terms = _convolution_terms(name, shape, narrow=dtype in _HALF and path == "tensor")
    elif kind in _PRODUCTS and len(shape) == 4:
        batch, rows, columns, depth = shape
        if batch > 1:
            terms.append(("matmul:batched", 1.0))
        terms.append(("matmul:size", _short(round((rows * columns * depth) ** (1 / 3)), _FULL_PRODUCT)))
    of_shape = ((f"{path if _differs_by_path(term) else 'shared'}|{term}", value) for term, value in terms)
    return (f"{path}|kind:{kind}", 1.0), *of_shape


def _differs_by_path(name: str) -> bool:
    """Return whether a term of the shape has a coefficient of its own on each arithmetic path."""
    return name.startswith(("conv:1d", "conv:3d", "conv:misaligned"))


def _convolution_terms(name: str, shape: tuple[int, ...], *, narrow: bool) -> list[tuple[str, float]]:
    """Return the terms of a convolution; `narrow`: of 16 bits on matrix units, which take channels by eights."""
    _, c_in, c_out, groups, depth, height, width = shape[:7]
    last, kernel = bool(shape[11]), depth * height * width
    kind = _convolution_kind(c_in, c_out, groups)
    terms = [(f"conv:{kind}", 1.0)] if kind != "dense" else []
    if last:
        terms.append((f"nhwc:{kind}", 1.0))
    if kind == "dense":
        terms.append(("conv:1x1" if kernel == 1 else "conv:3x3" if kernel == 9 else "conv:large", 1.0))
        terms.append(("conv:narrow", _short(min(c_in, c_out), _FULL_WIDTH)))
        if narrow and (c_in % 8 or c_out % 8):
            terms.append(("conv:misaligned", 1.0))
    else:
        terms.append((f"{kind}:width", _short(c_in // groups, _FULL_GROUP)))
        if kernel > 9:
            terms.append((f"{kind}:large", math.log2(kernel / 9)))
            if last:
                terms.append((f"nhwc:{kind}-large", math.log2(kernel / 9)))
    if depth > 1 or shape[7] > 1:
        terms.append(("conv:3d", 1.0))
    elif shape[8] == 1 and height == 1 and width > 1:
        terms.append(("conv:1d", 1.0))
    if kind != "depthwise" and name.endswith((".weight", ".input")):
        terms.append((f"{name.rsplit('.', 1)[1]}:{kind}", 1.0))
    return terms


def _convolution_kind(c_in: int, c_out: int, groups: int) -> str:
    if groups == 1:
        return "dense"
    return "depthwise" if groups >= min(c_in, c_out) else "grouped"


def memory_terms(group: OperationGroup, layout: str) -> Terms:
    """Return what decides the share of the bandwidth that an operation reaches, apart from the device."""
    shape = group.shape if group.kind == "convolution" or group.kind in _OF_ROWS else ()
    return _memory_terms(group.kind, group.name, group.phase, group.dtype, shape, layout)


@lru_cache(maxsize=_KEPT)
def _memory_terms(kind: str, name: str, phase: str, dtype: str, shape: tuple[int, ...], layout: str) -> Terms:
    terms: list[tuple[str, float]] = [(f"kind:{kind}", 1.0)]
    if kind == "convolution" and len(shape) > 11:
        _, c_in, c_out, groups, depth, height, width = shape[:7]
        of_groups = _convolution_kind(c_in, c_out, groups)
        terms.append((f"conv:{of_groups}", 1.0))
        if depth * height * width > 1:
            terms.append((f"conv:{of_groups}-wide", 1.0))
        if shape[11]:
            terms.append((f"nhwc:{of_groups}", 1.0))
            if of_groups != "dense" and depth * height * width > 9:
                terms.append((f"nhwc:{of_groups}-large", 1.0))
        if of_groups != "depthwise" and name.endswith((".weight", ".input")):
            terms.append((f"{name.rsplit('.', 1)[1]}:{of_groups}", 1.0))
    elif phase == "backward":
        terms.append((f"backward:{kind}", 1.0))
    if kind in _LAYOUT_KINDS and layout == "nhwc":
        terms.append((f"nhwc:{kind}", 1.0))
    if kind in _OF_ROWS and len(shape) == 2:
        if "batch_norm" in name:
            terms.append(("batchnorm", 1.0))
        else:
            terms.append((f"{kind}:short", _short(shape[1], _FULL_ROW)))
    if dtype in _HALF and kind not in TENSOR_KINDS:
        terms.append(("half", 1.0))
    return tuple((f"memory|{term}", value) for term, value in terms)


def log2_tiles(group: OperationGroup, ratio: float = 1.0) -> float:
    """
    Return log2 of how many 128 x 128 tiles of output one launch has; NaN where that is not known, or none.

    A recurrent layer is a product of the batch with all gates of its hidden units in every step.
    """
    shape, tiles = shape_at(group, ratio), 0
    if group.kind in _PRODUCTS and len(shape) == 4:
        batch, rows, columns, depth = shape
        tiles = batch * math.ceil(rows / _TILE) * math.ceil(columns / _TILE) * max(1, depth // _SPLIT_DEPTH)
    if group.kind == "convolution" and len(shape) > 11 and not group.name.endswith(".weight"):
        images, _, c_out, groups, *_rest = shape
        pixels = images * math.prod(shape[7:10])
        tiles = groups and groups * math.ceil(pixels / _TILE) * math.ceil(c_out / groups / _TILE)
    if group.kind == "recurrent" and len(shape) > 3:
        tiles = math.ceil(shape[0] / _TILE) * math.ceil(_GATES * shape[3] / _TILE)
    return math.log2(tiles) if tiles else math.nan


def device_compute_terms(device: Accelerator, path: Path, *, convolution: bool = False) -> Terms:
    """
    Return the device's part of the logit of compute efficiency.

    The generation and the die have terms where they were measured. Devices of one die differ by what their rates say,
    as those of different dies do: a card with too little power for its peak cannot hold its clock. A GeForce card runs
    above the clock that its peak is stated for.
    """
    known = [
        (f"{path}|{CONSTANT}", 1.0),
        (generation_term(device, path), 1.0),
        (silicon_term(device, "shared"), 1.0),
    ]
    if convolution:
        known.append((convolution_term(device, path), 1.0))
    candidates = ("bf16", "fp16", "tf32") if path == "tensor" else ("fp32",)
    peak = next((p for dtype in candidates if (p := device.peak_flops_per_s(dtype))), None)
    if not peak:
        return tuple(known)
    if device.consumer:
        known.append((f"{path}|device:consumer", 1.0))
    if device.power_w:
        watts = device.power_w / (peak / 1e12)
        known.append((f"{path}|device:watts", math.log(watts / _TYPICAL_WATTS[path])))
    return tuple(known)


def device_memory_terms(device: Accelerator) -> Terms:
    """Return the device's part of the logit of memory efficiency."""
    return (
        (f"memory|gen:{device.generation}", 1.0),
        (silicon_term(device, "memory"), 1.0),
        ("memory|device:bandwidth", math.log2(device.memory_bandwidth_bytes_per_s / 1e12)),
        *((("memory|device:consumer", 1.0),) if device.consumer else ()),
    )


def generation_term(device: Accelerator, path: Path) -> str:
    """Return the term that is in the fit where this generation was measured on this arithmetic path."""
    return f"{path}|gen:{device.generation}"


def convolution_term(device: Accelerator, path: Path) -> str:
    """
    Return the term of a generation's convolutions beside its products.

    They are other kernels of another library, and do not gain the same from a new generation of matrix units.
    """
    return f"{path}|gen-convolution:{device.generation}"


def silicon_term(device: Accelerator, part: Literal["shared", "memory"]) -> str:
    """Return the term of a device's die: of its arithmetic, or of its memory."""
    return f"{part}|silicon:{device.silicon}"


def release_years(device: Accelerator) -> float:
    """Return years from 2020 to the release in units of five, so that coefficients are of the size of the others."""
    return (device.release_year - 2020) / 5.0


def _short(size: int, full: int) -> float:
    """Return log2(size / full) where size is smaller, 0 where not, at least `_SHORTEST`."""
    return max(_SHORTEST, min(0.0, math.log2(max(size, 1) / full)))
