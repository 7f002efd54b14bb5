"""Steps that differ from each other: the profile is that of the mean step of the run, and says so beside its FLOPs."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import pytest
import torch
from pytorch_lightning import LightningModule, seed_everything
from pytorch_lightning.callbacks import BackboneFinetuning, GradientAccumulationScheduler, ModelPruning
from torch import nn
from torch.optim.optimizer import _global_optimizer_post_hooks
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack
from torch.utils.data import DataLoader

from builders.lightning_modules import (
    Critic,
    FlopCounter,
    MeterHarness,
    lightning_module,
    quiet,
    trainer,
    update_by,
)
from trainfare.report.facts import job_facts
from trainfare.trace.mixture import KindsOfBatches
from trainfare_core.job_profile import JobProfile
from trainfare_core.ranking.options.assumptions import job_summary

pytestmark = [*quiet, pytest.mark.filterwarnings("ignore:.*The provided params to be frozen")]
WIDTH = 16


def rows(count: int = 64) -> DataLoader[Any]:
    return DataLoader(torch.ones(count, WIDTH), batch_size=4)  # type: ignore[arg-type]


def both(
    folder: Path, make: Callable[[], Any], callbacks: Callable[[], list[Any]] = list, **options: Any
) -> tuple[list[int], int, JobProfile]:
    """Run without FareMeter and with it: FLOPs of each batch by torch's counter, steps, and the profile."""
    counter = FlopCounter()
    plain = trainer(folder, *callbacks(), counter, **options)
    plain.fit(make(), rows())
    harness = MeterHarness()
    fit = trainer(folder, harness.meter(folder), *callbacks(), **options)
    fit.fit(make(), rows())
    assert fit.global_step == plain.global_step
    return counter.flops, plain.global_step, harness.profile


def test_optimizers_of_different_frequency_are_added_by_their_share(tmp_path: Path) -> None:
    """FLOPs and updates of critic and generator, with the generator in 3 of the 16 batches of an epoch."""
    flops, _, profile = both(tmp_path, lambda: Critic(5, 4, generated=4 * WIDTH), max_epochs=3)
    assert profile.source.how == "real"
    assert profile.step_flops == pytest.approx(mean(flops), rel=0.01)
    scalars = (WIDTH + 1) * WIDTH + (WIDTH + 1) * 4 * WIDTH
    assert profile.optimizer.state_bytes == 2 * 4 * scalars + 4 * 4
    assert "optimizer 2 in 81 %" in str(profile.work_note)
    assert any("per step and device (mean of steps" in fact for fact in job_facts(job_summary(profile)))
    assert any("1 batches, in which 1.19048 optimizer steps" in note for note in profile.notes)


def test_an_optimizer_that_is_never_traced_is_named(tmp_path: Path) -> None:
    """One that steps more rarely than the traced batches reach is said to be left out."""
    _, _, profile = both(tmp_path, lambda: Critic(64, 63, generated=4 * WIDTH), max_epochs=3)
    assert profile.step_flops == 2 * 2 * 4 * WIDTH * WIDTH
    assert "Adam never stepped in the traced batches" in str(profile.work_note)


class Halves(LightningModule):
    """All batches do the same work; the second optimizer steps in each batch that `steps` says."""

    def __init__(self, steps: Callable[[int], bool]) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.first, self.second = nn.Linear(WIDTH, 8), nn.Linear(8, 3)
        self.steps, self.batches = steps, 0

    def training_step(self, batch: Any, batch_idx: int) -> None:
        optimizers = self.optimizers()
        self.manual_backward(self.second(self.first(batch)).square().mean())
        for optimizer in optimizers if self.steps(self.batches) else optimizers[:1]:  # type: ignore[index, arg-type]
            optimizer.step()
            optimizer.zero_grad()
        self.batches += 1

    def configure_optimizers(self) -> Any:
        return [torch.optim.Adam(part.parameters()) for part in (self.first, self.second)]


@pytest.mark.parametrize("epochs", [1, 4])
@pytest.mark.parametrize("every", [2, 4, 5])
def test_every_kind_of_batch_is_traced(tmp_path: Path, every: int, epochs: int) -> None:
    """Also where the first traced batch steps every optimizer: the other kinds are not taken as no work."""
    flops, steps, profile = both(
        tmp_path, lambda: Halves(lambda batch: batch % every == every - 1), max_epochs=epochs
    )
    assert set(flops) == {profile.step_flops}
    assert steps > profile.plan.optimizer_steps == 16 * epochs  # type: ignore[operator]
    assert "not traced" not in str(profile.work_note)


@pytest.mark.parametrize(
    "steps",
    [
        lambda batch: batch >= 20,  # first within the measured steps
        lambda batch: batch >= 40,  # first after them
        lambda batch: batch % 30 == 29,  # after them, and rarely
    ],
)
def test_a_kind_that_comes_late_is_traced_when_it_comes(tmp_path: Path, steps: Callable[[int], bool]) -> None:
    """The generator begins after the traced steps: its share is that of the whole run."""
    flops, _, profile = both(tmp_path, lambda: Late(steps), max_epochs=6)
    assert profile.step_flops == pytest.approx(mean(flops), rel=0.02)
    assert "not traced" not in str(profile.work_note)
    assert profile.measured is not None
    assert profile.measured.work_ratio == pytest.approx(mean(flops[19:29]) / mean(flops), rel=0.02)


def test_a_kind_that_is_not_traced_counts_as_the_one_most_like_it(tmp_path: Path) -> None:
    """Never as no work, and it is said."""
    flops, _, profile = both(tmp_path, lambda: Halves(lambda batch: batch == 24), max_epochs=2)
    assert set(flops) == {profile.step_flops}
    assert "of the batches were not traced and count as those most like them" in str(profile.work_note)


class Late(Critic):
    """A generator that is larger than the critic, and steps in each batch that `steps` says."""

    def __init__(self, steps: Callable[[int], bool]) -> None:
        super().__init__(generated=4 * WIDTH)
        self.steps, self.batches = steps, 0

    def training_step(self, batch: Any, batch_idx: int) -> None:
        self.every, self.offset = 1, 0 if self.steps(self.batches) else 1
        self.batches += 1
        super().training_step(batch, batch_idx)


class LayerDrop(LightningModule):
    """Six layers, each left out by chance."""

    def __init__(self, draw: Callable[[], Any], probability: float = 0.3) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(6))
        self.head = nn.Linear(WIDTH, 3)
        self.draw, self.probability = draw, probability

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        for layer in self.layers:
            if self.draw() >= self.probability:
                batch = torch.relu(layer(batch))
        return self.head(batch).square().mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters())


@pytest.mark.parametrize("draw", [lambda: torch.rand([]), random.random, lambda: np.random.rand()])
def test_random_work_is_priced_at_its_mean(tmp_path: Path, draw: Callable[[], Any]) -> None:
    """Nine steps are traced: the mean of the run is within the interval that their spread gives."""
    seed_everything(5, verbose=False)
    flops, _, profile = both(tmp_path, lambda: LayerDrop(draw), max_epochs=4)
    variation = profile.batch.variation
    assert variation is not None
    assert (variation.batches, profile.work_note) == (9, "mean of 9 traced steps, whose work is random")
    assert min(flops) <= variation.smallest_flops < profile.step_flops < variation.largest_flops <= max(flops)
    assert 0.01 < variation.work_log_sigma < 0.2
    assert abs(math.log(profile.step_flops / mean(flops))) < 3 * variation.work_log_sigma
    assert profile.work_log_sigma == variation.work_log_sigma


def test_work_is_not_called_random_where_batches_differ_too(tmp_path: Path) -> None:
    """Which of both changes it is not known: batches of 8 and 9 rows, nearly of one size."""
    seed_everything(5, verbose=False)
    harness = MeterHarness()
    batches = [torch.randn(8 + number % 2, WIDTH) for number in range(40)]
    model = LayerDrop(lambda: torch.rand([]))
    trainer(tmp_path, harness.meter(tmp_path), max_epochs=1).fit(model, DataLoader(batches, batch_size=None))
    assert harness.profile.batch.variation is not None
    assert str(harness.profile.work_note).startswith("steps differ: mean of ")


@pytest.mark.parametrize(
    ("number", "traced"), [(lambda: torch.rand([]), 6), (lambda: torch.ones(()), 3), (lambda: 1.0, 2)]
)
def test_work_that_is_the_same_each_time_is_traced_a_few_times(
    tmp_path: Path, number: Callable[[], Any], traced: int
) -> None:
    """A number that is drawn, a value that is read, or neither, and work that does not depend on it."""
    steps: list[bool] = []

    class Watched(LayerDrop):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            steps.append(bool(_get_current_dispatch_mode_stack()))
            return super().training_step(batch, batch_idx)

    harness = MeterHarness()
    trainer(tmp_path, harness.meter(tmp_path), max_epochs=4).fit(Watched(number, 0.0), rows())
    assert sum(steps) == traced
    assert harness.profile.batch.variation is None
    assert harness.profile.work_note is None


Frozen = lightning_module(
    lambda self, batch, index: self.head(self.backbone(batch)).square().mean(),
    update_by(torch.optim.AdamW, only_trained=True),
    lambda: {
        "backbone": nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.ReLU(), nn.Linear(4 * WIDTH, WIDTH)),
        "head": nn.Linear(WIDTH, 3),
    },
)
"""A backbone that a callback freezes, and a head."""


def test_progressive_unfreezing_is_priced_by_its_phases(tmp_path: Path) -> None:
    """The mean over frozen and unfrozen epochs, within 1 % of the counter; memory and state are of the larger phase."""
    flops, _, profile = both(
        tmp_path, Frozen, lambda: [BackboneFinetuning(unfreeze_backbone_at_epoch=1)], max_epochs=4
    )
    assert max(flops) > 2 * min(flops)
    assert profile.step_flops == pytest.approx(mean(flops), rel=0.01)
    trained = sum(p.numel() for p in Frozen().parameters())
    assert profile.trainable_parameters == trained
    assert profile.optimizer.state_bytes > 2 * 4 * trained
    assert str(profile.work_note).startswith("mean of 16 steps with 51 trained parameters, 48 steps with ")
    assert profile.measured is not None
    assert profile.measured.work_ratio == pytest.approx(min(flops) / mean(flops), rel=0.01)


def test_accumulation_by_epoch_is_priced_by_its_phases(tmp_path: Path) -> None:
    """Steps times FLOPs are those of the whole run; a step has the mean number of batches."""
    flops, steps, profile = both(
        tmp_path, Frozen, lambda: [GradientAccumulationScheduler({0: 1, 1: 4})], max_epochs=4
    )
    assert profile.plan.optimizer_steps == steps
    assert profile.step_flops * steps == pytest.approx(sum(flops), rel=0.01)
    assert "16 steps with 1 batch each, 12 steps with 4 batches each" in str(profile.work_note)
    assert profile.batch.samples_per_step == round(4 * 64 / steps)


def test_pruning_is_a_phase(tmp_path: Path) -> None:
    """Masks are buffers that come during the run; the masked products are traced as well."""
    _, _, profile = both(
        tmp_path, Frozen, lambda: [ModelPruning("l1_unstructured", amount=0.5)], max_epochs=3
    )
    assert profile.work_note is not None
    assert "parameters and buffers" in profile.work_note
    assert any(group.name == "aten.mul" and group.phase == "forward" for group in profile.operations)


def test_a_run_of_one_phase_says_nothing(tmp_path: Path) -> None:
    """Steps that are all the same have no note."""
    flops, _, profile = both(tmp_path, Frozen, max_epochs=2)
    assert profile.work_note is None
    assert profile.step_flops == mean(flops)


def test_kinds_are_counted_over_whole_periods() -> None:
    """Batches before the first step of the rarest optimizer and after its last are not counted."""
    kinds = KindsOfBatches()
    for kind in [(1,), (1,), (0, 1), (1,), (1,), (1,), (1,), (0, 1), (1,), (1,)]:
        kinds.add(kind)
    assert kinds.per_step() == {(1,): 0.8, (0, 1): 0.2}
    assert (kinds.batches_per_step(), kinds.calls_per_step()) == pytest.approx((1.0, 1.2))
    accumulated = KindsOfBatches()
    for kind in [(), (), (), (0,), (), ()]:
        accumulated.add(kind)
    assert accumulated.per_step() == {(): 3.0, (0,): 1.0}


def test_work_by_submodule_adds_up_to_the_mean_step(tmp_path: Path) -> None:
    """FLOPs and bytes of the submodules are those of the operations, phase by phase, after mixing."""
    _, _, profile = both(
        tmp_path, Frozen, lambda: [BackboneFinetuning(unfreeze_backbone_at_epoch=1)], max_epochs=3
    )
    assert len({work.module for work in profile.modules}) > 2
    for phase in ("forward", "backward", "optimizer"):
        groups = [group for group in profile.operations if group.phase == phase]
        works = [work for work in profile.modules if work.phase == phase]
        assert sum(work.flops for work in works) == sum(group.flops for group in groups)
        assert sum(work.bytes_moved for work in works) == sum(group.bytes_moved for group in groups)


def test_accumulation_by_a_callback_for_the_whole_run(tmp_path: Path) -> None:
    """The callback sets it after `on_train_start`: steps and work are those of four batches all the same."""
    flops, steps, profile = both(
        tmp_path, Frozen, lambda: [GradientAccumulationScheduler({0: 4})], max_epochs=4
    )
    assert profile.plan.optimizer_steps == steps == 16
    assert profile.step_flops * steps == sum(flops)
    assert profile.batch.samples_per_step == 16


class Penalized(LightningModule):
    """A penalty in every `every`-th batch only, as lazy regularization has it."""

    def __init__(self, every: int) -> None:
        super().__init__()
        self.net, self.every = nn.Linear(WIDTH, WIDTH), every

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.net(batch).square().mean()
        return loss if batch_idx % self.every else loss + self.net(self.net(batch)).abs().mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters())


@pytest.mark.parametrize("every", [2, 3])
def test_work_that_depends_on_the_number_of_the_batch_is_priced_at_its_mean(
    tmp_path: Path, every: int
) -> None:
    """Two consecutive steps that differ: more are traced, and the mean is that of whole periods."""
    flops, _, profile = both(tmp_path, lambda: Penalized(every), max_epochs=every)
    variation = profile.batch.variation
    assert variation is not None
    assert variation.batches == {2: 8, 3: 9}[every]
    assert profile.work_note == f"steps differ: mean of {variation.batches} traced steps"
    assert (variation.smallest_flops, variation.largest_flops) == (min(flops), max(flops))
    assert profile.step_flops == pytest.approx(mean(flops[: 5 * every]), rel=0.01)
    assert profile.work_log_sigma == variation.work_log_sigma > 0


class Preconditioned(torch.optim.SGD):
    """An optimizer that multiplies matrices in every third step, as Shampoo and SOAP do."""

    steps = 0

    def step(self, closure: Any = None) -> Any:
        loss = super().step(closure)
        self.steps += 1
        if self.steps % 3 == 0:
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter.grad @ parameter.grad.mT
        return loss


Updated = lightning_module(
    lambda self, batch, index: self.net(batch).square().mean(),
    lambda self: Preconditioned(self.parameters(), lr=0.01),
    lambda: {"net": nn.Linear(WIDTH, 4 * WIDTH, bias=False)},
)


@pytest.mark.parametrize("warmup", [3, 4, 5])
def test_an_update_that_differs_in_a_period_is_priced_at_its_mean(tmp_path: Path, warmup: int) -> None:
    """Wherever in the period the trace begins: of an optimizer that is not torch's, three steps are traced at least."""
    counter = FlopCounter()
    trainer(tmp_path, counter, max_epochs=3).fit(Updated(), rows())
    harness = MeterHarness()
    trainer(tmp_path, harness.meter(tmp_path, warmup_steps=warmup), max_epochs=3).fit(Updated(), rows())
    assert max(counter.flops) > min(counter.flops)
    assert harness.profile.work_note == "steps differ: mean of 9 traced steps"
    assert harness.profile.step_flops == pytest.approx(mean(counter.flops), rel=0.02)


class Sharp(torch.optim.Optimizer):
    """Steps another optimizer in a method of its own, as SAM's `second_step` does."""

    def __init__(self, parameters: Any) -> None:
        self.base = torch.optim.SGD(parameters, lr=0.01)
        super().__init__(self.base.param_groups, {})
        self.param_groups = self.base.param_groups

    def second_step(self) -> None:
        self.base.step()
        self.zero_grad()


def sharp_step(self: Any, batch: Any, batch_idx: int) -> None:
    self.manual_backward(self.net(batch).square().mean())
    if self.steps:
        self.optimizers().optimizer.second_step()


ByHand = lightning_module(
    sharp_step,
    lambda self: Sharp(self.parameters()),
    lambda steps=True: {"automatic_optimization": False, "steps": steps, "net": nn.Linear(WIDTH, 2 * WIDTH)},
)


def test_steps_that_the_trainer_does_not_count_are_counted(tmp_path: Path) -> None:
    """`global_step` stays 0: the steps are those of torch's optimizers, and are traced and measured."""
    flops, trainer_steps, profile = both(tmp_path, ByHand, max_epochs=2)
    assert trainer_steps == 0
    assert profile.measured is not None
    assert profile.measured.steps == 10
    assert profile.plan.optimizer_steps == len(flops) == 32
    assert {profile.step_flops} == set(flops)
    assert any(group.phase == "optimizer" for group in profile.operations)
    assert not _global_optimizer_post_hooks


def test_a_run_in_which_no_optimizer_steps_is_said(tmp_path: Path) -> None:
    """The reason is stated, and not that more steps are needed."""
    harness = MeterHarness()
    trainer(tmp_path, harness.meter(tmp_path), max_epochs=2).fit(ByHand(False), rows())
    assert "no optimizer step was counted in 32 batches: under manual optimization" in harness.lines[0]


def test_a_short_run_is_measured_before_every_kind_of_batch_is_traced(tmp_path: Path) -> None:
    """The second optimizer steps in the last batch only: the traces must not take all 16 steps of the run."""
    harness = MeterHarness()
    trainer(tmp_path, harness.meter(tmp_path), max_epochs=1).fit(Halves(lambda batch: batch == 15), rows())
    assert harness.profile.measured is not None
    assert not any("not enough steps" in line for line in harness.lines)


class Augmented(LightningModule):
    """Augments on the device, before the step begins."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(WIDTH, WIDTH)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return batch @ torch.eye(WIDTH)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.net(batch).square().mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def test_work_before_the_step_is_said_to_be_left_out(tmp_path: Path) -> None:
    """A hook of the user's that works on the batch is named; without one nothing is said."""
    note = "work in on_after_batch_transfer is not traced, because it runs before the step begins; "
    for module, noted in ((Augmented, True), (Frozen, False)):
        _, _, profile = both(tmp_path, module, max_epochs=2)
        assert any(line.startswith(note) for line in profile.notes) is noted
        assert not any("on_before_batch_transfer" in line for line in profile.notes)
