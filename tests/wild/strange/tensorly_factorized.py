"""Factorized convolutions of tensorly-torch, whose weights are objects with the interface of a tensor."""

import lightning.pytorch as pl
import tltorch
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.conv = tltorch.FactorizedConv(3, 16, kernel_size=3, order=2, rank=0.5, factorization="cp")
        self.head = tltorch.FactorizedLinear((4, 4), (2, 4), rank=0.5, factorization="tucker")

    def training_step(self, batch, batch_idx):
        features = self.conv(batch[0]).relu().mean((2, 3))
        return nn.functional.cross_entropy(self.head(features), batch[1])

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


pl.seed_everything(1)
data = TensorDataset(torch.rand(64, 3, 12, 12), torch.randint(0, 8, (64,)))
trainer = pl.Trainer(max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Net(), DataLoader(data, 8))
