"""Modules that read of their Trainer, or do with it, what few do."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor, nn

from trainfare import TrainingJob, trace_job
from trainfare.fake_step.configured_step import bytes_of
from trainfare.job.fit_call import Recorder
from trainfare.lightning.script.interception import intercept_trainers


class Net(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return self.layer(batch).square().mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.1)


class SwitchesItsOptimizer(Net):
    """As the documentation of a schedule-free optimizer has it."""

    def on_train_start(self) -> None:
        optimizer: Any = self.optimizers()
        optimizer.optimizer.train_mode = True


class EndsItsEpoch(Net):
    def on_train_batch_start(self, batch: Any, batch_idx: int) -> int | None:
        return -1 if batch_idx == 6 else None


class StartsItsBatch(Net):
    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        self.index = batch_idx


class Guarded(nn.Parameter):
    """A parameter that refuses functions of torch, as those on a manifold do."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (Tensor.numel, Tensor.element_size):
            raise TypeError(f"torch function {func.__name__} on a Guarded")
        return super().__torch_function__(func, types, args, kwargs)  # type: ignore[no-untyped-call]


def job(module: type[Net]) -> TrainingJob:
    return TrainingJob(module, torch.randn(4, 8), 4, max_steps=100)


def test_hooks_before_the_first_step_see_lightnings_optimizers() -> None:
    assert trace_job(job(SwitchesItsOptimizer)).plan.optimizer_steps == 100


@pytest.mark.parametrize(
    ("module", "note"),
    [
        (EndsItsEpoch, "on_train_batch_start may end it earlier: an upper bound"),
        (StartsItsBatch, None),
    ],
)
def test_hook_that_ends_an_epoch_is_named(module: type[Net], note: str | None) -> None:
    assert trace_job(job(module)).plan.steps_note == note


@pytest.mark.parametrize(
    ("given", "name"), [("auto", "single_device"), ("ddp_spawn", "ddp_spawn"), ("fsdp", "fsdp")]
)
def test_strategy_has_the_name_that_was_asked_for(given: str, name: str) -> None:
    with intercept_trainers(Recorder(lambda _call: None)):
        trainer = Trainer(strategy=given, accelerator="gpu", devices=1, logger=False)
    assert trainer.strategy.strategy_name == name
    assert trainer._accelerator_connector._strategy_flag.strategy_name == name


def test_bytes_are_those_of_a_class_that_refuses_functions() -> None:
    assert bytes_of([Guarded(torch.ones(3))]) == 12
