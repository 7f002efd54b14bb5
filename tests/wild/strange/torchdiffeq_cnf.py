"""A continuous normalizing flow: the trace of a Jacobian by autograd, in fixed steps of torchdiffeq, double precision."""

import lightning.pytorch as pl
import torch
from torch import nn
from torch.utils.data import DataLoader
from torchdiffeq import odeint


class Field(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 16), nn.Softplus(), nn.Linear(16, 2))

    def forward(self, time, state):
        with torch.enable_grad():
            point = state[0].requires_grad_(True)
            slope = self.net(point)
            rows = [
                torch.autograd.grad(slope[:, i].sum(), point, create_graph=True)[0][:, i] for i in range(2)
            ]
        return slope, -sum(rows).unsqueeze(1)


class Flow(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.field = Field()

    def training_step(self, batch, batch_idx):
        times = torch.linspace(0, 1, 5).to(batch)
        ends = odeint(self.field, (batch, torch.zeros_like(batch[:, :1])), times, method="rk4")
        prior = torch.distributions.Normal(0.0, 1.0).log_prob(ends[0][-1]).sum(1)
        return -(prior - ends[1][-1].squeeze(1)).mean()

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


pl.seed_everything(1)
trainer = pl.Trainer(
    max_steps=16, precision="64-true", accelerator="cpu", logger=False, enable_checkpointing=False
)
trainer.fit(Flow(), DataLoader(torch.randn(64, 2, dtype=torch.float64), 8))
