"""Batches of different length: mean and range of a run are by batches of the whole epoch, not by the first few."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

from builders.lightning_modules import quiet
from builders.scripts import load_script
from trainfare.fake_step import trace_job
from trainfare.fake_step.several_batches import MOST_BATCHES, READ_BATCHES, read_batches
from trainfare.job.loading import LoadTimes
from trainfare.plain_loop.batch_sample import ALIKE_BATCHES, MOST_S, sample_batches
from trainfare.trace import BatchSpread

pytestmark = quiet

SCRIPT = """
import random, torch
from torch import nn
from torch.utils.data import DataLoader
chance = random.Random({seed})
lengths = [min(128, int(chance.lognormvariate(3.3, 0.6)) + 4) for _ in range(8000)]
def pad(samples):
    longest = max(map(len, samples))
    return torch.stack([nn.functional.pad(sample, (0, 0, 0, longest - len(sample))) for sample in samples])
torch.manual_seed({seed})
loader = DataLoader([torch.ones(length, 16) for length in lengths], 8, shuffle=True, collate_fn=pad)
model = nn.Linear(16, 16)
optimizer = torch.optim.AdamW(model.parameters())
for epoch in range(2):
    for batch in loader:
        model(batch).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
"""
ALIKE = "lengths = [20] * 8000"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def list_flops(seed: int) -> list[int]:
    """Return the FLOPs of the steps of a whole run, by its first lines."""
    names = dict[str, Any]()
    exec(SCRIPT.format(seed=seed).split("model =")[0], names)
    return [2 * 2 * batch.shape[0] * batch.shape[1] * 16 * 16 for _ in range(2) for batch in names["loader"]]


def test_mean_and_range_are_those_of_the_run() -> None:
    """Ten runs: the mean within 5 %, and the range holds every step in nine of them."""
    held = 0
    for seed in range(10):
        profile, truth = trace_job(load_script(SCRIPT.format(seed=seed))), list_flops(seed)
        variation = profile.batch.variation
        assert variation is not None
        assert sum(group.flops for group in profile.operations) == pytest.approx(mean(truth), rel=0.05)
        inside = [variation.smallest_flops <= flops <= variation.largest_flops for flops in truth]
        assert mean(inside) > 0.9
        held += all(inside)
        assert variation.largest_flops < 3 * max(truth)
    assert held >= 9


def test_batches_that_are_alike_are_exact() -> None:
    text = SCRIPT.format(seed=0).replace("batch in loader", "batch in loader").split("lengths = [min")
    script = text[0] + ALIKE + text[1][text[1].index("\n") :]
    profile = trace_job(load_script(script))
    assert sum(group.flops for group in profile.operations) == 2 * 2 * 8 * 20 * 16 * 16
    assert profile.batch.variation is None


class Rows(Dataset[torch.Tensor]):
    """Rows of one length or of their own number's; counts what it is asked for."""

    def __init__(self, *, varied: bool) -> None:
        self.varied, self.asked = varied, 0

    def __len__(self) -> int:
        return 1000

    def __getitem__(self, number: int) -> torch.Tensor:
        self.asked += 1
        return torch.ones(number + 1 if self.varied else 3)


class Stream(IterableDataset[torch.Tensor]):
    def __iter__(self) -> Iterator[torch.Tensor]:
        raise AssertionError("a stream is not read once more")


def sample(data: Dataset[torch.Tensor], seen: list[int], *, step_s: float = 0.0) -> list[Any]:
    """Return what is read of a data set, with a clock that goes on by so much at each look."""
    times = iter(range(1000))
    iterator = object.__new__(type(iter(DataLoader(Rows(varied=False), 1))))
    vars(iterator).update(vars(iter(DataLoader(Rows(varied=False), 1))), _dataset=data)
    return [*sample_batches(iterator, seen, lambda: next(times) * step_s, LoadTimes())]


def test_few_are_read_where_all_are_alike_and_none_of_a_stream() -> None:
    """A size that differs, or time, decides how many are read."""
    alike, varied = Rows(varied=False), Rows(varied=True)
    assert len(sample(alike, [3] * 3)) == alike.asked == ALIKE_BATCHES - 3
    sizes = [batch.numel() for batch in sample(varied, [3])]
    assert len(sizes) == 512
    assert mean(sizes) == pytest.approx(500, rel=0.01)
    assert len(sample(Rows(varied=True), [3], step_s=MOST_S / 4)) == 4
    assert sample(Stream(), [3, 4]) == []


def test_more_batches_are_read_where_they_differ() -> None:
    """Before launch of a Trainer."""
    chance = random.Random(0)
    varied = (torch.ones(chance.randint(1, 9)) for _ in range(1000))
    assert len(read_batches(varied)) == MOST_BATCHES
    assert len(read_batches(torch.ones(5) for _ in range(1000))) == READ_BATCHES
    assert len(read_batches([torch.ones(5)] * 3)) == 3


def test_the_range_of_more_batches_than_were_seen_is_wider() -> None:
    """The fewer were seen of a run, the wider; where all were, it is theirs."""
    spread = BatchSpread.of([80, 100, 125])
    assert spread.range() == (80, 125)
    ranges = []
    for spread.of_run in (3, 30, 1000):
        ranges.append(spread.range())
    assert ranges[0] == (80, 125)
    assert 80 > ranges[1][0] > ranges[2][0] > 20
    assert 125 < ranges[1][1] < ranges[2][1] < 500
