"""Second-order steps by a closure, on losses that come from pytorch-msssim."""

import lightning.pytorch as pl
import torch
from pytorch_msssim import ssim
from torch import nn
from torch.utils.data import DataLoader


class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, 1, 3, padding=1))

    def training_step(self, batch, batch_idx):
        return 1 - ssim(self.net(batch).sigmoid(), batch, data_range=1.0, win_size=5)

    def configure_optimizers(self):
        return torch.optim.LBFGS(self.parameters(), lr=0.1, max_iter=3, history_size=4)


pl.seed_everything(1)
trainer = pl.Trainer(max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Net(), DataLoader(torch.rand(64, 1, 16, 16), batch_size=8))
