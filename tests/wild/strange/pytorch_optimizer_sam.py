"""Sharpness-aware minimization of pytorch-optimizer: two passes in a step, by a closure."""

import lightning.pytorch as pl
import torch
from pytorch_optimizer import SAM
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Sharp(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.net = nn.Sequential(nn.Linear(20, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 5))

    def training_step(self, batch, batch_idx):
        source, target = batch
        optimizer = self.optimizers()
        loss = nn.functional.cross_entropy(self.net(source), target)
        self.manual_backward(loss)
        optimizer.optimizer.first_step(zero_grad=True)
        self.manual_backward(nn.functional.cross_entropy(self.net(source), target))
        optimizer.optimizer.second_step(zero_grad=True)
        self.log("loss", loss)

    def configure_optimizers(self):
        return SAM(self.parameters(), base_optimizer=torch.optim.SGD, lr=0.1, momentum=0.9)


pl.seed_everything(1)
data = TensorDataset(torch.randn(128, 20), torch.randint(0, 5, (128,)))
trainer = pl.Trainer(max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Sharp(), DataLoader(data, 16))
