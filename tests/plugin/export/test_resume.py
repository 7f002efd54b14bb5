"""A spot run that was taken back goes on from its last checkpoint, with what the exported file says."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import pytorch as pl
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader

from builders.exports import plan, small_answer
from builders.lightning_modules import quiet
from builders.recommendations import interval
from trainfare.export import export_plan
from trainfare_core.recommendation import Launch, Recommendation, SpotOutlook

pytestmark = [
    *quiet,
    pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning"),
    pytest.mark.filterwarnings("ignore:LightningCLI's args parameter"),
    pytest.mark.filterwarnings("ignore:No seed found"),
    pytest.mark.filterwarnings("ignore:.*there is no last checkpoint available"),  # of the first start
]


class TakenBackError(Exception):
    """The machine is gone."""


class Net(pl.LightningModule):
    """A module whose machine is taken back at a step; it keeps the steps that it started at."""

    starts: list[int]
    ends_at: int | None

    def __init__(self) -> None:
        super().__init__()
        self.net = torch.nn.Linear(4, 1)

    def on_train_start(self) -> None:
        type(self).starts.append(self.global_step)

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        if self.global_step == self.ends_at:
            raise TakenBackError
        return self.net(batch).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def train_dataloader(self) -> Any:
        return DataLoader(torch.ones(16, 4), batch_size=2)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[Net]:
    """The module, which is taken back at step 5 first; in a folder without settings."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Net, "starts", [], raising=False)
    monkeypatch.setattr(Net, "ends_at", 5, raising=False)
    return Net


def spot_answer(launch: Launch) -> Recommendation:
    """Return a plan of one device on a spot machine, which saves every two steps."""
    outlook = SpotOutlook(
        interruptions=1.0, per_machine_hour=interval(0.05), rate_source="made", waiting_hours=0.0, p50_hours=10.0,
        p90_hours=14.0, chance_in_time=None, save_every_n_steps=2,
    )  # fmt: skip
    machine = {"service": "sagemaker", "instance_type": "ml.g6.12xlarge"}
    return small_answer(
        purchase_option="spot", spot=outlook, trainer=plan(devices=1, strategy="auto"), **machine
    ).model_copy(update={"launch": launch})


def test_a_script_with_the_line_of_the_file_goes_on(
    module: type[Net], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The callback is pasted as it stands there; saved every two steps, the second run starts at step 4."""
    page = export_plan(spot_answer(Launch(command="train.py")), "sagemaker", "cheapest").beside[".md"]
    found = re.search(
        r"must have (ModelCheckpoint\(.*?\)), and fit\(\.\.\., (ckpt_path='last')\)", page.replace("\\", "")
    )
    assert found is not None
    monkeypatch.setenv("TRAINFARE_CHECKPOINTS", str(tmp_path / "checkpoints"))

    def train() -> pl.Trainer:
        callback = eval(found[1], {"ModelCheckpoint": ModelCheckpoint, "os": os})
        trainer = pl.Trainer(accelerator="cpu", max_steps=8, callbacks=[callback], enable_progress_bar=False,
                             enable_model_summary=False, logger=False)  # fmt: skip
        trainer.fit(module(), **dict([found[2].replace("'", "").split("=")]))
        return trainer

    with pytest.raises(TakenBackError):
        train()
    module.ends_at = None
    assert train().global_step == 8
    assert module.starts == [0, 4]


def test_a_lightning_cli_with_the_flags_of_the_file_goes_on(module: type[Net], tmp_path: Path) -> None:
    """The words of the request's container, with a folder of this machine in place of SageMaker's."""
    pytest.importorskip("jsonargparse")
    from lightning.pytorch.cli import LightningCLI

    launch = Launch(command="cli.py fit", trainer_flags=True)
    request = json.loads(export_plan(spot_answer(launch), "sagemaker", "cheapest").text)
    words = [
        word.replace("/opt/ml/checkpoints", str(tmp_path / "checkpoints"))
        for word in request["AlgorithmSpecification"]["ContainerArguments"]
    ]
    here = [
        "accelerator=cpu",
        "max_steps=8",
        "enable_progress_bar=false",
        "enable_model_summary=false",
        "logger=false",
    ]
    arguments = [*words[1:], *(f"--trainer.{word}" for word in here)]
    with pytest.raises(TakenBackError):
        LightningCLI(module, args=arguments, save_config_callback=None)
    module.ends_at = None
    assert LightningCLI(module, args=arguments, save_config_callback=None).trainer.global_step == 8
    assert module.starts == [0, 4]
