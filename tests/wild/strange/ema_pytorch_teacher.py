"""A mean teacher by ema-pytorch, which is built in the first batch and lies outside the registered modules."""

import lightning.pytorch as pl
import torch
from ema_pytorch import EMA
from torch import nn
from torch.utils.data import DataLoader


class Student(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 10))
        self.ema = []

    def training_step(self, batch, batch_idx):
        if not self.ema:
            self.ema.append(EMA(self.net, beta=0.9, update_after_step=2, update_every=2))
        with torch.no_grad():
            target = self.ema[0](batch)
        return nn.functional.mse_loss(self.net(batch + 0.1 * torch.randn_like(batch)), target)

    def on_before_zero_grad(self, optimizer):
        if self.ema:
            self.ema[0].update()

    def configure_optimizers(self):
        return torch.optim.Adam(self.net.parameters(), lr=1e-3)


pl.seed_everything(1)
trainer = pl.Trainer(max_epochs=3, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Student(), DataLoader(torch.rand(64, 3, 8, 8), batch_size=8))
