"""Experts of st-moe-pytorch, whose router draws at random and drops tokens above the capacity."""

import lightning.pytorch as pl
import torch
from st_moe_pytorch import MoE
from torch import nn
from torch.utils.data import DataLoader


class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.experts = MoE(dim=16, num_experts=4, gating_top_n=2, threshold_train=0.2)
        self.head = nn.Linear(16, 16)

    def training_step(self, batch, batch_idx):
        mixed, extra, *_ = self.experts(batch)
        return nn.functional.mse_loss(self.head(mixed), batch) + extra

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


pl.seed_everything(1)
trainer = pl.Trainer(max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Net(), DataLoader(torch.randn(64, 12, 16), batch_size=8))
