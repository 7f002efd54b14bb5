"""Triplets that a miner of pytorch-metric-learning picks by their distance, with a memory of earlier batches."""

import pytorch_lightning as pl
import torch
from pytorch_metric_learning import losses, miners, samplers
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from trainfare import FareMeter


class Embedding(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 8))
        self.miner = miners.TripletMarginMiner(margin=0.2, type_of_triplets="semihard")
        self.criterion = losses.TripletMarginLoss()

    def training_step(self, batch, batch_idx):
        points = self.net(batch[0])
        return self.criterion(points, batch[1], self.miner(points, batch[1]))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


pl.seed_everything(1)
labels = torch.arange(8).repeat(16)
data = TensorDataset(torch.randn(128, 16), labels)
sampler = samplers.MPerClassSampler(labels, m=4, batch_size=16, length_before_new_iter=128)
trainer = pl.Trainer(max_epochs=3, accelerator="cpu", callbacks=[FareMeter(report_dir=".")])
trainer.fit(Embedding(), DataLoader(data, batch_size=16, sampler=sampler))
