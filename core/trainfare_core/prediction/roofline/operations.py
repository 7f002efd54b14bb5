"""
How long the operations of a step take on one device: a calibrated roofline per operation.

    a = FLOPs / (dense peak[dtype] x efficiency)      b = bytes / (bandwidth x efficiency)
    time = kernels x device launch cost + max(a, b) + blend x min(a, b)

and the whole step is held up by the host that issues the launches one after another. Everything is an array:
operations x devices, then one matrix product per quantity for all micro-batch sizes at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainfare_core.hardware.accelerators import Accelerator
from trainfare_core.job_profile import JobProfile, OperationGroup
from trainfare_core.prediction.roofline.coefficients import PATHS, Calibration, Path, logistic
from trainfare_core.prediction.roofline.features import (
    TENSOR_KINDS,
    compute_features,
    layout_of,
    log2_tiles,
    memory_features,
)

__all__ = [
    "TENSOR_KINDS",
    "DeviceRates",
    "Operations",
    "RateKeys",
    "StepTime",
    "compiles_graphs",
    "device_rates",
    "host_bound",
    "host_launch_s",
    "operation_times",
    "serial_kernels",
    "usable_dtype",
    "uses_winograd",
]

Array = NDArray[np.float64]

POINTWISE_KINDS: Final = frozenset(
    ("elementwise", "activation", "normalization", "dropout", "copy", "softmax", "reduction", "loss")
)
_TYPICAL_SM_COUNT: Final = 100
_CHUNK: Final = 128
"""Columns worked on at once: operations x columns then stay in the processor's cache."""
_TENSOR_DTYPES: Final = frozenset(("tf32", "fp16", "bf16", "fp8", "int8"))
_FALLBACK: Final[dict[str, tuple[str, ...]]] = {
    "tf32": ("fp32", "bf16"),
    "fp16": ("fp32",),
    "bf16": ("fp32",),
    "fp32": ("bf16",),
}
"""What runs instead where a device lacks a type. A GPU without bf16 or fp16 units computes in fp32; TF32 is
a permission, not a demand; XLA multiplies fp32 in one bf16 pass on devices without fp32 matrix units."""


@dataclass(frozen=True, slots=True)
class RateKeys:
    """What decides the efficiency of each operation of a profile, without the device; arrays of shape (operations,)."""

    kinds: NDArray[np.str_]
    dtypes: NDArray[np.str_]
    """As wanted; "fp32" for kinds that run on vector units."""
    winograd: NDArray[np.bool_]
    pointwise: NDArray[np.bool_]
    tensor: NDArray[np.bool_]
    """Whether it is matrix work."""
    logit: dict[Path, Array]
    memory_logit: Array
    log2_tiles: Array
    """NaN where it is not known."""

    @classmethod
    def of(cls, groups: Sequence[OperationGroup], fit: Calibration) -> RateKeys:
        """Read the shapes of a profile's operations."""
        layout = layout_of(tuple(groups))
        features = [compute_features(g) for g in groups]
        tensor = np.array([g.kind in TENSOR_KINDS for g in groups], dtype=np.bool_)
        wanted = [g.dtype if g.kind in TENSOR_KINDS else "fp32" for g in groups]
        return cls(
            kinds=np.array([g.kind for g in groups], dtype=np.str_),
            dtypes=np.array(wanted, dtype=np.str_),
            winograd=np.array([uses_winograd(g) for g in groups], dtype=np.bool_),
            pointwise=np.array([g.kind in POINTWISE_KINDS for g in groups], dtype=np.bool_),
            tensor=tensor,
            logit={path: np.array([fit.compute_logit(f, path) for f in features]) for path in PATHS},
            memory_logit=np.array([fit.memory_logit(memory_features(g, layout)) for g in groups]),
            log2_tiles=np.array([log2_tiles(g) for g in groups]),
        )


@dataclass(frozen=True, slots=True)
class Operations:
    """The operations of a profile as arrays of shape (operations,); sizes per optimizer step as profiled."""

    flops: Array
    bytes_batch: Array
    bytes_fixed: Array
    launches: Array
    kernels: Array
    """What the device runs one after another: a recurrent layer waits for every time step in one launch."""
    phase: NDArray[np.int64]
    """0 forward, 1 backward, 2 optimizer."""
    kinds: tuple[str, ...]
    rate: NDArray[np.int64]
    """Row of `keys`."""
    keys: RateKeys
    fused: bool
    """Whether pointwise operations already have their bytes after fusion."""
    old_host: bool
    """Whether torch 0 or 1 runs it: their hosts take longer to issue a launch."""

    @classmethod
    def of(cls, profile: JobProfile, fit: Calibration) -> Operations:
        """Read a profile; a compiled one has its pointwise operations fused, as `fit` assumes."""
        groups = profile.operations
        fused = np.array([profile.source.compiled and g.kind in POINTWISE_KINDS for g in groups], dtype=bool)
        bytes_share = np.where(fused, fit.overhead.fused_bytes_share, 1.0)
        launch_share = np.where(fused, fit.overhead.fused_launch_share, 1.0)
        fixed = np.array([g.bytes_fixed for g in groups], dtype=np.float64)
        moved = np.array([g.bytes_moved for g in groups], dtype=np.float64)
        return cls(
            flops=np.array([g.flops for g in groups], dtype=np.float64),
            bytes_batch=(moved - fixed) * bytes_share,
            bytes_fixed=fixed * bytes_share,
            launches=np.array([g.launches for g in groups], dtype=np.float64) * launch_share,
            kernels=np.array([serial_kernels(g) for g in groups], dtype=np.float64) * launch_share,
            phase=np.array(
                [("forward", "backward", "optimizer").index(g.phase) for g in groups], dtype=np.int64
            ),
            kinds=tuple(g.kind for g in groups),
            rate=np.arange(len(groups), dtype=np.int64),
            keys=RateKeys.of(groups, fit),
            fused=profile.source.compiled,
            old_host=profile.source.torch_version[:2] in ("0.", "1."),
        )

    def only(self, kind: str, phase: int) -> Operations:
        """Return the operations of one kind in one phase, with the same rate keys."""
        chosen = np.array([k == kind for k in self.kinds], dtype=np.bool_) & (self.phase == phase)
        return Operations(
            self.flops[chosen], self.bytes_batch[chosen], self.bytes_fixed[chosen], self.launches[chosen],
            self.kernels[chosen], self.phase[chosen], tuple(k for k in self.kinds if k == kind)[: int(chosen.sum())],
            self.rate[chosen], self.keys, self.fused, self.old_host,
        )  # fmt: skip


def serial_kernels(group: OperationGroup) -> int:
    """Return kernels of which none can start before the one ahead of it has ended."""
    if group.kind == "recurrent" and len(group.shape) == 6:
        _, steps, _, _, layers, _ = group.shape
        return group.launches * max(steps * layers, 1)
    return group.launches


@dataclass(frozen=True, slots=True)
class DeviceRates:
    """
    What one device sustains for every operation of a profile; arrays of shape (operations,).

    Attributes:
        seconds_per_flop: 1 / (peak x efficiency), Winograd's saving included.
        seconds_per_byte: 1 / (bandwidth x efficiency).
        floor_per_flop, floor_per_byte: the same at efficiency 1: the roofline.
        measured: whether every arithmetic path with matrix work was in the fit for this generation.
        emulated: whether a type is computed in another one.
        unknown_because: why this device has no prediction; "" where it has one.
        notes: what was assumed.
    """

    seconds_per_flop: Array
    seconds_per_byte: Array
    floor_per_flop: Array
    floor_per_byte: Array
    measured: bool
    emulated: bool
    unknown_because: str
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StepTime:
    """Device seconds; arrays of shape (phases, columns), a column one (device, micro-batch ratio)."""

    compute_s: Array
    memory_s: Array
    launch_s: Array
    floor_s: Array

    @property
    def total_s(self) -> Array:
        """Seconds by phase, shape (3, columns)."""
        return self.compute_s + self.memory_s + self.launch_s


def device_rates(device: Accelerator, operations: Operations, fit: Calibration) -> DeviceRates:
    """
    Return what `device` sustains for every operation of a profile.

    Devices behind a graph compiler (all but GPUs) fuse pointwise operations even where the profile is eager.
    """
    keys = operations.keys
    count = len(keys.kinds)
    fuses = not operations.fused and compiles_graphs(device)
    left = np.where(keys.pointwise & fuses, fit.overhead.fused_bytes_share, 1.0)
    floor_byte = left / device.memory_bandwidth_bytes_per_s
    byte = floor_byte / logistic(keys.memory_logit + fit.device_memory_logit(device))
    flop, floor_flop = np.zeros(count), np.zeros(count)
    waves = fit.shared.get("waves", 0.0) * _unfilled(keys.log2_tiles, device)
    measured, emulated, notes = True, False, list[str]()
    for wanted in dict.fromkeys(keys.dtypes.tolist()):
        chosen = keys.dtypes == wanted
        matrix = bool((chosen & keys.tensor).any())
        used, peak = usable_dtype(device, wanted)
        if peak is None:
            if not matrix:
                continue
            kind = str(keys.kinds[chosen & keys.tensor][0])
            return _no_rates(count, f"{device.name} has no {wanted} arithmetic for {kind}")
        path: Path = "tensor" if used in _TENSOR_DTYPES else "vector"
        share = np.where(keys.winograd & (path == "vector"), fit.overhead.winograd_flops_share, 1.0)
        efficiency = logistic(keys.logit[path] + waves + fit.device_compute_logit(device, path))
        floor_flop[chosen] = (share / peak)[chosen]
        flop[chosen] = (share / peak / efficiency)[chosen]
        if matrix:
            measured &= fit.is_measured(device, path)
            if used != wanted and not (wanted == "tf32" and used == "fp32"):
                emulated = True
                notes.append(
                    f"{device.name} has no {wanted} units: {wanted} operations are counted at its {used} rate"
                )
    return DeviceRates(
        flop, byte, floor_flop, floor_byte, measured, emulated, "", tuple(dict.fromkeys(notes))
    )


def _unfilled(tiles: Array, device: Accelerator) -> Array:
    """Return how far less than one wave of tiles fills the device: log2, 0 where it is full, at least -4."""
    units = math.log2(device.sm_count or _TYPICAL_SM_COUNT)
    return np.asarray(np.nan_to_num(np.clip(tiles - units, -4.0, 0.0)))


def operation_times(
    operations: Operations,
    rates: Sequence[DeviceRates],
    device: NDArray[np.int64],
    ratio: Array,
    fit: Calibration,
) -> StepTime:
    """
    Return device seconds by phase for every column.

    Args:
        operations: what runs.
        rates: one entry a device.
        device: row of `rates` of each column, shape (columns,).
        ratio: micro-batch over the profile's, shape (columns,). Forward and backward FLOPs and batch bytes
            scale with it; weights' bytes, launches and the optimizer do not.
        fit: the coefficients.
    """
    parts: list[list[Array]] = [[], [], [], []]
    for phase in range(3):
        chosen = np.flatnonzero(operations.phase == phase)
        launch_s = operations.kernels[chosen].sum() * fit.overhead.device_launch_s
        sums = [np.empty(len(ratio)) for _ in range(3)]
        table = _RateTable.of(rates, operations.rate[chosen])
        for start in range(0, len(ratio), _CHUNK):
            part = slice(start, start + _CHUNK)
            scale = (ratio[part] if phase < 2 else np.ones_like(ratio[part]))[:, None]
            flops = operations.flops[chosen] * scale
            moved = operations.bytes_batch[chosen] * scale + operations.bytes_fixed[chosen]
            for total, values in zip(
                sums, table.blend(flops, moved, device[part], fit.overhead.blend), strict=True
            ):
                total[part] = values
        for rows, total in zip(
            parts, (sums[0], sums[1], np.full(len(ratio), launch_s), sums[2]), strict=True
        ):
            rows.append(total)
    return StepTime(*(np.stack(rows) for rows in parts))


@dataclass(frozen=True, slots=True)
class _RateTable:
    """Seconds per FLOP and per byte, shape (devices, operations)."""

    per_flop: Array
    per_byte: Array
    floor_flop: Array
    floor_byte: Array

    @classmethod
    def of(cls, rates: Sequence[DeviceRates], rate: NDArray[np.int64]) -> _RateTable:
        return cls(
            np.stack([r.seconds_per_flop[rate] for r in rates]),
            np.stack([r.seconds_per_byte[rate] for r in rates]),
            np.stack([r.floor_per_flop[rate] for r in rates]),
            np.stack([r.floor_per_byte[rate] for r in rates]),
        )

    def blend(
        self, flops: Array, moved: Array, device: NDArray[np.int64], blend: float
    ) -> tuple[Array, Array, Array]:
        """
        Return compute-bound, memory-bound and roofline seconds of each column; inputs are (columns,
        operations).
        """
        compute, memory = flops * self.per_flop[device], moved * self.per_byte[device]
        time = np.maximum(compute, memory) + blend * np.minimum(compute, memory)
        in_compute = (time * (compute >= memory)).sum(axis=1)
        floor = np.maximum(flops * self.floor_flop[device], moved * self.floor_byte[device]).sum(axis=1)
        return in_compute, time.sum(axis=1) - in_compute, floor


def host_bound(device_s: Array, host_s: Array) -> Array:
    """
    Return the step when a host issues its launches while the device works.

    The larger of the two, rounded off where they are close (a 4-norm): launches come in bursts, so a
    device that is busy just as long as its host waits now and then.
    """
    return np.asarray((device_s**4 + host_s**4) ** 0.25)


def host_launch_s(operations: Operations, device: Accelerator, fit: Calibration) -> Array:
    """
    Return the host's seconds to issue each operation's launches once, shape (operations,).

    0 behind a graph compiler. Backward runs no Python; hosts of the years of torch 0 and 1 were slower.
    """
    if compiles_graphs(device):
        return np.zeros(len(operations.launches))
    overhead = fit.overhead
    each_s = overhead.host_launch_s * np.where(operations.phase == 1, overhead.host_backward_share, 1.0)
    if operations.old_host:
        years = (device.release_year - 2020) / 5.0
        each_s = each_s * overhead.old_host_factor * math.exp(overhead.old_host_year_slope * years)
    return np.asarray(operations.launches * each_s)


def compiles_graphs(device: Accelerator) -> bool:
    """Whether steps reach this device as compiled graphs, so that no host issues single launches."""
    return device.kind != "gpu"


def usable_dtype(device: Accelerator, dtype: str) -> tuple[str, float | None]:
    """Return the type that really runs and its dense peak in FLOP/s; None where there is none."""
    known = dtype if dtype in ("fp64", "fp32") or dtype in _TENSOR_DTYPES else "fp32"
    for candidate in (known, *_FALLBACK.get(known, ())):
        if peak := device.peak_flops_per_s(candidate):
            return candidate, peak
    return known, None


def _no_rates(count: int, reason: str) -> DeviceRates:
    nothing = np.full(count, np.nan)
    return DeviceRates(nothing, nothing, nothing, nothing, False, False, reason, ())


def uses_winograd(group: OperationGroup) -> bool:
    """
    Whether cuDNN may run this convolution with fewer multiplications: 3x3, stride 1, one group, full
    precision.
    """
    if group.kind != "convolution" or group.dtype != "fp32" or len(group.shape) < 11:
        return False
    _, _, _, groups, depth, height, width, _, _, _, stride = group.shape[:11]
    return (groups, depth, height, width, stride) == (1, 1, 3, 3, 1)
