"""A stochastic differential equation of torchsde, whose Brownian motion has a random state of its own."""

import lightning.pytorch as pl
import torch
import torchsde
from torch import nn
from torch.utils.data import DataLoader


class Drift(nn.Module):
    noise_type, sde_type = "diagonal", "ito"

    def __init__(self):
        super().__init__()
        self.drift = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 3))
        self.spread = nn.Parameter(torch.full((3,), 0.1))

    def f(self, time, state):
        return self.drift(state)

    def g(self, time, state):
        return self.spread.expand_as(state)


class Sde(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.sde = Drift()

    def training_step(self, batch, batch_idx):
        paths = torchsde.sdeint(self.sde, batch, torch.linspace(0, 1, 4), dt=0.1, method="euler")
        return paths[-1].pow(2).mean()

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


pl.seed_everything(1)
trainer = pl.Trainer(max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Sde(), DataLoader(torch.randn(64, 3), 8))
