"""
What a loader's first batches, timed in one process, say of its rate with workers.

    python -m benchmarks.loader_time [--json OUT]

JPEGs of 500 x 375 are made, decoded, resized to 224 x 224 and loaded in batches of 32. Peer: the seconds of a batch
that are predicted from the first 16 batches for this many workers on this host's cores; ours: those that a
DataLoader with them takes, the mean of 60 batches after the first ten. The limit is a fifth either way.
"""

from __future__ import annotations

import itertools
import os
import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from benchmarks.cases import Case, case_parser, in_a_fresh_process, write_cases
from trainfare.fake_step.several_batches import read_batches
from trainfare.job.input_kind import read_source
from trainfare.job.loading import load_in_this_process
from trainfare_core.prediction.input_pipeline import QUEUE_BYTES_PER_S

BATCH, PICTURES, SKIPPED, TIMED = 32, 64, 10, 60


class Pictures(Dataset[torch.Tensor]):
    """Pictures of a folder, as many as the benchmark asks for."""

    def __init__(self, folder: str) -> None:
        self.paths = sorted(Path(folder).glob("*.jpg"))

    def __len__(self) -> int:
        return BATCH * (SKIPPED + TIMED + 1)

    def __getitem__(self, index: int) -> torch.Tensor:
        """Return 3 x 224 x 224 values from 0 to 1."""
        with Image.open(self.paths[index % len(self.paths)]) as picture:
            pixels = np.array(picture.convert("RGB").resize((224, 224)))
        return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255


def make_pictures(folder: str) -> None:
    """Write smooth noise, which compresses as photographs do."""
    noise = np.random.default_rng(0)
    for number in range(PICTURES):
        coarse = Image.fromarray(noise.integers(0, 255, (47, 63, 3), dtype=np.uint8))
        coarse.resize((500, 375), Image.Resampling.BICUBIC).save(f"{folder}/{number}.jpg", quality=90)


def predict_s(asked: tuple[str, int]) -> float:
    """Return the seconds of a batch by the first ones."""
    folder, workers = asked
    loader: Any = DataLoader(Pictures(folder), BATCH)
    with load_in_this_process() as times:
        read_batches(loader)
    timed = times.add_to(read_source(loader), loader, BATCH).time
    assert timed is not None
    batch_s = BATCH * timed.sample_cpu_s
    if not workers:
        return batch_s
    threads = min(workers, len(os.sched_getaffinity(0)))
    queue_s = BATCH * 3 * 224 * 224 * 4 / QUEUE_BYTES_PER_S
    return float(np.hypot(batch_s / threads, queue_s))


def measure_s(asked: tuple[str, int]) -> float:
    """Return the mean seconds of a batch of a DataLoader."""
    folder, workers = asked
    torch.set_num_threads(1)
    loader = DataLoader(Pictures(folder), BATCH, num_workers=workers)
    batches = iter(loader)
    for _ in itertools.islice(batches, SKIPPED):
        pass
    began_s = time.perf_counter()
    for _ in itertools.islice(batches, TIMED):
        pass
    return (time.perf_counter() - began_s) / TIMED


WORKERS: Final = (0, 1, 2)


def main() -> None:
    """Run the command line."""
    arguments = case_parser(__doc__).parse_args()
    cases: dict[str, Case] = {}
    with TemporaryDirectory() as folder:
        make_pictures(folder)
        for workers in WORKERS:
            predict, measure = (partial(in_a_fresh_process, work) for work in (predict_s, measure_s))
            predicted_s, taken_s = predict((folder, workers)), measure((folder, workers))
            ratio = predicted_s / taken_s
            cases[f"{workers} workers"] = Case(taken_s * 1e3, predicted_s * 1e3, ratio, "ms")
    for name, case in cases.items():
        print(f"{name}: {case.ours:.1f} {case.unit} a batch, predicted {case.peer:.1f} ({case.ratio:.2f} x)")
    write_cases(arguments.json, cases)


if __name__ == "__main__":
    main()
