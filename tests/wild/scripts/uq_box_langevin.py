"""Langevin dynamics of Lightning-UQ-Box: manual optimization by its own optimizer; `on_train_start` makes a folder."""

import torch
from lightning.pytorch import Trainer, seed_everything
from lightning_uq_box.uq_methods import NLL, SGLDRegression
from torch import nn
from torch.utils.data import DataLoader

from trainfare import FareMeter

seed_everything(1)
network = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 2))
module = SGLDRegression(
    network, NLL(), lr=1e-3, weight_decay=0.0, noise_factor=0.01, burnin_epochs=1, n_sgld_samples=2
)
rows = [{"input": torch.randn(3), "target": torch.randn(1)} for _ in range(64)]
trainer = Trainer(
    max_epochs=4, accelerator="cpu", default_root_dir="run", callbacks=[FareMeter(report_dir=".")]
)
trainer.fit(module, DataLoader(rows, batch_size=8))
