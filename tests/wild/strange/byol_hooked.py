"""BYOL of byol-pytorch: a forward hook takes the features, the target network is made in the first pass."""

import lightning.pytorch as pl
import torch
from byol_pytorch import BYOL
from torch import nn
from torch.utils.data import DataLoader


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
        )
        self.fc = nn.Linear(8, 10)

    def forward(self, images):
        return self.fc(self.body(images).flatten(1))


class Learner(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.learner = BYOL(
            Encoder(), image_size=16, hidden_layer="fc", projection_size=16, projection_hidden_size=32
        )

    def training_step(self, batch, batch_idx):
        return self.learner(batch)

    def on_before_zero_grad(self, optimizer):
        self.learner.update_moving_average()

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-4)


pl.seed_everything(1)
trainer = pl.Trainer(max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Learner(), DataLoader(torch.rand(64, 3, 16, 16), batch_size=8))
