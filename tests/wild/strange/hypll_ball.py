"""Hyperbolic layers of hypll, whose tensors carry their manifold, in its own optimizer."""

import lightning.pytorch as pl
import torch
from hypll.manifolds.poincare_ball import Curvature, PoincareBall
from hypll.nn import HLinear
from hypll.optim import RiemannianSGD
from hypll.tensors import TangentTensor
from torch.utils.data import DataLoader, TensorDataset


class Hyperbolic(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.manifold = PoincareBall(Curvature(0.1))
        self.first = HLinear(16, 32, manifold=self.manifold)
        self.second = HLinear(32, 4, manifold=self.manifold)

    def training_step(self, batch, batch_idx):
        source, target = batch
        points = self.manifold.expmap(TangentTensor(data=source, man_dim=-1, manifold=self.manifold))
        return torch.nn.functional.cross_entropy(self.second(self.first(points)).tensor, target)

    def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure=None):
        optimizer_closure()
        optimizer.optimizer.step()  # takes no closure

    def configure_optimizers(self):
        return RiemannianSGD(self.parameters(), lr=1e-2)


pl.seed_everything(1)
data = TensorDataset(torch.randn(64, 16), torch.randint(0, 4, (64,)))
trainer = pl.Trainer(
    max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False, enable_model_summary=False
)
trainer.fit(Hyperbolic(), DataLoader(data, 8))
