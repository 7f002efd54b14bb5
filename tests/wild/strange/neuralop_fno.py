"""A Fourier neural operator of neuralop: complex weights, in a factorized form of tensorly."""

import lightning.pytorch as pl
import torch
from neuralop.models import FNO
from torch.utils.data import DataLoader


class Operator(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = FNO(n_modes=(4, 4), hidden_channels=8, in_channels=1, out_channels=1, n_layers=2)

    def training_step(self, batch, batch_idx):
        return torch.nn.functional.mse_loss(self.net(batch["x"]), batch["y"])

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


pl.seed_everything(1)
rows = [{"x": torch.randn(1, 16, 16), "y": torch.randn(1, 16, 16)} for _ in range(48)]
trainer = pl.Trainer(max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Operator(), DataLoader(rows, batch_size=4))
