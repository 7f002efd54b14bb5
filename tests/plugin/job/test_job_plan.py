"""The plan of a job: steps, validation and checkpoints, counted as Lightning's loops count them."""

from __future__ import annotations

from typing import Any

import pytest

from trainfare.job import TrainingJob, plan_of, steps_per_epoch


def _job(**fields: Any) -> TrainingJob:
    return TrainingJob(**{"module": object, "batch": object, "batch_size": 8, **fields})


@pytest.mark.parametrize(
    ("fields", "steps", "epochs"),
    [
        ({"max_steps": 100}, 100, None),
        ({"max_epochs": 3, "train_samples": 80}, 30, 3.0),
        ({"max_epochs": 3, "train_samples": 81}, 33, 3.0),
        ({"max_epochs": 3, "train_samples": 80, "max_steps": 15}, 15, 1.5),
        ({"max_epochs": 1, "train_samples": 80, "max_steps": 15}, 10, 1.0),
        ({"max_epochs": 2, "train_samples": 80, "devices": 2}, 10, 2.0),
        ({"max_epochs": 2, "train_samples": 81, "devices": 2, "num_nodes": 2}, 6, 2.0),
        ({"max_epochs": 2, "train_samples": 80, "accumulate_grad_batches": 4}, 6, 2.0),
        ({"max_epochs": 2, "max_steps": 7}, 7, None),
    ],
)
def test_optimizer_steps(fields: dict[str, Any], steps: int, epochs: float | None) -> None:
    """The nearer of the two limits ends the run; batches and accumulations are rounded up in every epoch."""
    plan, _ = plan_of(_job(**fields), checkpoint_bytes=0)
    assert (plan.optimizer_steps, plan.epochs) == (steps, epochs)


@pytest.mark.parametrize(("samples", "accumulate"), [(80, 1), (81, 1), (7, 1), (80, 3), (100, 4)])
def test_an_epoch_is_as_long_as_lightnings(samples: int, accumulate: int) -> None:
    """A real Trainer estimates the same number of steps."""
    import pytorch_lightning as pl
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    from builders.jobs import WIDTH, Tiny

    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=3,
        accumulate_grad_batches=accumulate,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        barebones=False,
    )
    seen: list[float] = []

    class Count(pl.Callback):
        def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            seen.append(trainer.global_step)

    trainer.callbacks.append(Count())
    loader = DataLoader(TensorDataset(torch.ones(samples, WIDTH)), 8)
    module = Tiny()
    module.training_step = lambda batch, batch_idx: Tiny.training_step(module, batch[0], batch_idx)  # type: ignore[method-assign]
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(module, loader)
    in_epoch = steps_per_epoch(_job(train_samples=samples, accumulate_grad_batches=accumulate))
    assert seen == [3 * in_epoch]  # type: ignore[operator]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [({}, "neither max_steps nor max_epochs"), ({"max_epochs": 3}, "without train_samples")],
)
def test_an_unknown_length_has_a_reason(fields: dict[str, Any], reason: str) -> None:
    """The plan has no length and gives the reason."""
    plan, _ = plan_of(_job(**fields), checkpoint_bytes=0)
    assert plan.optimizer_steps is None
    assert reason in (plan.unknown_because or "")


@pytest.mark.parametrize(
    ("fields", "batches"),
    [
        ({"max_steps": 100, "val_batches": 5, "val_every_n_steps": 30}, 15),
        ({"max_epochs": 3, "train_samples": 80, "val_batches": 5}, 15),
        ({"max_epochs": 3, "train_samples": 80, "max_steps": 25, "val_batches": 5}, 10),
        ({"max_steps": 100}, 0),
    ],
)
def test_validation_batches_of_the_whole_run(fields: dict[str, Any], batches: int) -> None:
    """Validation runs every so many steps, or after each whole epoch."""
    plan, notes = plan_of(_job(**fields), checkpoint_bytes=0)
    assert plan.validation_batches == batches
    assert not any("val_batches" in note for note in notes)


def test_validation_of_unknown_frequency_is_left_out_with_a_note() -> None:
    """A cost that is not known is noted, not guessed."""
    plan, notes = plan_of(_job(max_steps=100, val_batches=5), checkpoint_bytes=0)
    assert plan.validation_batches == 0
    assert any("how often validation runs is not known" in note for note in notes)


def test_two_optimizers_halve_the_training_steps() -> None:
    """Lightning counts every optimizer's step against max_steps and checkpoint intervals."""
    job = _job(max_steps=11, checkpoint_every_n_steps=4)
    plan, notes = plan_of(job, checkpoint_bytes=7, optimizer_calls_per_step=2)
    assert (plan.optimizer_steps, plan.checkpoint_every_n_steps, plan.checkpoint_bytes) == (6, 2, 7)
    assert any("manual optimization" in note for note in notes)


@pytest.mark.parametrize(
    ("fields", "validation_batches"),
    [
        # 10 batches an epoch; every int(2.5) = 2 of them: 5 runs of 2 batches in each of 3 epochs.
        ({"val_check_interval": 0.25}, 30),
        ({"val_check_interval": 1.0}, 6),
        ({"val_check_interval": 7}, 6),
        # 5 batches an epoch on each of 2 devices.
        ({"val_check_interval": 0.5, "devices": 2}, 12),
        ({"val_check_interval": 0.5, "accumulate_grad_batches": 2}, 12),
        ({"val_check_interval": 0.5, "max_steps": 15}, 6),
        ({"val_every_n_steps": 10}, 6),
    ],
)
def test_validation_within_an_epoch(fields: dict[str, Any], validation_batches: int) -> None:
    """Counted in batches, as a real Trainer counts them (`RunPlanner`)."""
    job = _job(**{"max_epochs": 3, "train_samples": 80, "val_batches": 2, **fields})
    plan, notes = plan_of(job, checkpoint_bytes=0)
    assert (plan.validation_batches, notes) == (validation_batches, ())


def test_checkpoints_are_those_of_the_callbacks() -> None:
    """Unless the job says an interval itself; one that may stop the run is named beside the steps."""
    from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint

    callbacks = [ModelCheckpoint(every_n_train_steps=7), EarlyStopping("loss")]
    job = _job(max_steps=100, callbacks=callbacks)
    assert plan_of(job, checkpoint_bytes=0)[0].checkpoint_every_n_steps == 7
    assert plan_of(job, checkpoint_bytes=0, optimizer_calls_per_step=2)[0].checkpoint_every_n_steps == 3
    note = "EarlyStopping may end it earlier: an upper bound"
    assert plan_of(job, checkpoint_bytes=0)[0].steps_note == note
    own = _job(max_steps=100, callbacks=callbacks, checkpoint_every_n_steps=50)
    assert plan_of(own, checkpoint_bytes=0)[0].checkpoint_every_n_steps == 50
