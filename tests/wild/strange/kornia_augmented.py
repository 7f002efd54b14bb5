"""Augmentation of kornia after the transfer: each of them is applied at random."""

import kornia.augmentation as ka
import lightning.pytorch as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.augment = ka.AugmentationSequential(
            ka.RandomAffine(20.0, p=0.5),
            ka.RandomGaussianBlur((3, 3), (0.1, 2.0), p=0.5),
            data_keys=["input"],
        )
        self.net = nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)
        )

    def on_after_batch_transfer(self, batch, dataloader_idx):
        return (self.augment(batch[0]), batch[1]) if self.trainer.training else batch

    def training_step(self, batch, batch_idx):
        images, labels = batch
        return nn.functional.cross_entropy(self.net(images), labels)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


pl.seed_everything(1)
data = TensorDataset(torch.rand(64, 3, 16, 16), torch.randint(0, 5, (64,)))
trainer = pl.Trainer(max_epochs=3, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Net(), DataLoader(data, 8))
