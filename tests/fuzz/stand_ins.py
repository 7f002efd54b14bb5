"""The classes that a LightningCLI configuration is built from under the fuzzer, whatever classes it names."""

from __future__ import annotations

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, TensorDataset


class Net(pl.LightningModule):
    """A module with arguments of several types."""

    def __init__(self, width: int = 6, lr: float = 0.1, name: str = "") -> None:
        super().__init__()


class Data(pl.LightningDataModule):
    """Ten samples."""

    def __init__(self, batch_size: int = 4, shuffle: bool = False) -> None:
        super().__init__()
        self.batch_size, self.shuffle = batch_size, shuffle

    def train_dataloader(self) -> DataLoader[tuple[torch.Tensor, ...]]:
        return DataLoader(TensorDataset(torch.ones(10, 6)), self.batch_size, shuffle=self.shuffle)
