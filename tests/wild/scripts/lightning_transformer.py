"""Lightning's demo of a Transformer language model: `nn.Transformer` with a mask."""

import pytorch_lightning as pl
import torch
from pytorch_lightning.demos import Transformer
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from trainfare import FareMeter


class Language(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.model = Transformer(vocab_size=1000)

    def training_step(self, batch, batch_idx):
        words, target = batch
        return F.nll_loss(self.model(words, target), target.view(-1))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


pl.seed_everything(1)
words = torch.randint(0, 1000, (64, 36))
trainer = pl.Trainer(max_epochs=3, accelerator="cpu", callbacks=[FareMeter(report_dir=".")])
trainer.fit(Language(), DataLoader(TensorDataset(words[:, :-1], words[:, 1:]), batch_size=8))
