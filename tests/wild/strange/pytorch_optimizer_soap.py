"""SOAP of pytorch-optimizer, which preconditions every third step: the work of the optimizer has a period."""

import lightning.pytorch as pl
import torch
from pytorch_optimizer import SOAP
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Preconditioned(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(20, 32), nn.GELU(), nn.Linear(32, 5))

    def training_step(self, batch, batch_idx):
        source, target = batch
        return nn.functional.cross_entropy(self.net(source), target)

    def configure_optimizers(self):
        return SOAP(self.parameters(), lr=1e-3, precondition_frequency=3)


pl.seed_everything(1)
data = TensorDataset(torch.randn(240, 20), torch.randint(0, 5, (240,)))
trainer = pl.Trainer(max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Preconditioned(), DataLoader(data, 8))
