"""
Bytes that a kernel reads from a GPU's L2 cache and not from its memory: the last kernels left them there.

All slices of a cache are read at once, so that its bandwidth grows with its size. The 48 to 96 MiB beside the GDDR6 of
an L4, L40S or RTX 4090 are several times as fast as that memory; the caches of an A100 or H100 are not faster than
theirs by this measure, and save nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from trainfare_core.arrays import Array
from trainfare_core.hardware.accelerator_rows import Accelerator

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
