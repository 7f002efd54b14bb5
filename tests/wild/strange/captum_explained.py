"""An attribution of captum inside the loss: hooks, gradients of the input and several forward passes."""

import lightning.pytorch as pl
import torch
from captum.attr import IntegratedGradients
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Explained(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(12, 32), nn.Softplus(), nn.Linear(32, 3))

    def training_step(self, batch, batch_idx):
        source, target = batch
        loss = nn.functional.cross_entropy(self.net(source), target)
        if batch_idx % 2 == 0:
            shares = IntegratedGradients(self.net).attribute(
                source, target=target, n_steps=4, method="gausslegendre"
            )
            loss = loss + 1e-3 * shares.abs().mean()
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


pl.seed_everything(1)
data = TensorDataset(torch.randn(128, 12), torch.randint(0, 3, (128,)))
trainer = pl.Trainer(max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Explained(), DataLoader(data, 8))
