"""
The definition of the one-device model: how long the operations of a step take, as a calibrated roofline.

    a = FLOPs / (dense peak[dtype] x efficiency)
    b = bytes / (bandwidth x efficiency), of the share h at the bandwidth of the cache
    time = kernels x device launch cost + max(a, b) + BLEND x min(a, b)
    step = hold(sum of times, host launches)

Predictions and the fit in `benchmarks/fitting/one_device_rows.py` both use the functions here. They take the
coefficients as an argument; the efficiencies' terms are named in `features.py`, and h is in `caches.py`. What does not
depend on coefficients (sizes at a micro-batch, peaks, which arithmetic runs) is in `Operations` and `Roofline`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainfare_core.hardware.accelerators import Accelerator
from trainfare_core.job_profile import (
    POINTWISE_KINDS,
    USUAL_FUSED_BYTES_SHARE,
    JobProfile,
    OperationGroup,
)
from trainfare_core.prediction.roofline.caches import held_in_cache, with_cache_as_memory
from trainfare_core.prediction.roofline.coefficients import Calibration, OverheadFit
from trainfare_core.prediction.roofline.features import (
    BRIEF,
    COMPILED_LOOP,
    PATHS,
    TENSOR_KINDS,
    WAVES,
    Path,
    compute_terms,
    layout_of,
    log2_tiles,
    memory_terms,
    serial_kernels,
    shape_at,
    unfilled_waves,
    uses_winograd,
)

__all__ = [
    "BLEND",
    "PHASES",
    "WINOGRAD_LEAST",
    "DeviceTime",
    "Operations",
    "Roofline",
    "blended_s",
    "bytes_share",
    "compiles_graphs",
    "inverse_efficiency",
    "launch_share",
    "operation_seconds",
    "operation_times",
    "usable_dtype",
]

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

BLEND: Final = 0.3
"""Share of the smaller of compute and memory time that does not hide behind the larger. Assumed, not fitted."""
WINOGRAD_LEAST: Final = 1 / 4
"""F(4x4, 3x3) multiplies 36 times where the direct sum multiplies 144 times."""
PHASES: Final = ("forward", "backward", "optimizer")

_FULL_KERNEL_S: Final = 32e-6
"""A kernel that would move its bytes in less than this at the full bandwidth does not reach it. A chosen value."""
_BRIEFEST: Final = -4.0
"""Kernels of less than 1/16 of that count as 1/16: their launch is the larger part."""
_STEEPEST_LOGIT: Final = 20.0
"""Logits are clipped here, at an efficiency of 2e-9, so that no coefficient makes an exponential overflow."""
_TENSOR_DTYPES: Final = frozenset(("tf32", "fp16", "bf16", "fp8", "mxfp8", "fp4", "int8"))
_UNFITTED_DTYPES: Final = frozenset(("fp64", "fp8", "mxfp8", "fp4", "int8"))
"""No fitted step has its products in them; of fp8 only the best product of a few devices was timed."""
_PACKED: Final = {"float4_e2m1fn_x2": "products of 4-bit values packed in pairs have no known time"}
_UNFITTED_KINDS: Final = frozenset(("indexing", "fft", "grouped_matmul"))
"""No kernel of them was timed and no fitted step has more than little of them: their terms are those of the prior."""
_FALLBACK: Final[dict[str, tuple[str, ...]]] = {
    "tf32": ("fp32", "bf16"),
    "fp16": ("fp32",),
    "bf16": ("fp32",),
    "fp32": ("bf16",),
}
"""What runs instead where a device lacks a type. A GPU without bf16 or fp16 units computes in fp32; TF32 is
a permission, not a demand; XLA multiplies fp32 in one bf16 pass on devices without fp32 matrix units."""


@dataclass(frozen=True, slots=True)
class Operations:
    """The operations of a profile as arrays of shape (operations,); sizes of one optimizer step as profiled."""

    groups: tuple[OperationGroup, ...]
    layout: str
    """Of its convolutions; see `layout_of`."""
    flops: Array
    bytes_batch: Array
    """Bytes that scale with the micro-batch."""
    bytes_fixed: Array
    """Those of weights, and of an optimizer, but for the rows of a batch that it looks up."""
    launches: Array
    kernels: Array
    """Kernels that run one after another: a recurrent layer waits for every time step in one launch."""
    phase: NDArray[np.int64]
    """Index of `PHASES`."""
    dtypes: NDArray[np.str_]
    """As wanted; "fp32" for kinds that run on vector units."""
    tensor: Flags
    """Whether it is matrix work."""
    pointwise: Flags
    """Whether a compiler fuses it with its neighbours."""
    fused_bytes_share: Array
    """Of its bytes, what moves where a compiler fuses it; 1 of what is not pointwise."""
    product: Flags
    """Whether it is matrix work but no convolution."""
    recurrent: Flags
    winograd: Flags
    """Whether fewer multiplications may do, on vector units."""
    unfitted: Flags
    """Whether hardly any fitted row holds such work."""
    fused: bool
    """Whether a compiler fuses the pointwise operations on every device."""
    old_host: bool
    """Whether PyTorch 0.x or 1.x runs it: those hosts take longer to issue a launch."""

    @classmethod
    def of(cls, profile: JobProfile) -> Operations:
        """Read a profile."""
        old_host = profile.source.torch_version[:2] in ("0.", "1.")
        return cls.of_groups(profile.operations, compiled=profile.source.compiled, old_host=old_host)

    @classmethod
    def of_groups(
        cls, groups: tuple[OperationGroup, ...], *, compiled: bool = False, old_host: bool = False
    ) -> Operations:
        """Read operations alone."""
        pointwise = np.array([g.kind in POINTWISE_KINDS for g in groups], dtype=np.bool_)
        tensor = np.array([g.kind in TENSOR_KINDS for g in groups], dtype=np.bool_)
        moved = np.array([g.bytes_moved for g in groups], dtype=np.float64)
        whole = [g.phase == "optimizer" and g.kind != "indexing" for g in groups]
        fixed = np.where(whole, moved, np.array([g.bytes_fixed for g in groups], dtype=np.float64))
        return cls(
            groups=groups,
            layout=layout_of(groups),
            flops=np.array([g.flops for g in groups], dtype=np.float64),
            bytes_batch=moved - fixed,
            bytes_fixed=fixed,
            launches=np.array([g.launches for g in groups], dtype=np.float64),
            kernels=np.array([serial_kernels(g) for g in groups], dtype=np.float64),
            phase=np.array([PHASES.index(g.phase) for g in groups], dtype=np.int64),
            dtypes=np.array([g.dtype if g.kind in TENSOR_KINDS else "fp32" for g in groups], dtype=np.str_),
            tensor=tensor,
            pointwise=pointwise,
            fused_bytes_share=np.array([g.left_where_fused for g in groups], dtype=np.float64),
            product=tensor & ~np.array([g.kind == "convolution" for g in groups], dtype=np.bool_),
            recurrent=np.array([g.kind == "recurrent" for g in groups], dtype=np.bool_),
            winograd=np.array([uses_winograd(g) for g in groups], dtype=np.bool_),
            unfitted=np.array([_is_unfitted(g) for g in groups], dtype=np.bool_),
            fused=compiled,
            old_host=old_host,
        )

    def __len__(self) -> int:
        """Return the number of operations."""
        return len(self.groups)

    def flops_at(self, ratio: float) -> Array:
        """Return FLOPs at a micro-batch of `ratio` times the profile's; the optimizer's stay."""
        return self.flops * np.where(self.phase < 2, ratio, 1.0)

    def bytes_at(self, ratio: float) -> Array:
        """Return bytes at a micro-batch of `ratio` times the profile's."""
        return self.bytes_batch * ratio + self.bytes_fixed

    def bytes_a_launch(self, ratio: float) -> Array:
        """Return bytes of one kernel at a micro-batch of `ratio` times the profile's."""
        return self.bytes_at(ratio) / np.maximum(self.launches, 1.0)

    def by_phase(self, values: Array) -> Array:
        """Return sums over the operations of each phase; (..., operations) becomes (..., 3)."""
        return np.asarray(values @ (self.phase[:, None] == np.arange(3)).astype(np.float64))


def _is_unfitted(group: OperationGroup) -> bool:
    return group.kind in _UNFITTED_KINDS or (
        group.kind in TENSOR_KINDS and group.dtype in _UNFITTED_DTYPES and group.flops > 0
    )


@dataclass(frozen=True, slots=True)
class Roofline:
    """
    The most that one device can do for each operation of a profile; arrays of shape (operations,).

    Attributes:
        device: the accelerator.
        seconds_per_flop: 1 / dense peak of the type that runs; 0 for vector work of a type that it lacks.
        seconds_per_byte: 1 / bandwidth, one number.
        tensor_path: whether the type that runs belongs to the "tensor" path.
        winograd: fp32 convolutions on vector units that may need fewer multiplications.
        matrix_paths: paths that matrix work takes.
        emulated: whether a type is computed in another one.
        unknown_because: why this device has no prediction; "" where it has one.
        notes: assumptions, as sentences.
    """

    device: Accelerator
    seconds_per_flop: Array
    seconds_per_byte: float
    tensor_path: Flags
    winograd: Flags
    matrix_paths: frozenset[Path]
    emulated: bool
    unknown_because: str
    notes: tuple[str, ...]

    @classmethod
    def of(cls, device: Accelerator, operations: Operations) -> Roofline:
        """Return what `device` could do for every operation of a profile."""
        flop_s, tensor_path = np.zeros(len(operations)), np.zeros(len(operations), dtype=np.bool_)
        paths, notes = set[Path](), list[str]()
        emulated, unknown_because = False, ""
        for wanted in dict.fromkeys(operations.dtypes.tolist()):
            chosen = operations.dtypes == wanted
            matrix = chosen & operations.tensor
            used, peak = usable_dtype(device, wanted)
            if peak is None:
                if matrix.any():
                    kind = operations.groups[int(np.flatnonzero(matrix)[0])].kind
                    lacks = f"{device.name} has no {wanted} arithmetic for {kind}"
                    unknown_because = unknown_because or _PACKED.get(wanted, lacks)
                continue
            flop_s[chosen] = 1.0 / peak
            tensor_path[chosen] = used in _TENSOR_DTYPES
            if matrix.any():
                paths.add("tensor" if used in _TENSOR_DTYPES else "vector")
                if used != wanted and not (wanted == "tf32" and used == "fp32"):
                    emulated = True
                    notes.append(
                        f"{device.name} has no {wanted} units: {wanted} operations are counted at its {used} rate"
                    )
        return cls(
            device, flop_s, 1.0 / device.memory_bandwidth_bytes_per_s, tensor_path,
            operations.winograd & ~tensor_path, frozenset(paths), emulated, unknown_because,
            tuple(dict.fromkeys(notes)),
        )  # fmt: skip

    def unfitted_share(self, operations: Operations) -> float:
        """Return the share of the roofline's time in work that hardly any fitted row holds."""
        if not operations.unfitted.any():
            return 0.0
        time_s = np.maximum(
            operations.flops * self.seconds_per_flop, operations.bytes_at(1.0) * self.seconds_per_byte
        )
        total_s = float(time_s.sum())
        return float(time_s[operations.unfitted].sum()) / total_s if total_s else 0.0

    def is_measured(self, fit: Calibration) -> bool:
        """Whether every arithmetic path with matrix work was in the fit for this generation."""
        return all(fit.is_measured(self.device, path) for path in self.matrix_paths)


def bytes_share(operations: Operations, device: Accelerator) -> Array:
    """Return the share of each operation's eager bytes that a device moves, shape (operations,)."""
    if compiles_graphs(device):
        return np.where(operations.pointwise, USUAL_FUSED_BYTES_SHARE, 1.0)
    return operations.fused_bytes_share if operations.fused else np.ones(len(operations))


def launch_share(operations: Operations, overhead: OverheadFit) -> Array:
    """Return the share of each operation's eager launches that a compiler leaves, shape (operations,)."""
    return np.where(operations.pointwise & operations.fused, overhead.fused_launch_share, 1.0)


def usable_dtype(device: Accelerator, dtype: str) -> tuple[str, float | None]:
    """Return the type that really runs and its dense peak in FLOP/s; None where there is none."""
    known = dtype if dtype in ("fp64", "fp32", *_PACKED) or dtype in _TENSOR_DTYPES else "fp32"
    for candidate in (known, *_FALLBACK.get(known, ())):
        if peak := device.peak_flops_per_s(candidate):
            return candidate, peak
    return known, None


def log2_brevity(
    operations: Operations, ratio: float, seconds_per_byte: Array
) -> tuple[NDArray[np.int64], Array]:
    """Return operations, but for products, that fall short of all bandwidth, and how far: log2, (devices, these)."""
    each = np.log2(np.maximum(operations.bytes_a_launch(ratio), 1.0))
    full = np.log2(seconds_per_byte / _FULL_KERNEL_S)
    short = np.flatnonzero(~operations.product & (each + full.min(initial=0.0) < 0.0))
    return short, np.clip(each[short] + full[:, None], _BRIEFEST, 0.0)


def compiled_loops(operations: Operations, device: Accelerator) -> Flags:
    """Return which operations are recurrent layers that a graph compiler unrolls."""
    return operations.recurrent & compiles_graphs(device)


def inverse_efficiency(logit: Array) -> Array:
    """Return 1 / logistic(logit), at least 1."""
    return np.asarray(1.0 + np.exp(-np.clip(logit, -_STEEPEST_LOGIT, _STEEPEST_LOGIT)))


def blended_s(compute_s: Array, memory_s: Array) -> Array:
    """Return seconds of operations whose arithmetic and memory traffic overlap, but not fully."""
    return np.asarray(np.maximum(compute_s, memory_s) + BLEND * np.minimum(compute_s, memory_s))


@dataclass(frozen=True, slots=True)
class DeviceTime:
    """Device seconds: of single operations, shape (devices, operations), or by phase, shape (3, columns)."""

    compute_s: Array
    """Of operations that arithmetic limits, 0 of others."""
    memory_s: Array
    launch_s: Array
    """Of single operations shape (operations,): it does not depend on the device."""
    floor_s: Array
    """At efficiency 1: the roofline."""

    @property
    def total_s(self) -> Array:
        """Seconds of each operation or phase."""
        return self.compute_s + self.memory_s + self.launch_s


def operation_seconds(
    operations: Operations, rooflines: Sequence[Roofline], ratio: float, fit: Calibration
) -> DeviceTime:
    """
    Return device seconds of every operation.

    Args:
        operations: of one profile.
        rooflines: of these operations, one a device.
        ratio: micro-batch over the profile's.
        fit: the coefficients.
    """
    logits = _Logits(operations, rooflines, fit)
    return _seconds(operations, np.arange(len(rooflines)), ratio, logits, fit)


def operation_times(
    operations: Operations, rooflines: Sequence[Roofline], device: NDArray[np.int64], ratio: Array, fit: Calibration
) -> DeviceTime:  # fmt: skip
    """
    Return device seconds by phase for every column, a column one (device, micro-batch ratio).

    Args:
        operations: what runs.
        rooflines: of these operations, one a device.
        device: row of `rooflines` of each column, shape (columns,).
        ratio: micro-batch over the profile's, shape (columns,); NaN gives NaN. Forward and backward FLOPs and batch
            bytes scale with it; weights' bytes, launches and the optimizer do not.
        fit: the coefficients.
    """
    parts = np.full((4, 3, len(ratio)), np.nan)
    logits = _Logits(operations, rooflines, fit)
    values, which = np.unique(ratio, return_inverse=True)
    for i, value in enumerate(values.tolist()):
        if math.isnan(value):
            continue
        columns = np.flatnonzero(which == i)
        used, row = np.unique(device[columns], return_inverse=True)
        seconds = _seconds(operations, used, value, logits, fit)
        for part, each_s in zip(
            parts, (seconds.compute_s, seconds.memory_s, seconds.launch_s, seconds.floor_s), strict=True
        ):
            by_phase = np.broadcast_to(operations.by_phase(each_s), (len(used), 3))
            part[:, columns] = by_phase[row].T
    return DeviceTime(*parts)


def _seconds(
    operations: Operations, used: NDArray[np.int64], ratio: float, logits: _Logits, fit: Calibration
) -> DeviceTime:
    flop_s, byte_s = (rates[used] for rates in (logits.seconds_per_flop, logits.seconds_per_byte))
    flops = operations.flops_at(ratio)
    moved_s = operations.bytes_at(ratio) * byte_s
    slowness, least = logits.memory(ratio, used)
    compute_s = flops * flop_s * inverse_efficiency(logits.compute(ratio, used))
    memory_s = moved_s * slowness
    time_s = blended_s(compute_s, memory_s)
    limited = compute_s >= memory_s
    return DeviceTime(
        compute_s=np.where(limited, time_s, 0.0),
        memory_s=np.where(limited, 0.0, time_s),
        launch_s=operations.kernels * launch_share(operations, fit.overhead) * fit.overhead.device_launch_s,
        floor_s=np.maximum(flops * flop_s, moved_s * least),
    )


class _Logits:
    """Logits of the efficiencies of one profile's operations on several devices."""

    def __init__(self, operations: Operations, rooflines: Sequence[Roofline], fit: Calibration) -> None:
        self._operations, self._fit = operations, fit
        share = fit.overhead.winograd_flops_share
        self.seconds_per_flop = np.stack(
            [r.seconds_per_flop * np.where(r.winograd, share, 1.0) for r in rooflines]
        )
        self.seconds_per_byte = np.stack(
            [r.seconds_per_byte * bytes_share(operations, r.device) for r in rooflines]
        )
        own = np.array([fit.logit(memory_terms(g, operations.layout)) for g in operations.groups])
        of_device = fit.device_logits([r.device for r in rooflines], "memory")
        self._memory = of_device[:, None] + own
        """Shape (devices, operations), without what depends on the micro-batch."""
        self._devices: list[Accelerator] = [r.device for r in rooflines]
        self._bandwidth_s = np.array([r.seconds_per_byte for r in rooflines])
        cached = [with_cache_as_memory(device) for device in self._devices]
        self._cached = fit.device_logits(cached, "memory")[:, None] + own
        """The same where memory is as fast as a device's cache."""
        self._cache_s = np.array([1.0 / device.memory_bandwidth_bytes_per_s for device in cached])
        self._tensor_path = np.stack([r.tensor_path for r in rooflines])
        self._loop = np.stack([compiled_loops(operations, device) for device in self._devices])
        convolution = np.array([g.kind == "convolution" for g in operations.groups], dtype=np.bool_)
        self._of_device: dict[Path, Array] = {
            path: np.where(
                convolution,
                fit.device_logits(self._devices, path, convolution=True)[:, None],
                fit.device_logits(self._devices, path)[:, None],
            )
            for path in PATHS
        }
        """Shape (devices, operations)."""
        runs = operations.flops > 0
        self._runs_on: dict[Path, NDArray[np.int64]] = {
            "tensor": np.flatnonzero(runs & self._tensor_path.any(axis=0)),
            "vector": np.flatnonzero(runs & ~self._tensor_path.all(axis=0)),
        }
        self._own: dict[Path, Array] = {path: np.zeros(len(operations)) for path in PATHS}
        self._tiles = np.full(len(operations), np.nan)
        self._set(np.ones(len(operations), dtype=np.bool_), 1.0, self._own, self._tiles)

    def memory(self, ratio: float, used: NDArray[np.int64]) -> tuple[Array, Array]:
        """
        Return the time of bytes over that at the full bandwidth of the devices `used`, shape (devices, operations).

        The second is the least: at efficiency 1. Bytes in a cache take what they would where memory is as fast.
        """
        found = self._slowness(ratio, used, self._memory, self._bandwidth_s)
        least = np.ones(found.shape)
        row = np.flatnonzero(self._cache_s[used] < self._bandwidth_s[used])
        faster, gain = used[row], (self._cache_s / self._bandwidth_s)[used[row], None]
        devices = [self._devices[int(one)] for one in faster]
        held = held_in_cache(self._operations.bytes_a_launch(ratio), devices)
        cached = gain * self._slowness(ratio, faster, self._cached, self._cache_s)
        found[row] -= held * np.maximum(found[row] - cached, 0.0)
        least[row] -= held * (1.0 - gain)
        return found, least

    def _slowness(
        self, ratio: float, used: NDArray[np.int64], logits: Array, seconds_per_byte: Array
    ) -> Array:
        found: Array = logits[used]
        short, brevity = log2_brevity(self._operations, ratio, seconds_per_byte[used])
        found[:, short] += self._fit.coefficients.get(BRIEF, 0.0) * brevity
        return inverse_efficiency(found)

    def compute(self, ratio: float, used: NDArray[np.int64]) -> Array:
        """Return logits of compute efficiency of the devices `used`, shape (devices, operations)."""
        own, tiles = self._own, self._tiles
        if ratio != 1.0:
            scaled: dict[Path, Array] = {path: own[path].copy() for path in PATHS}
            own, tiles = scaled, tiles.copy()
            moves = np.array([shape_at(g, ratio) != g.shape for g in self._operations.groups], dtype=np.bool_)
            self._set(moves, ratio, own, tiles)
        weight = self._fit.coefficients.get(WAVES, 0.0)
        waves = weight * np.stack([unfilled_waves(tiles, self._devices[int(i)]) for i in used])
        tensor, vector = (self._of_device[path][used] + own[path] for path in ("tensor", "vector"))
        found = np.where(self._tensor_path[used], tensor, vector) + waves
        if self._operations.recurrent.any():
            found += self._loop[used] * self._fit.coefficients.get(COMPILED_LOOP, 0.0)
        return np.asarray(found)

    def _set(self, chosen: Flags, ratio: float, own: dict[Path, Array], tiles: Array) -> None:
        """Write the operations' own logits and tiles at a micro-batch into `own` and `tiles`."""
        groups = self._operations.groups
        for path, rows in self._runs_on.items():
            for row in rows[chosen[rows]]:
                i = int(row)
                own[path][i] = self._fit.logit(compute_terms(groups[i], path, ratio))
        for row in np.flatnonzero(chosen & self._operations.tensor):
            i = int(row)
            tiles[i] = log2_tiles(groups[i], ratio)


def compiles_graphs(device: Accelerator) -> bool:
    """Whether steps reach this device as compiled graphs, so that no host issues single launches."""
    return device.kind != "gpu"
