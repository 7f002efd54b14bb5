"""
The definition of the one-device model: how long the operations of a step take, as a calibrated roofline.

    a = FLOPs / (dense peak[dtype] x efficiency)
    b = bytes / (bandwidth x efficiency), of the share h at the bandwidth of the cache
    time = kernels x device launch cost + max(a, b) + BLEND x min(a, b)
    step = hold(sum of times, host launches)

Predictions and the fit in `research/trainfare_research/fitting/one_device_rows.py` both use the functions here.
They take the coefficients as an argument; the efficiencies' terms are named in `features.py`.

h is of bytes that a kernel reads from a GPU's L2 cache and not from its memory: the last kernels left them there. All
slices of a cache are read at once, so that its bandwidth grows with its size. The 48 to 96 MiB beside the GDDR6 of an
L4, L40S or RTX 4090 are several times as fast as that memory; the caches of an A100 or H100 are not faster than theirs
by this measure, and save nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainfare_core.arrays import Array, Flags
from trainfare_core.hardware.accelerator_rows import Accelerator
from trainfare_core.prediction.roofline.coefficients import Calibration
from trainfare_core.prediction.roofline.features import (
    BRIEF,
    COMPILED_LOOP,
    PATHS,
    WAVES,
    Path,
    compute_terms,
    log2_tiles,
    measure_unfilled_waves,
    memory_terms,
    shape_at,
)
from trainfare_core.prediction.roofline.operations import (
    Operations,
    Roofline,
    bytes_share,
    launch_share,
    mark_compiled_loops,
)

CACHE_READ_S: Final = 27e-6
"""In which a cache delivers all that it holds: 96 MiB at 3.7 TB/s. Chosen among values by rows left out
(research/docs/prediction-choices.md)."""


def compute_cached_share(bytes_a_launch: Array, devices: Sequence[Accelerator]) -> Array:
    """
    Return the share of each operation's bytes that is in a faster cache, shape (devices, operations).

    It is 1 / (1 + (bytes / cache)^2): half where a kernel moves as much as the cache holds. Compared with the first
    power by rows left out (research/docs/prediction-choices.md).

    >>> from trainfare_core.hardware.accelerators import accelerator
    >>> mebibyte, cards = 2**20, [accelerator("L40S-48GB"), accelerator("H100-SXM-80GB")]
    >>> compute_cached_share(np.array([1.0, 96.0, 960.0]) * mebibyte, cards).round(2).tolist()
    [[1.0, 0.5, 0.01], [0.0, 0.0, 0.0]]

    Args:
        bytes_a_launch: shape (operations,).
        devices: of any kind.
    """
    sizes = [device.l2_bytes or 0.0 if _is_faster(device) else 0.0 for device in devices]
    square = np.square(np.array(sizes))[:, None]
    return np.asarray(square / np.maximum(square + np.square(bytes_a_launch), 1.0))


def with_cache_as_memory(device: Accelerator) -> Accelerator:
    """Return the device with memory as fast as its cache; as it is where the cache is no faster, or not known."""
    if not _is_faster(device) or device.l2_bytes is None:
        return device
    return replace(device, memory_bandwidth_bytes_per_s=device.l2_bytes / CACHE_READ_S)


def _is_faster(device: Accelerator) -> bool:
    """Return whether a GPU's cache is faster than its memory; behind a graph compiler there is none."""
    if device.kind != "gpu" or device.l2_bytes is None:
        return False
    return device.l2_bytes / CACHE_READ_S > device.memory_bandwidth_bytes_per_s


BLEND: Final = 0.3
"""Share of the smaller of compute and memory time that does not hide behind the larger. Assumed, not fitted."""
WINOGRAD_LEAST: Final = 1 / 4
"""F(4x4, 3x3) multiplies 36 times where the direct sum multiplies 144 times."""

_FULL_KERNEL_S: Final = 32e-6
"""A kernel that would move its bytes in less than this at the full bandwidth does not reach it. A chosen value."""
_BRIEFEST: Final = -4.0
"""Kernels of less than 1/16 of that count as 1/16: their launch is the larger part."""
_BLOCK_BYTES: Final = 256 * 1024
"""Of an array of some devices' operations that is worked out at once: several of them fit into a processor's cache."""
_STEEPEST_LOGIT: Final = 20.0
"""Logits are clipped here, at an efficiency of 2e-9, so that no coefficient makes an exponential overflow."""


def log2_brevity(
    operations: Operations, ratio: float, seconds_per_byte: Array
) -> tuple[NDArray[np.int64], Array]:
    """Return operations, but for products, that fall short of all bandwidth, and how far: log2, (devices, these)."""
    brevity = np.log2(np.maximum(operations.bytes_a_launch(ratio), 1.0))
    full = np.log2(seconds_per_byte / _FULL_KERNEL_S)
    short = np.flatnonzero(~operations.product & (brevity + full.min(initial=0.0) < 0.0))
    return short, np.clip(brevity[short] + full[:, None], _BRIEFEST, 0.0)


def inverse_efficiency(logit: Array) -> Array:
    """Return 1 / logistic(logit), at least 1."""
    return np.asarray(1.0 + np.exp(-np.clip(logit, -_STEEPEST_LOGIT, _STEEPEST_LOGIT)))


def blend_times(compute_s: Array, memory_s: Array) -> Array:
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
        by_phase = np.empty((4, len(used), 3))
        together = max(_BLOCK_BYTES // (8 * max(len(operations), 1)), 1)
        for first in range(0, len(used), together):
            some = slice(first, first + together)
            seconds = _seconds(operations, used[some], value, logits, fit)
            by_phase[0, some] = operations.by_phase(seconds.compute_s)
            by_phase[1, some] = operations.by_phase(seconds.memory_s)
            by_phase[2, some] = operations.by_phase(seconds.launch_s)
            by_phase[3, some] = operations.by_phase(seconds.floor_s)
        parts[:, :, columns] = by_phase[:, row].transpose(0, 2, 1)
    return DeviceTime(*parts)


def _seconds(
    operations: Operations, used: NDArray[np.int64], ratio: float, logits: _Logits, fit: Calibration
) -> DeviceTime:
    moved_s = operations.bytes_at(ratio) * logits.seconds_per_byte[used]
    slowness, least = logits.memory(ratio, used)
    full_s, compute_s = np.zeros_like(moved_s), np.zeros_like(moved_s)
    full_s[:, logits.runs] = operations.flops_at(ratio)[logits.runs] * logits.seconds_per_flop[used]
    compute_s[:, logits.runs] = full_s[:, logits.runs] * inverse_efficiency(logits.compute(ratio, used))
    memory_s = moved_s * slowness
    time_s = blend_times(compute_s, memory_s)
    limited = compute_s >= memory_s
    return DeviceTime(
        compute_s=np.where(limited, time_s, 0.0),
        memory_s=np.where(limited, 0.0, time_s),
        launch_s=operations.kernels * launch_share(operations, fit.overhead) * fit.overhead.device_launch_s,
        floor_s=np.maximum(full_s, moved_s * least),
    )


class _Logits:
    """Logits of the efficiencies of one profile's operations on several devices."""

    def __init__(self, operations: Operations, rooflines: Sequence[Roofline], fit: Calibration) -> None:
        self._operations, self._fit = operations, fit
        self._devices: list[Accelerator] = [r.device for r in rooflines]
        self.runs = np.flatnonzero(operations.flops > 0)
        """Operations with FLOPs, n of them."""
        groups = [operations.groups[i] for i in self.runs.tolist()]
        self.seconds_per_flop = np.stack([r.seconds_per_flop[self.runs] for r in rooflines])
        """Shape (devices, n)."""
        if operations.winograd.any():
            winograd = np.stack([r.winograd[self.runs] for r in rooflines])
            self.seconds_per_flop *= np.where(winograd, fit.overhead.winograd_flops_share, 1.0)
        self.seconds_per_byte = np.stack(
            [r.seconds_per_byte * bytes_share(operations, r.device) for r in rooflines]
        )
        own_logits = fit.logits(memory_terms(g, operations.layout) for g in operations.groups)
        of_device = fit.device_logits(self._devices, "memory")
        self._memory = of_device[:, None] + own_logits
        """Shape (devices, operations), without what depends on the micro-batch."""
        self._bandwidth_s = np.array([r.seconds_per_byte for r in rooflines])
        cached = [with_cache_as_memory(device) for device in self._devices]
        self._cached = fit.device_logits(cached, "memory")[:, None] + own_logits
        """The same where memory is as fast as a device's cache."""
        self._cache_s = np.array([1.0 / device.memory_bandwidth_bytes_per_s for device in cached])
        self._tensor_path = np.stack([r.tensor_path[self.runs] for r in rooflines])
        convolution = np.array([g.kind == "convolution" for g in groups], dtype=np.bool_)
        by_path = {
            path: np.where(
                convolution,
                fit.device_logits(self._devices, path, convolution=True)[:, None],
                fit.device_logits(self._devices, path)[:, None],
            )
            for path in PATHS
        }
        self._compute = np.where(self._tensor_path, by_path["tensor"], by_path["vector"])
        """Shape (devices, n), without the operations' own part."""
        if operations.recurrent.any():
            loops = np.stack([mark_compiled_loops(operations, device)[self.runs] for device in self._devices])
            self._compute += loops * fit.coefficients.get(COMPILED_LOOP, 0.0)
        self._runs_on: dict[Path, Flags] = {
            "tensor": np.asarray(self._tensor_path.any(axis=0)),
            "vector": np.asarray(~self._tensor_path.all(axis=0)),
        }
        self._groups = groups
        self._own: dict[Path, Array] = {path: np.zeros(len(groups)) for path in PATHS}
        self._tiles = np.full(len(groups), np.nan)
        self._set(range(len(groups)), 1.0, self._own, self._tiles)

    def memory(self, ratio: float, used: NDArray[np.int64]) -> tuple[Array, Array]:
        """
        Return the time of bytes over that at the full bandwidth of the devices `used`, shape (devices, operations).

        The second is the least: at efficiency 1. Bytes in a cache take what they would where memory is as fast.
        """
        slowness = self._slowness(ratio, used, self._memory, self._bandwidth_s)
        least = np.ones(slowness.shape)
        row = np.flatnonzero(self._cache_s[used] < self._bandwidth_s[used])
        faster, gain = used[row], (self._cache_s / self._bandwidth_s)[used[row], None]
        devices = [self._devices[int(index)] for index in faster]
        cached_share = compute_cached_share(self._operations.bytes_a_launch(ratio), devices)
        cached = gain * self._slowness(ratio, faster, self._cached, self._cache_s)
        slowness[row] -= cached_share * np.maximum(slowness[row] - cached, 0.0)
        least[row] -= cached_share * (1.0 - gain)
        return slowness, least

    def _slowness(
        self, ratio: float, used: NDArray[np.int64], logits: Array, seconds_per_byte: Array
    ) -> Array:
        logit: Array = logits[used]
        short, brevity = log2_brevity(self._operations, ratio, seconds_per_byte[used])
        logit[:, short] += self._fit.coefficients.get(BRIEF, 0.0) * brevity
        return inverse_efficiency(logit)

    def compute(self, ratio: float, used: NDArray[np.int64]) -> Array:
        """Return logits of compute efficiency of the devices `used`, shape (devices, n)."""
        own_times, tiles = self._own, self._tiles
        if ratio != 1.0:
            scaled: dict[Path, Array] = {path: own_times[path].copy() for path in PATHS}
            own_times, tiles = scaled, tiles.copy()
            moves = [i for i, group in enumerate(self._groups) if shape_at(group, ratio) != group.shape]
            self._set(moves, ratio, own_times, tiles)
        chosen = [self._devices[int(i)] for i in used]
        waves = self._fit.coefficients.get(WAVES, 0.0) * measure_unfilled_waves(tiles, chosen)
        of_shape = np.where(self._tensor_path[used], own_times["tensor"], own_times["vector"])
        return np.asarray(self._compute[used] + of_shape + waves)

    def _set(self, chosen: Sequence[int], ratio: float, own_times: dict[Path, Array], tiles: Array) -> None:
        """Write the own logits and tiles of operations with FLOPs at a micro-batch into `own_times` and `tiles`."""
        for path, on_path in self._runs_on.items():
            these = [i for i in chosen if on_path[i]]
            own_times[path][these] = self._fit.logits(
                compute_terms(self._groups[i], path, ratio) for i in these
            )
        tiles[chosen] = [log2_tiles(self._groups[i], ratio) for i in chosen]
