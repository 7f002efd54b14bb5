"""
Two processes on one CPU with DistributedDataParallel over gloo: every rank is metered, only rank 0 writes reports.

    python examples/ddp_two_processes.py
"""

from __future__ import annotations

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import DDPStrategy
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from trainfare import FareMeter


class Digits(pl.LightningModule):
    """A small fully connected network for 8x8 digits."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        pixels, labels = batch
        return functional.cross_entropy(self.network(pixels), labels)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def main(report_dir: str = ".") -> None:
    """Train one epoch on two gloo processes; Lightning starts the second one."""
    digits = load_digits()
    pixels = torch.tensor(digits.data, dtype=torch.float32) / 16.0
    loader = DataLoader(TensorDataset(pixels, torch.tensor(digits.target)), batch_size=32, shuffle=True)
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=2,
        strategy=DDPStrategy(process_group_backend="gloo"),
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        default_root_dir=report_dir,
        callbacks=[FareMeter(report_dir=report_dir)],
    )
    trainer.fit(Digits(), loader)


if __name__ == "__main__":
    import sys

    main(*sys.argv[1:])
