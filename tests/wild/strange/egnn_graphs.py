"""An equivariant graph network of egnn-pytorch on molecules of different sizes, with a sampler of batches."""

import lightning.pytorch as pl
import torch
from egnn_pytorch import EGNN
from torch import nn
from torch.utils.data import DataLoader


class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([EGNN(dim=8, m_dim=4) for _ in range(2)])
        self.head = nn.Linear(8, 1)

    def training_step(self, batch, batch_idx):
        features, places = batch
        for layer in self.layers:
            features, places = layer(features, places)
        return self.head(features).mean().pow(2)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


pl.seed_everything(1)
molecules = [(torch.randn(4 + index % 5, 8), torch.randn(4 + index % 5, 3)) for index in range(160)]
batches = [
    [index + 5 * step for step in range(4)]
    for start in range(0, 160, 20)
    for index in range(start, start + 5)
]
trainer = pl.Trainer(max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Net(), DataLoader(molecules, batch_sampler=batches))
