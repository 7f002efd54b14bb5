"""Kernels that are timed on a CPU as a device: what is timed, when it ends, and what it leaves of torch's settings."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from trainfare.ledger.device_kernels import measure_device, run_launches, time_all_reduce  # noqa: E402

NOW = datetime(2026, 11, 30, 12, tzinfo=timezone.utc)


def ticks(step_s: float) -> Generator[float]:
    """Yield the readings of a clock that goes on by some seconds each time it is read."""
    yield from (step_s * count for count in itertools.count())


def test_a_cpu_is_timed_by_the_clock() -> None:
    """Half a second between two readings: each round of one launch takes that, and no larger size has its time."""
    readings, shown = ticks(0.5), list[str]()

    @contextmanager
    def show(text: str) -> Generator[None]:
        shown.append(text)
        yield

    settings = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    measured, notes = measure_device(1.0, NOW, clock=lambda: next(readings), wait=show)
    assert notes == []
    assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == settings
    assert (measured.torch, measured.measured_at, measured.memory_bytes) == (torch.__version__, NOW, None)
    assert measured.accelerator is None
    assert {kernel.seconds for kernel in measured.kernels} == {0.5}
    works = [kernel.work for kernel in measured.kernels]
    assert works == ["launch", "memory", "matmul fp32", "matmul bf16", "convolution fp32"]
    assert len(shown) == len(works)
    product, convolution = measured.kernels[2].operation, measured.kernels[4].operation
    assert (product.flops, product.bytes_moved) == (2 * 1024**3, 3 * 4 * 1024**2)
    assert convolution.flops == 2 * 64 * 14 * 14 * 256 * 256 * 9


def test_what_fails_is_named_and_the_rest_stays() -> None:
    """The second size finds no memory: the first was timed, and a note says what was not."""

    def fill(make: Callable[..., Any], size: int) -> Callable[[], object]:
        if size > 16:
            raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2 TiB")
        numbers = make(size)
        return lambda: numbers.copy_(numbers.clone())

    readings = ticks(1e-3)
    measured, notes = measure_device(
        1.0, NOW, clock=lambda: next(readings), kernels=[(fill, "fp32", (16, 32))]
    )
    assert [kernel.operation.shape for kernel in measured.kernels] == [(16,)]
    assert notes == ["fill fp32 was not timed: CUDA out of memory."]


def test_launches_are_counted_until_the_device_has_done_them() -> None:
    """Ten launches between two readings of the clock."""
    readings, launched = ticks(3.0), list[int]()
    taken_s = run_launches(lambda: launched.append(1), 10, torch.device("cpu"), lambda: next(readings))
    assert (taken_s, len(launched)) == (3.0, 10)


def test_an_interrupt_leaves_torch_as_it_was() -> None:
    """Ctrl-C between two kernels."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32

    def clock() -> float:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure_device(1.0, NOW, clock=clock)
    assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == before


def test_processes_all_reduce() -> None:
    """Two processes of gloo, each with a kilobyte: a time, of two devices, and of as many bytes as they send."""
    time = time_all_reduce("gloo", 2, 256)
    assert (time.work, time.reduced_by, time.operation.bytes_read) == ("all_reduce", 2, 1024)
