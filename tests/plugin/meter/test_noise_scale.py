"""`FareMeter(noise_scale=True)`: weights bit by bit as without it, the exact norms, and a reason where there is no figure."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from benchmarks.noise_scale import LEAST_SHARE, MOST_RATIO, measure_ratio
from builders import noise_ranks
from builders.cli import run_python
from builders.huggingface import attach_meter, make_classifier, make_trainer
from builders.huggingface import quiet as huggingface_quiet
from builders.lightning_modules import MeterHarness, lightning_module, loader, quiet, trainer, update_by
from builders.noise_ranks import find_loss
from builders.toy_market import book as price_book
from builders.toy_market import offer_row
from trainfare import FareMeter
from trainfare.job.run_facts import RunFacts
from trainfare.job.run_plan import LoopLength
from trainfare.ledger.place import LedgerPlace
from trainfare.ledger.store import write_run
from trainfare.meter.noise_scale import NoiseReader
from trainfare.meter.services import MeterServices
from trainfare.meter.settings import MeterSettings
from trainfare.plain_loop.loop_meter import LoopMeter
from trainfare.recommendation import recommend
from trainfare_core.job_profile import JobProfile
from trainfare_core.ledger.run_record import RunRecord

pytestmark = [*quiet, *huggingface_quiet]

READ_ALL = partial(MeterHarness, noise_every_steps=1)
SETTINGS = {"warmup_steps": 1, "measure_steps": 1, "noise_scale": True}


def make_model() -> nn.Module:
    """Return the same small network each time, with dropout, which draws random numbers."""
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 2))


def read_weights(model: nn.Module) -> list[Tensor]:
    return [value.clone() for value in model.state_dict().values()]


def are_equal(first: nn.Module, second: nn.Module) -> bool:
    pairs = zip(read_weights(first), read_weights(second), strict=True)
    return all(torch.equal(one, other) for one, other in pairs)


def train_in_lightning(
    folder: Path, model: nn.Module, meters: list[Any], *, lr: float = 1e-3, rows: int = 64, **options: Any
) -> nn.Module:
    module = lightning_module(
        lambda self, batch, _: find_loss(self.model, batch),
        update_by(torch.optim.AdamW, lr=lr, weight_decay=0.0),
        lambda: {"model": model},
    )
    options = {"max_epochs": 5, "accumulate_grad_batches": 4, "gradient_clip_val": 0.01, **options}
    trainer(folder, *meters, **options).fit(module(), loader(rows))
    return model


def train_in_a_loop(
    harness: MeterHarness | None,
    folder: Path,
    model: nn.Module,
    *,
    accumulate: int = 4,
    lr: float = 1e-3,
    rows: int = 64,
    passes: int = 1,
    **settings: Any,
) -> nn.Module:
    """Train for 20 steps or more with batches of 4 samples, of `passes` backward passes each, and clip."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.0)

    def run(steps: Callable[[Any], Any]) -> None:
        for _ in range(20 * accumulate * 4 // rows):
            for number, batch in enumerate(steps(loader(rows)), start=1):
                for _ in range(passes):
                    find_loss(model, batch).backward()
                if number % accumulate == 0:
                    clip_grad_norm_(model.parameters(), 0.01)
                    optimizer.step()
                    optimizer.zero_grad()

    if harness is None:
        run(iter)
        return model
    kind = type("FareMeter", (FareMeter,), {"services": harness.services})
    with kind.loop(model, optimizer, report_dir=str(folder), **{**SETTINGS, **settings}) as meter:
        run(meter.steps)
    return model


def find_note(profile: JobProfile) -> str:
    (note,) = (note for note in profile.notes if "noise scale" in note)
    return note


def find_exact(micro_batches: list[Tensor], rows: int = 4) -> float:
    """Return the noise scale that the norms of the first micro-batch and of all give, by the formula."""
    model = noise_ranks.make_model()
    each = []
    for batch in micro_batches:
        gradients = torch.autograd.grad(find_loss(model, batch), list(model.parameters()))
        each.append(torch.cat([gradient.flatten() for gradient in gradients]).double())
    small, large = float(each[0].square().sum()), float(torch.stack(each).mean(0).square().sum())
    whole = rows * len(each)
    squared = (whole * large - rows * small) / (whole - rows)
    return (small - large) / (1 / rows - 1 / whole) / squared


def test_weights_in_lightning_are_equal_bit_by_bit(tmp_path: Path) -> None:
    harness, models = READ_ALL(), []
    for meters in ([], [harness.meter(tmp_path, **SETTINGS)]):
        torch.manual_seed(0)
        models.append(train_in_lightning(tmp_path, make_model(), meters))
    assert are_equal(*models)
    assert find_note(harness.profile).startswith("noise scale ")
    assert harness.profile.batch.noise_scale_samples is not None
    assert f"trainfare: {find_note(harness.profile)}" in harness.lines
    assert not any(value._backward_hooks for value in models[1].parameters())


def test_weights_in_hugging_face_are_equal_bit_by_bit(tmp_path: Path) -> None:
    harness, models = READ_ALL(), []
    for metered in (False, True):
        options = {"max_steps": 24, "gradient_accumulation_steps": 4, "learning_rate": 1e-4}
        made = make_trainer(tmp_path, make_classifier(), **options)
        if metered:
            attach_meter(made, harness, tmp_path, **SETTINGS)
        made.train()
        models.append(made.model)
    assert are_equal(*models)
    # Random labels: there is no gradient to tell from its noise, of which as many steps were read.
    assert re.search(r"from 1\d steps|: [12]\d steps do not tell", find_note(harness.profile))


def test_weights_in_a_loop_are_equal_bit_by_bit(tmp_path: Path) -> None:
    harness, models = READ_ALL(), []
    for meter in (None, harness):
        torch.manual_seed(0)
        models.append(train_in_a_loop(meter, tmp_path, make_model()))
    assert are_equal(*models)
    assert find_note(harness.profile).startswith("noise scale ")
    assert not any(value._backward_hooks for value in models[1].parameters())


def test_the_norms_are_those_of_the_first_batch_and_of_the_whole_step_before_clipping(tmp_path: Path) -> None:
    """With a learning rate of 0 and the same four batches in each step; the loop adds their losses up undivided."""
    in_loop, in_lightning = READ_ALL(), READ_ALL()
    train_in_a_loop(in_loop, tmp_path, noise_ranks.make_model(), lr=0.0, rows=16)
    meter = in_lightning.meter(tmp_path, **SETTINGS)
    train_in_lightning(tmp_path, noise_ranks.make_model(), [meter], lr=0.0, rows=16, max_epochs=20)
    exact = find_exact(list(loader(16)))
    assert exact > 0
    for harness in (in_loop, in_lightning):
        assert harness.profile.batch.noise_scale_samples == pytest.approx(exact, rel=1e-3)


def test_two_processes_read_on_the_first_alone_and_call_no_collective_more(tmp_path: Path) -> None:
    """
    DDP without accumulation, and both Trainers with it: weights and sequence numbers are those of a run without it.

    In DDP the small batch is that of rank 0 before it is averaged, the large one that of both.
    """
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", "2"]
    done = run_python(*launch, noise_ranks.__file__, tmp_path, cwd=tmp_path)
    assert not done.exit_code, done.stderr
    ranks = [json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in (0, 1)]
    for name in ("loop", "huggingface", "lightning"):
        for rank in ranks:
            plain, metered = rank[name]["False"], rank[name]["True"]
            assert metered["sequence"] == plain["sequence"] > 0
            assert metered["weights"] == plain["weights"] == ranks[0][name]["False"]["weights"]
        assert [len(rank[name]["True"]["profiles"]) for rank in ranks] == [1, 0]
        notes = ranks[0][name]["True"]["profiles"][0]["notes"]
        assert any(re.search(r"from \d\d steps|: \d\d steps do not tell", note) for note in notes), notes
    (profile,) = ranks[0]["exact"]["profiles"]
    exact = find_exact([noise_ranks.make_rows(rank) for rank in (0, 1)])
    assert profile["batch"]["noise_scale_samples"] == pytest.approx(exact, rel=1e-3)


def test_the_figure_is_near_the_exact_one() -> None:
    """100 steps that are read: within a factor of 1.5 for 8 of 10 seeds."""
    ratios = [measure_ratio(seed, 100, 1) for seed in range(10)]
    near = [ratio for ratio in ratios if ratio is not None and 1 / MOST_RATIO <= ratio <= MOST_RATIO]
    assert len(near) >= LEAST_SHARE * len(ratios), ratios


def test_every_20th_step_is_read_unless_asked_otherwise(tmp_path: Path) -> None:
    harness = MeterHarness()
    train_in_a_loop(harness, tmp_path, make_model())
    assert find_note(harness.profile) == "no noise scale: 1 of at least 10 steps were read, one in 20"
    assert MeterServices().noise_every_steps == 20


class Contrastive(nn.Module):
    """A model with a loss of its own that compares the samples of a batch."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.loss = nn.Linear(8, 2), InfoNCE()

    def forward(self, batch: Tensor) -> Tensor:
        return self.net(batch)  # type: ignore[no-any-return]


class InfoNCE(nn.Module):
    """Stands for such a loss."""


@pytest.mark.parametrize(
    ("make", "options", "because"),
    [
        (make_model, {"accumulate": 1}, "without accumulation or DDP a step has one batch"),
        (make_model, {"passes": 2}, "0 of at least 10 steps were read"),
        (
            lambda: nn.Sequential(nn.Linear(8, 2), nn.BatchNorm1d(2)),
            {},
            "BatchNorm makes each sample's gradient",
        ),
        (Contrastive, {}, "a contrastive loss compares the samples of a batch"),
    ],
)
def test_a_reason_stands_where_there_is_no_figure(
    tmp_path: Path, make: Callable[[], nn.Module], options: dict[str, Any], because: str
) -> None:
    harness = READ_ALL()
    train_in_a_loop(harness, tmp_path, make(), **options)
    assert find_note(harness.profile).startswith(f"no noise scale: {because}")
    assert harness.profile.batch.noise_scale_samples is None


def test_what_shards_the_weights_and_several_optimizers_have_none() -> None:
    """The reason is the one for which no rank is traced."""
    model = make_model()
    first, second = (torch.optim.SGD(model.parameters(), lr=0.1) for _ in range(2))
    facts = RunFacts(name="Net", precision="32-true", device=torch.device("cpu"), software="")
    length = LoopLength(batches_per_epoch=None, max_epochs=None, max_steps=None)
    one = LoopMeter(model, [first], None, MeterSettings(), MeterServices())
    two = LoopMeter(model, [first, second], None, MeterSettings(), MeterServices())
    why = "fsdp shards the weights over devices, so no single rank runs the whole step"
    for loop, known, because in (
        (one, replace(facts, split_because=f"{why}: trace it"), why),
        (one, replace(facts, replicas=None), "it is not known how the devices share the samples"),
        (two, facts, "the steps are not those of one optimizer that the loop itself steps"),
    ):
        assert NoiseReader(loop, known, length, 1).measure(4) == (None, f"no noise scale: {because}")


def test_a_step_between_two_batches_has_none(tmp_path: Path) -> None:
    """What the last batch has added up is not known to be whole before the next one begins."""
    harness = READ_ALL()
    optimizer = torch.optim.SGD((model := noise_ranks.make_model()).parameters(), lr=0.0)
    kind = type("FareMeter", (FareMeter,), {"services": harness.services})
    with kind.loop(model, optimizer, trace=False, report_dir=str(tmp_path), **SETTINGS) as meter:
        for _ in range(20):
            for batch in meter.steps(loader(8)):
                find_loss(model, batch).backward()
            optimizer.step()
            optimizer.zero_grad()
    why = "the optimizer steps between two batches, and not in the last one of its step"
    assert f"trainfare: no noise scale: {why}" in harness.lines


def test_gradients_that_cannot_be_read_end_the_readings_alone(tmp_path: Path) -> None:
    """A sparse gradient has no norm of its own in torch; the run and its report are as without it."""
    harness = READ_ALL()

    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = nn.Embedding(16, 2, sparse=True)

        def forward(self, batch: Tensor) -> Tensor:
            return self.words((batch[:, 0] > 0).long())  # type: ignore[no-any-return]

    torch.manual_seed(0)
    plain, metered = Words(), Words()
    metered.load_state_dict(plain.state_dict())
    for model, meter in ((plain, None), (metered, harness)):
        train_sparse(model, meter, tmp_path)
    assert are_equal(plain, metered)
    assert find_note(harness.profile).startswith("no noise scale: the gradients could not be read (")


def train_sparse(model: nn.Module, harness: MeterHarness | None, folder: Path) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    kind = FareMeter if harness is None else type("FareMeter", (FareMeter,), {"services": harness.services})
    given = {"report_dir": str(folder), **SETTINGS}
    with nullcontext() if harness is None else kind.loop(model, optimizer, **given) as meter:
        for number, batch in enumerate(loader() if meter is None else meter.steps(loader())):
            find_loss(model, batch).backward()
            if number % 2:
                optimizer.step()
                optimizer.zero_grad()


def test_the_readings_of_a_long_run_are_thinned(tmp_path: Path) -> None:
    """Of more than 1,024 every second one goes, and every second step is read from then on: 512 and 38 of 1,100."""
    harness = READ_ALL()
    optimizer = torch.optim.SGD((model := noise_ranks.make_model()).parameters(), lr=0.0)
    kind = type("FareMeter", (FareMeter,), {"services": harness.services})
    batches = list(loader(8))
    with kind.loop(model, optimizer, trace=False, report_dir=str(tmp_path), **SETTINGS) as meter:
        for _ in range(1_103):
            for number, batch in enumerate(meter.steps(batches)):
                find_loss(model, batch).backward()
                if number == 1:
                    optimizer.step()
                    optimizer.zero_grad()
    (line,) = (line for line in harness.lines if "noise scale" in line)
    assert f"noise scale {find_exact(batches):,.2g} samples" in line
    assert int(re.search(r"from (\d+) steps", line)[1]) in range(480, 520)  # type: ignore[index]


def test_the_ledger_keeps_it_for_the_next_answer_of_the_job(tmp_path: Path) -> None:
    """The record has the figure, `recommend` takes it for the same step without one, and `--critical-batch` goes first."""
    records: list[RunRecord] = []

    def write(record: RunRecord, folder: Path) -> Path:
        records.append(record)
        return write_run(record, folder)

    place = LedgerPlace(tmp_path / "ledger", "project")
    harness = READ_ALL(find_ledger=lambda: place, write_run=write)
    train_in_a_loop(harness, tmp_path, noise_ranks.make_model(), lr=0.0, rows=16)
    samples = harness.profile.batch.noise_scale_samples
    assert samples is not None
    assert records[-1].noise_scale_samples == samples
    batch = harness.profile.batch.model_copy(update={"noise_scale_samples": None})
    later = harness.profile.model_copy(update={"batch": batch})
    book = price_book(offer_row())
    asked = {"price_book": book, "ledger": place.folder}
    (tmp_path / "trainfare.toml").write_text('[ledger]\nproject = "project"\n')
    with contextlib.chdir(tmp_path):
        found = [recommend(later, **asked), recommend(later, critical_batch="500", **asked)]
        found.append(recommend(later, price_book=book))
    sources = [answer.critical_batch.source for answer in found if answer.critical_batch]
    assert sources == ["noise_scale", "stated", "prior"]
    interval = found[0].critical_batch.samples  # type: ignore[union-attr]
    assert interval is not None
    assert (interval.low_80, interval.mid, interval.high_80) == pytest.approx(
        (samples / 4, samples, samples * 4)
    )
