"""Lightning's example of a GAN: manual optimization of two optimizers, toggled in each batch."""

import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from trainfare import FareMeter


class GAN(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.generator = nn.Sequential(
            nn.Linear(16, 64), nn.BatchNorm1d(64), nn.LeakyReLU(), nn.Linear(64, 784), nn.Tanh()
        )
        self.discriminator = nn.Sequential(nn.Linear(784, 64), nn.LeakyReLU(), nn.Linear(64, 1))

    def training_step(self, images):
        images = images.flatten(1)
        first, second = self.optimizers()
        noise = torch.randn(len(images), 16).type_as(images)
        real, fake = torch.ones(len(images), 1).type_as(images), torch.zeros(len(images), 1).type_as(images)
        self.toggle_optimizer(first)
        loss = F.binary_cross_entropy_with_logits(self.discriminator(self.generator(noise)), real)
        first.zero_grad()
        self.manual_backward(loss)
        first.step()
        self.untoggle_optimizer(first)
        self.toggle_optimizer(second)
        loss = F.binary_cross_entropy_with_logits(self.discriminator(images), real)
        loss = loss + F.binary_cross_entropy_with_logits(
            self.discriminator(self.generator(noise).detach()), fake
        )
        second.zero_grad()
        self.manual_backward(loss)
        second.step()
        self.untoggle_optimizer(second)

    def configure_optimizers(self):
        return [torch.optim.Adam(each.parameters(), lr=2e-4) for each in (self.generator, self.discriminator)]


pl.seed_everything(1)
trainer = pl.Trainer(max_epochs=5, accelerator="cpu", callbacks=[FareMeter(report_dir=".")])
trainer.fit(GAN(), DataLoader(torch.rand(64, 1, 28, 28), batch_size=16))
