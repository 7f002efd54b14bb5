"""A sweep of hydra over two learning rates, as by `-m lr=0.1,0.01`: two trainings in one process."""

import sys
from dataclasses import dataclass

import hydra
import pytorch_lightning as pl
import torch
from hydra.core.config_store import ConfigStore
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from trainfare import FareMeter


@dataclass
class Config:
    lr: float = 0.1
    width: int = 32


class Net(pl.LightningModule):
    def __init__(self, width, lr):
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(nn.Linear(16, width), nn.ReLU(), nn.Linear(width, 3))

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.hparams.lr)


@hydra.main(version_base=None, config_name="config")
def main(config):
    pl.seed_everything(1)
    data = TensorDataset(torch.randn(64, 16), torch.randint(0, 3, (64,)))
    trainer = pl.Trainer(max_epochs=2, accelerator="cpu", callbacks=[FareMeter(report_dir=".")])
    trainer.fit(Net(config.width, config.lr), DataLoader(data, batch_size=8))


ConfigStore.instance().store(name="config", node=Config)
sys.argv[1:] = ["-m", "lr=0.1,0.01", "hydra.sweep.dir=sweep"]
main()
