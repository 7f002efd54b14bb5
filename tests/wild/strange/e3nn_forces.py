"""Energies and forces of an equivariant network of e3nn: a gradient inside the loss, code made by fx and TorchScript."""

import lightning.pytorch as pl
import torch
from e3nn import o3
from torch import nn
from torch.utils.data import DataLoader


class Potential(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.product = o3.FullyConnectedTensorProduct("0e + 1o", "0e + 1o", "8x0e")
        self.readout = nn.Sequential(nn.Linear(8, 16), nn.SiLU(), nn.Linear(16, 1))

    def energy(self, positions):
        edges = positions[:, :, None] - positions[:, None, :]
        features = o3.spherical_harmonics("0e + 1o", edges, normalize=False, normalization="component")
        return self.readout(self.product(features.sum(2), features.mean(2))).sum((1, 2))

    def training_step(self, batch, batch_idx):
        positions = batch["positions"].requires_grad_(True)
        batch["energy"] = self.energy(positions)
        forces = -torch.autograd.grad(batch["energy"].sum(), positions, create_graph=True)[0]
        return forces.pow(2).mean() + batch["energy"].pow(2).mean()

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


pl.seed_everything(1)
molecules = [{"positions": torch.randn(5, 3)} for _ in range(64)]
trainer = pl.Trainer(
    max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False, inference_mode=False
)
trainer.fit(Potential(), DataLoader(molecules, batch_size=8))
