"""Private training of opacus: gradients of single samples by hooks, and an optimizer that adds noise to them."""

import pytorch_lightning as pl
import torch
from opacus import GradSampleModule
from opacus.optimizers import DPOptimizer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Private(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = GradSampleModule(
            nn.Sequential(nn.Conv1d(2, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 4))
        )

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self):
        inner = torch.optim.SGD(self.net.parameters(), lr=0.05)
        return DPOptimizer(inner, noise_multiplier=1.0, max_grad_norm=1.0, expected_batch_size=8)


pl.seed_everything(1)
data = TensorDataset(torch.randn(64, 2, 10), torch.randint(0, 4, (64,)))
trainer = pl.Trainer(max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Private(), DataLoader(data, 8))
