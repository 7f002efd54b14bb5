"""What a loader's first batches take, in this process and without workers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from trainfare.job.loading import LoadTimes, load_in_this_process
from trainfare.job.run_facts import InputSource

SOURCE = InputSource("pictures", 4)


class Numbers(Dataset[int]):
    """Eight numbers, each of which notes how many threads torch has."""

    def __init__(self) -> None:
        self.threads: list[int] = []

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> int:
        self.threads.append(torch.get_num_threads())
        return index


def count_up(*steps: float) -> Iterator[float]:
    total = 0.0
    for step in (0.0, *steps):
        total += step
        yield total


def test_the_median_batch_counts_without_the_first() -> None:
    """Two clocks, each asked before and after a batch; one that raises has no time."""
    data, wall, busy = Numbers(), count_up(60, 0, 2, 0, 4, 0, 9), count_up(30, 0, 1, 0, 1, 0, 1)
    times = LoadTimes(lambda: next(wall), lambda: next(busy))
    for _ in range(3):
        with times.time_batch(data):
            pass
    with pytest.raises(ValueError, match="broken"), times.time_batch(data):
        raise ValueError("broken")
    time = times.add_to(SOURCE, DataLoader(data), 2).time
    assert time is not None
    assert (time.sample_s, time.sample_cpu_s, time.batches, time.workers) == (1.5, 0.5, 2, 4)
    assert times.add_to(SOURCE, DataLoader(data), None) == SOURCE  # whose size is not known
    assert times.add_to(SOURCE, DataLoader(Numbers()), 2) == SOURCE  # of which no batch came


def test_batches_are_loaded_as_a_worker_does() -> None:
    """In this process, on one thread; afterwards torch and the loader are as before."""
    data, threads, original = Numbers(), torch.get_num_threads(), DataLoader.__iter__
    loader: Any = DataLoader(data, 2, num_workers=1)
    torch.set_num_threads(2)
    try:
        with load_in_this_process() as times:
            assert len([*loader]) == 4
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert {*data.threads} == {1}
    assert (loader.num_workers, DataLoader.__iter__) == (1, original)
    time = times.add_to(SOURCE, loader, 2).time
    assert time is not None
    assert time.batches == 3
