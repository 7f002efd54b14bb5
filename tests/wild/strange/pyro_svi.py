"""Variational inference of pyro: weights that are drawn in each pass, and a guide that makes its own parameters."""

import lightning.pytorch as pl
import pyro
import torch
from pyro.infer import Trace_ELBO
from pyro.infer.autoguide import AutoNormal
from pyro.nn import PyroModule, PyroSample
from torch.utils.data import DataLoader, TensorDataset


class Regression(PyroModule):
    def __init__(self):
        super().__init__()
        self.linear = PyroModule[torch.nn.Linear](5, 1)
        self.linear.weight = PyroSample(pyro.distributions.Normal(0.0, 1.0).expand([1, 5]).to_event(2))

    def forward(self, source, target=None):
        mean = self.linear(source).squeeze(-1)
        with pyro.plate("data", len(source)):
            return pyro.sample("target", pyro.distributions.Normal(mean, 0.5), obs=target)


class Variational(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.model = Regression()
        self.guide = AutoNormal(self.model)
        self.loss = Trace_ELBO().differentiable_loss
        self.guide(torch.zeros(8, 5))

    def training_step(self, batch, batch_idx):
        return self.loss(self.model, self.guide, *batch)

    def configure_optimizers(self):
        return pyro.optim.clipped_adam.ClippedAdam(self.guide.parameters(), lr=1e-2)


pl.seed_everything(1)
data = TensorDataset(torch.randn(64, 5), torch.randn(64))
trainer = pl.Trainer(max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Variational(), DataLoader(data, 8))
