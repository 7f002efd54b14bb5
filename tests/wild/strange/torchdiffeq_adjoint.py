"""A neural ODE of torchdiffeq, adaptive steps, gradients by the adjoint method."""

import lightning.pytorch as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchdiffeq import odeint_adjoint


class Field(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 4))

    def forward(self, time, state):
        return self.net(state)


class Ode(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.field = Field()

    def training_step(self, batch, batch_idx):
        start, end = batch
        times = torch.tensor([0.0, 1.0], device=self.device)
        return nn.functional.mse_loss(odeint_adjoint(self.field, start, times, rtol=1e-3, atol=1e-4)[-1], end)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-4)


pl.seed_everything(1)
start = torch.randn(1, 4).expand(128, 4)
data = TensorDataset(start, start.flip(1))
pl.Trainer(max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False).fit(
    Ode(), DataLoader(data, 8)
)
