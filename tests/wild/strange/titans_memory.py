"""A memory of titans-pytorch that is trained inside the forward pass, by torch.func."""

import lightning.pytorch as pl
import torch
from titans_pytorch import NeuralMemory
from torch import nn
from torch.utils.data import DataLoader


class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.memory = NeuralMemory(dim=16, chunk_size=8)
        self.head = nn.Linear(16, 16)

    def training_step(self, batch, batch_idx):
        recalled, _ = self.memory(batch)
        return nn.functional.mse_loss(self.head(recalled)[:, :-1], batch[:, 1:])

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


pl.seed_everything(1)
trainer = pl.Trainer(max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Net(), DataLoader(torch.randn(48, 32, 16), batch_size=4))
