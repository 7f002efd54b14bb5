"""A job with several batches, or a DataLoader: its profile is that of their mean."""

from __future__ import annotations

import random
from statistics import mean
from typing import Any

import pytest
import torch
from pytorch_lightning.demos.boring_classes import BoringModel
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from builders.lightning_modules import lightning_module, update_by
from trainfare import TrainingJob, trace_job
from trainfare.fake_step import with_tokens
from trainfare.fake_step.several_batches import batches_of
from trainfare.job import Batches
from trainfare.trace import BatchSpread, batch_elements, count_tokens
from trainfare.trace.batch_spread import Growth
from trainfare_core.errors import InputError, TraceError


class Attends(nn.Module):
    """A step with attention over the length, without a fused kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.out = nn.Linear(16, 16), nn.Linear(16, 16)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        hidden = self.inner(batch)
        scores = torch.softmax(hidden @ hidden.transpose(1, 2), dim=-1)
        return self.out(scores @ hidden).square().mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters())


LENGTHS = (7, 30, 12, 90, 15, 22, 11, 40, 19, 64)


def batches() -> list[Tensor]:
    return [torch.ones(4, length, 16) for length in LENGTHS]


def count_flops(batch: Tensor) -> int:
    with FlopCounterMode(display=False) as counter:
        Attends().training_step(batch, 0).backward()  # type: ignore[no-untyped-call]
    return int(counter.get_total_flops())


def job(batch: Any, **changes: Any) -> TrainingJob:
    fields = {"module": Attends, "batch": batch, "batch_size": 4, "precision": "32-true", "max_steps": 100}
    return TrainingJob(**{**fields, **changes})


def test_the_profile_is_that_of_the_mean_batch() -> None:
    """Two sizes are traced; the FLOPs of linear layers and of attention are those of all ten, within 1 %."""
    profile = trace_job(job(Batches(tuple(batches()))))
    flops = [count_flops(batch) for batch in batches()]
    assert profile.step_flops == pytest.approx(mean(flops), rel=0.01)
    variation = profile.batch.variation
    assert variation is not None
    assert variation.batches == len(LENGTHS)
    assert variation.smallest_flops == pytest.approx(min(flops), rel=0.01)
    assert variation.largest_flops == pytest.approx(max(flops), rel=0.01)
    assert 0.1 < variation.work_log_sigma < 0.6
    largest = trace_job(job(batches()[LENGTHS.index(90)]))
    assert profile.memory.saved_activation_bytes == pytest.approx(
        largest.memory.saved_activation_bytes, rel=0.01
    )
    assert profile.memory.input_bytes == largest.memory.input_bytes
    assert profile.optimizer == largest.optimizer


def test_a_loader_is_read() -> None:
    """`batch=loader` takes its first batches and leaves the random generators as they were."""
    data = [torch.ones(length, 16) for length in LENGTHS * 3]
    loader = DataLoader(data, batch_size=1, shuffle=True)  # type: ignore[arg-type]
    before = torch.get_rng_state()
    profile = trace_job(job(loader, batch_size=1))
    assert torch.equal(torch.get_rng_state(), before)
    assert profile.batch.variation is not None
    assert profile.batch.variation.batches == 30  # all that an epoch has, for they differ
    equal = trace_job(job(DataLoader(torch.ones(64, 9, 16), batch_size=4)))  # type: ignore[arg-type]
    assert equal.batch.variation is None
    assert equal == trace_job(job(torch.ones(4, 9, 16)))


def test_a_loader_gives_the_same_batches_each_time() -> None:
    """Whatever was drawn before, and whatever the sampler draws itself: the same commit has the same cost."""
    data = [torch.ones(random.randint(1, 99), 1) for _ in range(200)]
    sums: set[int] = set()
    for seed in range(20):
        random.seed(seed)
        torch.manual_seed(seed)
        loader: Any = DataLoader(data, batch_size=1, shuffle=True, collate_fn=_cut)  # type: ignore[arg-type]
        found = batches_of(loader)
        assert found is not None
        sums.add(hash(tuple(len(batch) for batch in found)))
    assert len(sums) == 1


def _cut(rows: list[Tensor]) -> Tensor:
    return rows[0][: random.randint(1, 99)]


def test_samples_are_the_mean_of_batches_that_differ_in_them() -> None:
    """Buckets of 2 to 6 samples: the micro-batch is their mean, and its FLOPs are theirs."""
    buckets = Batches(tuple(torch.ones(size, 32) for size in (2, 6, 4, 4)))
    profile = trace_job(TrainingJob(module=BoringModel, batch=buckets, batch_size=4, max_steps=5))
    job_profile = trace_job(
        TrainingJob(module=BoringModel, batch=torch.ones(4, 32), batch_size=4, max_steps=5)
    )
    assert profile.batch.micro_batch_size == 4
    assert profile.step_flops == job_profile.step_flops
    assert profile.plan == job_profile.plan


def test_no_batch_is_said() -> None:
    """An empty DataLoader and a data set that raises are named."""
    with pytest.raises(InputError, match="no batch"):
        trace_job(job(Batches(())))

    class Gone(torch.utils.data.Dataset[Tensor]):
        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int) -> Tensor:
            raise FileNotFoundError("train.csv")

    with pytest.raises(TraceError, match=r"reading the DataLoader.*train.csv"):
        trace_job(job(DataLoader(Gone())))


@pytest.mark.parametrize(
    ("there", "at_10"),
    [
        (1.0, 1.0),
        (0.5, 1.0),
        (2.0, 5.5),
        (3.0, 10.0),
        (6.0, 55.0),
        (27.0, 1000.0),
        (81.0, 1000.0),
        (0.0, 10.0),
    ],
    ids=[
        "constant",
        "less",
        "weights and batch",
        "proportional",
        "half attention",
        "cube",
        "steeper",
        "none",
    ],
)
def test_growth_goes_through_both_sizes(there: float, at_10: float) -> None:
    """From one traced size to three times it, and on to ten times it."""
    growth = Growth.between(1.0, there, 3.0)
    assert growth.at(1.0) == pytest.approx(1.0)
    assert growth.at(10.0) == pytest.approx(at_10)


def test_the_spread_of_sizes() -> None:
    """Median, mean and deviation; equal batches do not vary, and a long run keeps few numbers."""
    spread = BatchSpread.of([100, 200, 400, 100])
    assert (spread.median(), spread.batches, spread.varies) == (100.0, 4, True)
    assert spread.mean_of(100.0, Growth()) == pytest.approx((2.0, 0.6124), rel=1e-3)
    assert not BatchSpread.of([64] * 9).varies
    assert not BatchSpread().varies
    long = BatchSpread.of(range(1, 200_000))
    assert len(long.sizes()) < 1300
    assert long.mean_of(1.0, Growth())[0] == pytest.approx(100_000.0)


def test_elements_of_batches_in_any_form() -> None:
    """Tensors are found in dataclasses, objects, mappings and cycles; a large batch is visited in part."""

    class Graph:
        def __init__(self) -> None:
            self.nodes, self.edges, self.me = torch.ones(5, 2), {"index": torch.ones(2, 7)}, self

    assert batch_elements(Graph()) == 24
    assert batch_elements((torch.ones(3), [torch.ones(2)], "text", None, 4)) == 5
    assert batch_elements([torch.ones(1) for _ in range(1000)]) <= 64


def test_tokens_of_pairs_are_those_of_both_texts() -> None:
    """As DPO of TRL before 1.0 joins them: the prompt before each answer, the shorter of which is padded."""
    shapes = {"prompt_input_ids": (4, 5), "chosen_input_ids": (4, 3), "rejected_input_ids": (4, 7)}
    pairs = {key: torch.zeros(shape).long() for key, shape in shapes.items()}
    assert count_tokens(pairs) == 2 * 4 * (5 + 7)
    assert count_tokens({key: pairs[key] for key in ("prompt_input_ids", "chosen_input_ids")}) is None
    assert count_tokens({**pairs, "input_ids": torch.zeros(4, 2)}) == 8


Words = lightning_module(
    lambda self, batch, index: self.table(batch["input_ids"]).square().mean(),
    update_by(torch.optim.SGD, lr=0.1),
    lambda: {"table": nn.Embedding(50, 8)},
    base=nn.Module,
)
"""A step on token ids."""


def ids(samples: int = 4, length: int = 12) -> dict[str, Tensor]:
    return {"input_ids": torch.zeros(samples, length, dtype=torch.long)}


@pytest.mark.parametrize(
    "batch",
    [
        ids(),
        ids,
        Batches((ids(), ids(length=24))),
        DataLoader([{"input_ids": torch.zeros(12).long()}] * 8, 4),
    ],
    ids=["a batch", "a builder", "several", "a DataLoader"],
)
def test_the_tokens_of_a_sample_are_read_from_the_batch(batch: Any) -> None:
    """A language model is known as one although nobody has said its tokens."""
    job = TrainingJob(module=Words, batch=batch, batch_size=4, max_steps=9)
    tokens = 18 if isinstance(batch, Batches) else 12
    assert with_tokens(job).tokens_per_sample == tokens
    assert trace_job(job).batch.tokens_per_step == 4 * tokens


def test_tokens_that_are_stated_or_cannot_be_seen() -> None:
    """What the job says holds; other batches have none, and a builder that raises is left to the trace."""
    stated = TrainingJob(module=Words, batch=ids, batch_size=4, max_steps=9, tokens_per_sample=7)
    assert with_tokens(stated) is stated
    plain = TrainingJob(module=Words, batch=torch.zeros(4, 12), batch_size=4, max_steps=9)
    assert with_tokens(plain).tokens_per_sample is None
    raising = TrainingJob(module=Words, batch=lambda: 1 / 0, batch_size=4, max_steps=9)
    assert with_tokens(raising) is raising
    with pytest.raises(TraceError, match="ZeroDivisionError"):
        trace_job(raising)


def test_a_loader_whose_last_batch_is_incomplete() -> None:
    """All of an epoch is read here, and its last batch of two samples left out."""
    loader = DataLoader(torch.zeros(10, 6, 16), batch_size=4)  # type: ignore[arg-type]
    profile = trace_job(TrainingJob(module=Attends, batch=loader, batch_size=4, max_steps=9))
    assert (profile.batch.micro_batch_size, profile.batch.variation) == (4, None)
