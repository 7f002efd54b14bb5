"""
LightningCLI with the meter set in YAML, every argument of FareMeter typed and settable from flags.

    cd examples/lightning_cli
    python train.py fit --config config.yaml
    python train.py fit --config config.yaml --trainer.callbacks.measure_steps=20
"""

from __future__ import annotations

import pytorch_lightning as pl
import torch
from pytorch_lightning.cli import LightningCLI
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset


class DigitsMLP(pl.LightningModule):
    """A small fully connected network.

    Args:
        hidden: width of the hidden layers.
        learning_rate: of Adam.
    """

    def __init__(self, hidden: int = 128, learning_rate: float = 1e-3) -> None:
        super().__init__()
        self.learning_rate = learning_rate
        self.network = nn.Sequential(
            nn.Linear(64, hidden),
            nn.GELU(),
            nn.LayerNorm(hidden),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, 10),
        )

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        pixels, labels = batch
        loss = functional.cross_entropy(self.network(pixels), labels)
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.learning_rate)


class DigitsData(pl.LightningDataModule):
    """The 1,797 digits that ship inside scikit-learn, flattened.

    Args:
        batch_size: samples in one step.
    """

    def __init__(self, batch_size: int = 64) -> None:
        super().__init__()
        self.batch_size = batch_size

    def train_dataloader(self) -> DataLoader:
        digits = load_digits()
        pixels = torch.tensor(digits.data, dtype=torch.float32) / 16.0
        return DataLoader(TensorDataset(pixels, torch.tensor(digits.target)), self.batch_size, shuffle=True)


def main(arguments: list[str] | None = None) -> None:
    """Run LightningCLI; `arguments` replaces the process's own."""
    LightningCLI(DigitsMLP, DigitsData, args=arguments, save_config_callback=None)


if __name__ == "__main__":
    main()
