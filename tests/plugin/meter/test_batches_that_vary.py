"""Batches whose size varies: the profile is that of the mean batch of the run, its memory that of the largest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

from builders.lightning_modules import (
    FlopCounter,
    MeterHarness,
    Rows,
    lightning_module,
    loader,
    quiet,
    trainer,
)
from trainfare.report.facts import job_facts
from trainfare_core.ranking.options.assumptions import job_summary

pytestmark = [*quiet, pytest.mark.filterwarnings("ignore:.*enable_nested_tensor")]


class Texts(Dataset[Tensor]):
    """Token ids whose lengths are lognormal, each from its index."""

    def __init__(self, texts: int) -> None:
        self.texts = texts

    def __len__(self) -> int:
        return self.texts

    def __getitem__(self, index: int) -> Tensor:
        drawn = torch.Generator().manual_seed(index)
        length = int(torch.empty(()).log_normal_(3.0, 0.6, generator=drawn).clamp(4, 128))
        return torch.randint(1, 50, (length,), generator=drawn)


def pad_batch(batch: list[Tensor]) -> dict[str, Tensor]:
    """Pad to the longest text of the batch, as the collators of language models do."""
    ids = pad_sequence(batch, batch_first=True)
    return {"input_ids": ids, "attention_mask": (ids > 0).float()}


class Reader(pl.LightningModule):
    """Attention without a fused kernel, and a feed-forward layer; counts its own FLOPs with torch's counter."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide = nn.Sequential(nn.Linear(width, 4 * width), nn.ReLU(), nn.Linear(4 * width, 50))

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        hidden = self.embedding(batch["input_ids"])
        query, key, value = self.qkv(hidden).chunk(3, dim=-1)
        scores = torch.softmax(query @ key.transpose(1, 2) / 4.0, dim=-1)
        logits = self.wide(hidden + self.out(scores @ value))
        return nn.functional.cross_entropy(logits.flatten(0, 1), batch["input_ids"].flatten())

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters())


def count_flops(folder: Path, data: Callable[[], Any], module: Callable[[], Any] = Reader) -> list[int]:
    """Return the FLOPs of every step by torch's own counter."""
    counter = FlopCounter()
    trainer(folder, counter, max_epochs=1).fit(module(), data())
    return counter.flops


def texts(count: int = 160) -> DataLoader[Any]:
    return DataLoader(Texts(count), batch_size=4, collate_fn=pad_batch)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_dynamic_padding_is_priced_at_the_mean_of_the_run(tmp_path: Path, precision: Any) -> None:
    """Within 5 % of the counter's mean over the run, where one batch alone can be 2.4 times it."""
    flops = count_flops(tmp_path, texts)
    assert max(flops) > 3 * min(flops)
    harness = MeterHarness()
    fit = trainer(tmp_path, harness.meter(tmp_path), max_epochs=1, precision=precision)
    fit.fit(Reader(), texts())
    profile = harness.profile
    assert profile.source.how == "real"
    assert profile.step_flops == pytest.approx(mean(flops), rel=0.05)
    variation = profile.batch.variation
    assert variation is not None
    assert variation.batches == len(flops)
    assert variation.smallest_flops == pytest.approx(min(flops), rel=0.1)
    assert variation.largest_flops == pytest.approx(max(flops), rel=0.1)
    assert 0.0 < variation.work_log_sigma < 0.2
    assert profile.batch.micro_batch_size == 4
    assert profile.batch.tokens_per_step == pytest.approx(
        mean(batch["input_ids"].numel() for batch in texts()), rel=0.01
    )
    assert any("batches vary from" in fact and "MFLOP" in fact for fact in job_facts(job_summary(profile)))


def test_memory_is_that_of_the_largest_batch(tmp_path: Path) -> None:
    """Whether a run fits is decided by its largest batch: saved activations are those of a run of such batches."""

    def count_saved(data: Any, **options: Any) -> int:
        harness = MeterHarness()
        trainer(tmp_path, harness.meter(tmp_path), **options).fit(Reader(), data)
        return harness.profile.memory.saved_activation_bytes

    largest = max(texts(), key=lambda batch: batch["input_ids"].numel())
    of_largest = count_saved(Repeated([largest] * 20), max_epochs=1)
    assert count_saved(texts(), max_epochs=1) == pytest.approx(of_largest, rel=0.15)


class Repeated:
    """A loader without a batch size that yields these batches."""

    def __init__(self, batches: list[Any]) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.batches)


def test_samples_and_flops_are_of_the_same_batches(tmp_path: Path) -> None:
    """Of buckets with 2 to 8 samples, FLOPs a sample and samples a step are those of the mean batch."""
    sizes = [2, 8, 4, 6] * 10

    def buckets() -> Repeated:
        return Repeated([pad_batch([Texts(1)[0]] * size) for size in sizes])

    flops = count_flops(tmp_path, buckets)
    harness = MeterHarness()
    trainer(tmp_path, harness.meter(tmp_path), max_epochs=1).fit(Reader(), buckets())
    profile = harness.profile
    assert (profile.batch.micro_batch_size, profile.batch.samples_per_step) == (5, 5)
    assert profile.step_flops == pytest.approx(mean(flops), rel=0.01)


def test_equal_batches_are_not_said_to_vary(tmp_path: Path) -> None:
    """An incomplete last batch of an epoch is no variation: the profile is that of the whole batch."""
    data = DataLoader(torch.randint(1, 50, (42, 9)), batch_size=4, collate_fn=pad_batch)  # type: ignore[arg-type]
    harness = MeterHarness()
    trainer(tmp_path, harness.meter(tmp_path), max_epochs=2).fit(Reader(), data)
    assert harness.profile.batch.variation is None
    assert harness.profile.batch.tokens_per_step == 36
    assert harness.profile.work_log_sigma == 0.0


class Series(Dataset[Tensor]):
    """Two series, of which a loader with a batch size of 32 makes batches of two."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Tensor:
        return torch.randint(1, 50, (12,), generator=torch.Generator().manual_seed(index))


def test_a_loader_that_gives_fewer_samples_than_it_says(tmp_path: Path) -> None:
    """The tensors are right: else throughput and every plan that shares the batch are those of another one."""
    harness = MeterHarness()
    fit = trainer(tmp_path, harness.meter(tmp_path), max_epochs=20)
    fit.fit(Reader(), DataLoader(Series(), batch_size=32, collate_fn=pad_batch))
    assert harness.profile.batch.micro_batch_size == 2
    assert harness.profile.batch.tokens_per_step == 2 * 12


Layer = lightning_module(
    lambda self, batch, index: self.layer(batch).square().mean(), layers=lambda: {"layer": nn.Linear(8, 8)}
)


def by_loader(samples: int) -> DataLoader[Any]:
    return loader(samples, 16)


def by_sampler(samples: int) -> DataLoader[Any]:
    indexes = list(range(samples))
    return DataLoader(Rows(samples), batch_sampler=[indexes[at : at + 16] for at in range(0, samples, 16)])


@pytest.mark.parametrize("make", [by_loader, by_sampler])
@pytest.mark.parametrize(
    ("samples", "epochs", "accumulate"),
    [(60, 1, 1), (60, 2, 1), (60, 3, 2), (28, 4, 1), (28, 1, 1), (124, 5, 1)],
)
def test_the_smaller_last_batch_of_an_epoch_is_not_the_traced_one(
    tmp_path: Path, make: Any, samples: int, epochs: int, accumulate: int
) -> None:
    """Of 4, 2 and 8 batches an epoch: FLOPs and samples are of whole batches."""
    harness = MeterHarness()
    fit = trainer(tmp_path, harness.meter(tmp_path), max_epochs=epochs, accumulate_grad_batches=accumulate)
    fit.fit(Layer(), make(samples))
    profile = harness.profile
    assert profile.batch.micro_batch_size == 16
    assert profile.step_flops == accumulate * 2 * 2 * 16 * 8 * 8
    assert profile.batch.variation is None
    assert not any("incomplete last one" in note for note in profile.notes)


@pytest.mark.parametrize("epochs", [1, 8])
def test_the_samples_are_those_of_the_batch_that_was_traced(tmp_path: Path, epochs: int) -> None:
    """Each step ends with the smaller batch of its epoch, so that no whole one is traced: that is said."""
    harness = MeterHarness()
    fit = trainer(tmp_path, harness.meter(tmp_path), max_epochs=epochs, accumulate_grad_batches=4)
    fit.fit(Layer(), by_loader(60))
    profile = harness.profile
    assert (profile.batch.micro_batch_size, profile.batch.samples_per_step) == (12, 48)
    assert profile.step_flops == 4 * 2 * 2 * 12 * 8 * 8
    assert sum("batches of 12 samples, where others have 16" in note for note in profile.notes) == 1
    if profile.measured is not None:
        assert profile.measured.work_ratio == pytest.approx(16 / 12)


def test_an_epoch_of_one_batch(tmp_path: Path) -> None:
    """It is the last of its epoch, and none is larger."""
    harness = MeterHarness()
    trainer(tmp_path, harness.meter(tmp_path), max_epochs=6).fit(Layer(), by_loader(12))
    assert harness.profile.batch.micro_batch_size == 12
    assert harness.profile.step_flops == 2 * 2 * 12 * 8 * 8
