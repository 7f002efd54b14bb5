"""Prodigy, whose step size is read from the gradients, with accumulation that a scheduler changes and a clipped norm."""

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from prodigyopt import Prodigy
from torch import nn
from torch.nn.utils.parametrizations import orthogonal, spectral_norm
from torch.utils.data import DataLoader, TensorDataset


class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(spectral_norm(nn.Linear(16, 32)), nn.ReLU(), orthogonal(nn.Linear(32, 8)))

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self):
        return Prodigy(self.parameters(), lr=1.0)


pl.seed_everything(1)
data = TensorDataset(torch.randn(128, 16), torch.randint(0, 8, (128,)))
trainer = pl.Trainer(
    max_epochs=4, accelerator="cpu", logger=False, enable_checkpointing=False, gradient_clip_val=1.0,
    callbacks=[GradientAccumulationScheduler({2: 4})],
)  # fmt: skip
trainer.fit(Net(), DataLoader(data, 8))
