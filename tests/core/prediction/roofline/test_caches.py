"""Bytes that a GPU's L2 cache delivers in place of its memory."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders.plans import predict_one
from builders.profiles import operation, profile
from trainfare_core.hardware.accelerator_rows import Accelerator
from trainfare_core.hardware.accelerators import accelerator
from trainfare_core.prediction.roofline.coefficients import calibration
from trainfare_core.prediction.roofline.operations import Operations, Roofline
from trainfare_core.prediction.roofline.times import (
    CACHE_READ_S,
    compute_cached_share,
    operation_seconds,
    with_cache_as_memory,
)

MEBIBYTE = 2**20
CARD = accelerator("L40S-48GB")


def seconds(device: Accelerator, size: int, launches: int = 1) -> float:
    """Return how long kernels take that move so many bytes together."""
    moved = operation(kind="elementwise", flops=0, bytes_read=size, bytes_written=0, launches=launches)
    operations = Operations.of(profile(operations=(moved,)))
    time = operation_seconds(operations, [Roofline.of(device, operations)], 1.0, calibration())
    return float(time.memory_s[0, 0])


def test_a_kernel_within_the_cache_takes_less_than_from_memory() -> None:
    """ResNet-152 on an L40S: without a cache predicted 55 % too slow with 56 images, and 1 % with 464."""
    without = replace(CARD, l2_bytes=None)
    assert seconds(CARD, 16 * MEBIBYTE) < 0.6 * seconds(without, 16 * MEBIBYTE)
    assert 0.97 < seconds(CARD, 1_000 * MEBIBYTE) / seconds(without, 1_000 * MEBIBYTE) < 1.0


def test_many_small_kernels_use_the_cache_and_one_large_one_does_not() -> None:
    small, large = seconds(CARD, 4_096 * MEBIBYTE, launches=128), seconds(CARD, 4_096 * MEBIBYTE)
    assert small < 0.7 * large
    a100 = accelerator("A100-SXM-80GB")
    assert seconds(a100, 4_096 * MEBIBYTE, launches=128) >= seconds(a100, 4_096 * MEBIBYTE)


def test_caches_that_are_no_faster_than_their_memory_save_nothing() -> None:
    for name in (
        "A100-SXM-80GB",
        "H100-SXM-80GB",
        "H200-SXM-141GB",
        "V100-SXM2-16GB",
        "T4-16GB",
        "RTX-3090-24GB",
    ):
        device = accelerator(name)
        assert with_cache_as_memory(device) == device, name
        assert not compute_cached_share(np.array([1.0, 1e9]), [device]).any(), name
        assert seconds(device, MEBIBYTE) == seconds(replace(device, l2_bytes=None), MEBIBYTE), name


def test_devices_without_a_known_cache_and_behind_a_graph_compiler_have_none() -> None:
    large = 1e9 * CACHE_READ_S * 1e6
    for device in (replace(CARD, l2_bytes=None), replace(accelerator("TPU-v5e"), l2_bytes=large)):
        assert with_cache_as_memory(device) == device
        assert not compute_cached_share(np.array([1.0]), [device]).any()
    assert with_cache_as_memory(CARD).memory_bandwidth_bytes_per_s == pytest.approx(3.73e12, rel=0.01)


@given(
    size=st.integers(1, 10**11),
    bandwidth=st.floats(1e10, 1e13),
    cache=st.floats(1e5, 1e9),
    faster=st.floats(1.0, 8.0),
    larger=st.floats(1.0, 8.0),
    more=st.integers(1, 8),
)
@settings(max_examples=80, deadline=None)
def test_more_bandwidth_a_larger_cache_and_fewer_bytes_never_take_longer(
    size: int, bandwidth: float, cache: float, faster: float, larger: float, more: int
) -> None:
    device = replace(CARD, memory_bandwidth_bytes_per_s=bandwidth, l2_bytes=cache)
    base_s = seconds(device, size) * (1 + 1e-9)
    assert seconds(replace(device, memory_bandwidth_bytes_per_s=bandwidth * faster), size) <= base_s
    assert seconds(replace(device, l2_bytes=cache * larger), size) <= base_s
    assert base_s <= seconds(device, size * more) * (1 + 1e-8)


def test_the_floor_of_a_step_counts_what_a_cache_delivers() -> None:
    """Else a measured step could correct a prediction to no less than the memory's time, which a cache undercuts."""
    moved = operation(kind="elementwise", flops=0, launches=64, bytes_read=2**30, bytes_written=0)
    operations = Operations.of(profile(operations=(moved,)))
    time = operation_seconds(operations, [Roofline.of(CARD, operations)], 1.0, calibration())
    assert time.floor_s[0, 0] < 0.3 * 2**30 / CARD.memory_bandwidth_bytes_per_s
    assert time.floor_s[0, 0] < time.memory_s[0, 0]
    assert predict_one(profile(operations=(moved,)), CARD.name).memory_s[0] > 0.0
