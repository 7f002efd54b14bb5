"""The training run of `trainfare demo`: a small residual network on the digits data set of scikit-learn."""

from __future__ import annotations

import logging
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import LambdaCallback
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from trainfare.lightning import FareMeter

_DATASETS = import_module("sklearn.datasets")  # by name, because the package has no type annotations

PLANNED_EPOCHS = 300
"""Epochs of the run that is priced; a chosen value, far more than the demo trains."""
METERED_STEPS = 18
"""Steps that are trained: the 14 that FareMeter needs by default (3 warm-up, 1 traced, 10 measured), and 4 more."""
BATCH_SIZE = 64
"""A usual batch size for small images."""
IMAGE_PIXELS = 32
"""Width and height to which the 8x8 scans are enlarged: the size of CIFAR images."""


class _DemoMeter(FareMeter):
    """A FareMeter whose run is in no ledger: it is none of the user's."""

    services = replace(FareMeter.services, find_ledger=lambda: None)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch normalisation and a shortcut."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False),
            nn.BatchNorm2d(channels_out),
            nn.ReLU(),
            nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False),
            nn.BatchNorm2d(channels_out),
        )
        self.shortcut = nn.Conv2d(channels_in, channels_out, 1, stride, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """Map (batch, channels_in, h, w) to (batch, channels_out, h / stride, w / stride)."""
        return functional.relu(self.body(images) + self.shortcut(images))


class DigitsClassifier(pl.LightningModule):
    """A residual network of 0.3 M parameters that classifies (batch, 1, 32, 32) images of the ten digits."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1),
            ResidualBlock(32, 32, 1),
            ResidualBlock(32, 64, 2),
            ResidualBlock(64, 128, 2),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(0.1),
            nn.Linear(128, 10),
        )

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the cross-entropy of one batch."""
        del batch_idx
        images, labels = batch
        loss = functional.cross_entropy(self.network(images), labels)
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return AdamW with its default learning rate."""
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


def digits_loader() -> DataLoader[tuple[Tensor, ...]]:
    """Return a loader of the 1,797 scans of 8x8 pixels in scikit-learn, enlarged to 32x32."""
    digits = _DATASETS.load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16.0
    images = functional.interpolate(images, size=(IMAGE_PIXELS, IMAGE_PIXELS), mode="bilinear")
    labels = torch.tensor(digits.target, dtype=torch.long)
    return DataLoader(TensorDataset(images, labels), batch_size=BATCH_SIZE, shuffle=True, drop_last=True)


def _stop_early(trainer: pl.Trainer, *_: object) -> None:
    """Ask the Trainer to stop after `METERED_STEPS`; FareMeter still prices all of `PLANNED_EPOCHS`."""
    trainer.should_stop = trainer.global_step >= METERED_STEPS


def train_and_meter(report_dir: Path) -> None:
    """
    Train for `METERED_STEPS` steps with FareMeter, which writes its report to `report_dir`.

    Args:
        report_dir: an existing folder.
    """
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)  # hides its tips and device list
    pl.seed_everything(7, verbose=False)
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=PLANNED_EPOCHS,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        num_sanity_val_steps=0,
        default_root_dir=report_dir,
        callbacks=[_DemoMeter(report_dir=str(report_dir)), LambdaCallback(on_train_batch_end=_stop_early)],
    )
    trainer.fit(DigitsClassifier(), digits_loader())
