"""SimCLR of lightly, as in its examples."""

import pytorch_lightning as pl
import torch
from lightly.loss import NTXentLoss
from lightly.models.modules import SimCLRProjectionHead
from torch import nn
from torch.utils.data import DataLoader
from torchvision.models import resnet18

from trainfare import FareMeter


class SimCLR(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(*list(resnet18().children())[:-1])
        self.projection_head = SimCLRProjectionHead(512, 512, 128)
        self.criterion = NTXentLoss()

    def forward(self, x):
        return self.projection_head(self.backbone(x).flatten(start_dim=1))

    def training_step(self, batch, batch_idx):
        first, second = batch
        loss = self.criterion(self.forward(first), self.forward(second))
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.06)


pl.seed_everything(1)
views = [(torch.rand(3, 32, 32), torch.rand(3, 32, 32)) for _ in range(32)]
trainer = pl.Trainer(max_epochs=4, accelerator="cpu", callbacks=[FareMeter(report_dir=".")])
trainer.fit(SimCLR(), DataLoader(views, batch_size=8, drop_last=True))
