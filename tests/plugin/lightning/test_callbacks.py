"""What a job says of the Trainer beside its numbers: datamodule, callbacks and gradient clipping."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import BaseFinetuning, ModelCheckpoint

from builders.lightning_modules import lightning_module, update_by
from trainfare import TrainingJob, trace_job
from trainfare_core.errors import TraceError


def setup(self: Any, stage: str) -> None:
    assert self.trainer.datamodule.classes == 2
    assert len(self.trainer.callbacks) == 3


Net = lightning_module(
    lambda self, batch, index: self.head(self.body(batch)).sum(),
    update_by(torch.optim.SGD, only_trained=True, lr=0.1),
    lambda: {"body": torch.nn.Linear(4, 8), "head": torch.nn.Linear(8, 2)},
    setup=setup,
)


class Freeze(BaseFinetuning):
    def freeze_before_training(self, pl_module: Any) -> None:
        self.freeze(pl_module.body)

    def finetune_function(self, *_: Any) -> None: ...


class Own(pl.Callback):
    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        pl_module.head.bias.requires_grad_(trainer.datamodule.classes == 3)


def job(**fields: Any) -> TrainingJob:
    given = {
        "callbacks": [Freeze(), Own(), ModelCheckpoint()],
        "datamodule": SimpleNamespace(classes=2),
        **fields,
    }
    return TrainingJob(module=Net, batch=lambda: torch.zeros(3, 4), batch_size=3, max_steps=9, **given)


def test_callbacks_change_the_module_before_its_optimizers_are_made() -> None:
    """In Lightning's order, on the traced module only."""
    profile = trace_job(job())
    assert profile.trainable_parameters == 8 * 2
    assert profile.work_note is None


def test_clipping_is_a_part_of_the_step() -> None:
    """Its operations run between backward and the optimizer."""
    plain, clipped = trace_job(job()), trace_job(job(gradient_clip_val=0.5))
    launches = [sum(operation.launches for operation in profile.operations) for profile in (plain, clipped)]
    assert launches[1] > launches[0]


def test_a_callback_that_raises_is_named() -> None:
    """With the line."""
    with pytest.raises(
        TraceError, match=r"setup of the callback Own raised AttributeError.*test_callbacks.py:\d+"
    ):
        trace_job(job(datamodule=object()))
