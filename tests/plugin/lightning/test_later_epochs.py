"""Steps that change from one epoch to the next, before launch: their phases are traced and added by their share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import (
    BackboneFinetuning,
    BaseFinetuning,
    GradientAccumulationScheduler,
    ModelPruning,
    StochasticWeightAveraging,
)
from torch import Tensor, nn

from builders.lightning_modules import lightning_module, quiet, update_by
from trainfare import TrainingJob, trace_job
from trainfare_core.job_profile import JobProfile

pytestmark = [*quiet, pytest.mark.filterwarnings("ignore:.*The provided params to be frozen")]
WIDTH, SAMPLES = 16, 4
HEAD = 3
EPOCHS, BATCHES = 4, 16


Net = lightning_module(
    lambda self, batch, index: self.head(self.backbone(batch)).square().mean(),
    update_by(torch.optim.AdamW, only_trained=True),
    lambda: {"backbone": nn.Linear(WIDTH, WIDTH), "head": nn.Linear(WIDTH, HEAD)},
)
"""A backbone of one layer, and a head."""


FORWARD = 2 * SAMPLES * WIDTH * (WIDTH + HEAD)
"""FLOPs of both layers forward."""
FROZEN = FORWARD + 2 * SAMPLES * WIDTH * HEAD
"""With the gradient of the head's weight alone."""
TRAINED = FORWARD + 2 * 2 * SAMPLES * WIDTH * HEAD + 2 * SAMPLES * WIDTH * WIDTH
"""With the head's input gradient and the backbone's weight gradient, too."""


def trace_module(*callbacks: Any, module: Callable[[], Any] | Any = Net, **fields: Any) -> JobProfile:
    given: dict[str, Any] = {"train_samples": SAMPLES * BATCHES, "max_epochs": EPOCHS, "precision": "32-true"}
    given |= fields
    return trace_job(
        TrainingJob(
            module=module,
            batch=torch.ones(SAMPLES, WIDTH),
            batch_size=SAMPLES,
            callbacks=list(callbacks),
            **given,
        )
    )


def unfrozen_at(epoch: int) -> BackboneFinetuning:
    return BackboneFinetuning(unfreeze_backbone_at_epoch=epoch)


@pytest.mark.parametrize(("epoch", "share"), [(1, 3 / 4), (3, 1 / 4)])
def test_unfreezing_is_added_by_its_share(epoch: int, share: float) -> None:
    """FLOPs of frozen and unfrozen epochs; parameters and optimizer are those of the end."""
    profile = trace_module(unfrozen_at(epoch))
    assert profile.step_flops == pytest.approx(FROZEN + share * (TRAINED - FROZEN), abs=2)
    scalars = sum(parameter.numel() for parameter in Net().parameters())
    assert profile.trainable_parameters == scalars
    assert profile.optimizer.state_bytes == 2 * 4 * scalars + 4 * 4
    frozen = BATCHES * epoch
    assert str(profile.work_note).startswith(f"mean of {frozen} steps with 51 trained parameters")


def test_unfreezing_after_the_end_of_the_run_changes_nothing() -> None:
    """By `max_epochs`, or by `max_steps` before them."""
    for fields in ({"max_epochs": 2}, {"max_steps": 2 * BATCHES, "max_epochs": 100}):
        profile = trace_module(unfrozen_at(2), **fields)
        assert (profile.step_flops, profile.work_note) == (FROZEN, None)


def test_epochs_that_hold_no_step_of_their_own_are_counted() -> None:
    """A run of many epochs: those after the last hook that is called are like it."""
    profile = trace_module(unfrozen_at(500), max_epochs=2_000)
    assert profile.step_flops == pytest.approx(FROZEN + 0.75 * (TRAINED - FROZEN), abs=2)


def test_the_user_keeps_callback_and_module() -> None:
    """A job can be traced again, and the callback be used for the run."""
    callback, module = unfrozen_at(1), Net()
    before = [vars(callback).copy(), [parameter.requires_grad for parameter in module.parameters()]]
    first = trace_module(callback, module=module)
    assert [vars(callback), [parameter.requires_grad for parameter in module.parameters()]] == before
    assert trace_module(callback, module=module) == first


def test_the_share_of_a_phase_needs_the_length_of_an_epoch() -> None:
    """Without it the first step is priced, and the note stands beside its FLOPs."""
    profile = trace_module(unfrozen_at(1), train_samples=None, max_steps=100)
    assert profile.step_flops == FROZEN
    assert (
        profile.work_note == "of the first epoch; later ones differ, and the length of an epoch is not known"
    )


def test_accumulation_by_epoch() -> None:
    """Steps, FLOPs and samples of a schedule; steps times FLOPs are those of the run."""
    profile = trace_module(GradientAccumulationScheduler({0: 1, 1: 4}))
    steps = BATCHES + 3 * BATCHES // 4
    assert profile.plan.optimizer_steps == steps
    assert profile.step_flops * steps == pytest.approx(TRAINED * EPOCHS * BATCHES, rel=1e-3)
    assert profile.batch.samples_per_step == round(SAMPLES * EPOCHS * BATCHES / steps)
    assert "16 steps with 1 batch each, 12 steps with 4 batches each" in str(profile.work_note)
    assert not any("manual optimization" in note for note in profile.notes)


def test_accumulation_of_the_whole_run_by_a_callback() -> None:
    """One number for all epochs is what `accumulate_grad_batches` is."""
    by_callback = trace_module(GradientAccumulationScheduler({0: 4}))
    by_argument = trace_module(accumulate_grad_batches=4)
    for profile in (by_callback, by_argument):
        assert profile.plan.optimizer_steps == EPOCHS * BATCHES // 4
        assert profile.step_flops == 4 * TRAINED
        assert profile.batch.samples_per_step == 4 * SAMPLES
        assert profile.work_note is None


def test_pruning_adds_its_masks() -> None:
    """From the second epoch on there is a mask for each weight and bias, which the step multiplies."""
    profile, plain = trace_module(ModelPruning("l1_unstructured", amount=0.5)), trace_module()
    scalars = sum(parameter.numel() for parameter in Net().parameters())
    assert profile.memory.buffer_bytes == 4 * scalars
    launches = [sum(operation.launches for operation in profile.operations) for profile in (plain, profile)]
    assert launches[1] > launches[0]
    assert f"48 steps with {2 * scalars:,} parameters and buffers" in str(profile.work_note)


def test_pruning_that_is_off_adds_nothing() -> None:
    """By the callback's own function of the epoch."""
    pruning = ModelPruning("l1_unstructured", amount=0.5, apply_pruning=lambda epoch: epoch == 9)
    assert trace_module(pruning).work_note is None


class Unfreezes(Net):
    """Unfreezes its backbone by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone.requires_grad_(False)

    def on_train_epoch_start(self) -> None:
        if self.current_epoch == 2:
            self.backbone.requires_grad_(True)
            optimizer: Any = self.optimizers()
            optimizer.add_param_group({"params": self.backbone.parameters()})


class Unfreezer(pl.Callback):
    """A callback of the user's."""

    def __init__(self, *, raises: bool = False) -> None:
        self.raises = raises

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        if trainer.current_epoch == 2:
            assert not self.raises
            pl_module.backbone.requires_grad_(True)
            trainer.optimizers[0].add_param_group({"params": pl_module.backbone.parameters()})


class Freezes(Unfreezes):
    def on_train_epoch_start(self) -> None: ...


@pytest.mark.parametrize(("module", "callbacks"), [(Unfreezes, []), (Freezes, [Unfreezer()])])
def test_hooks_of_the_user_that_unfreeze(module: Any, callbacks: list[Any]) -> None:
    """The module's own hook, and a callback whose source speaks of it."""
    profile = trace_module(*callbacks, module=module)
    assert profile.step_flops == pytest.approx((FROZEN + TRAINED) / 2, abs=2)


def test_a_hook_that_raises_in_a_later_epoch() -> None:
    """The first epochs are known; why the others are not is said beside the FLOPs, with the line."""
    profile = trace_module(Unfreezer(raises=True), module=Freezes)
    assert profile.step_flops == FROZEN
    said = str(profile.work_note)
    assert said.startswith("of the first epoch; later ones are not followed: Unfreezer.on_train_epoch_start")
    assert "test_later_epochs.py:" in said


class EveryEpoch(BaseFinetuning):
    """Unfreezes one of many layers in each epoch."""

    def freeze_before_training(self, pl_module: Any) -> None:
        self.freeze(pl_module.layers)

    def finetune_function(self, pl_module: Any, epoch: int, optimizer: Any) -> None:
        if 0 < epoch <= len(pl_module.layers):
            self.unfreeze_and_add_param_group(pl_module.layers[-epoch], optimizer)


Deep = lightning_module(
    lambda self, batch, index: self.head(self.layers(batch)).square().mean(),
    layers=lambda: {
        "layers": nn.Sequential(*(nn.Linear(WIDTH, WIDTH) for _ in range(12))),
        "backbone": nn.Identity(),
    },
    base=Net,
)


def test_phases_beyond_those_that_are_traced_count_as_the_nearest() -> None:
    """The number of traces is bounded, and the sentence says which were not."""
    profile = trace_module(EveryEpoch(), module=Deep, max_epochs=13)
    assert "9 more phases" in str(profile.work_note)
    all_trained = trace_module(module=Deep).step_flops
    assert 0.5 * all_trained < profile.step_flops < all_trained


def test_work_beside_the_step_is_named() -> None:
    """Averaging of weights is not a part of the step."""
    profile = trace_module(StochasticWeightAveraging(1e-3))
    assert profile.work_note == "without the work of StochasticWeightAveraging, which is not traced"


def test_on_real_tensors_too() -> None:
    """Where the step reads a value."""

    class Reads(Net):
        def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
            loss = super().training_step(batch, batch_idx)
            return loss * 2 if float(loss) > 1e9 else loss

    profile = trace_module(unfrozen_at(1), module=Reads)
    assert profile.source.how == "real"
    assert profile.step_flops == pytest.approx(FROZEN + 0.75 * (TRAINED - FROZEN), abs=2)


def test_manual_optimization_is_not_followed() -> None:
    """Its steps are those of the first epoch, and that is said beside the FLOPs."""

    class Manual(Net):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch: Tensor, batch_idx: int) -> None:  # type: ignore[override]
            optimizer: Any = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(super().training_step(batch, batch_idx))
            optimizer.step()

    said = "of the first epoch; later ones are not followed under manual optimization"
    assert trace_module(unfrozen_at(1), module=Manual).work_note == said
    assert trace_module(module=Manual).work_note is None
