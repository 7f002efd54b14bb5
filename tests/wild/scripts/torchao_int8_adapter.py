"""An adapter beside frozen weights that torchao stores in 8 bits: subclasses of Tensor with a dispatch of their own."""

import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchao.quantization import Int8WeightOnlyConfig, quantize_

from trainfare import FareMeter


class Adapter(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.base = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 32)).requires_grad_(False)
        quantize_(self.base, Int8WeightOnlyConfig())
        self.down, self.up = nn.Linear(32, 4, bias=False), nn.Linear(4, 32, bias=False)
        self.head = nn.Linear(32, 5)

    def training_step(self, batch, batch_idx):
        features = self.base(batch[0] + self.up(self.down(batch[0])))
        return nn.functional.cross_entropy(self.head(features), batch[1])

    def configure_optimizers(self):
        return torch.optim.AdamW([p for p in self.parameters() if p.requires_grad], lr=1e-3)


pl.seed_everything(1)
data = TensorDataset(torch.randn(64, 32), torch.randint(0, 5, (64,)))
trainer = pl.Trainer(max_epochs=2, accelerator="cpu", callbacks=[FareMeter(report_dir=".")])
trainer.fit(Adapter(), DataLoader(data, batch_size=8))
