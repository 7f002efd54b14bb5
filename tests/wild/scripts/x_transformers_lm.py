"""A language model of x-transformers."""

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader
from x_transformers import AutoregressiveWrapper, Decoder, TransformerWrapper

from trainfare import FareMeter


class Language(pl.LightningModule):
    def __init__(self):
        super().__init__()
        net = TransformerWrapper(
            num_tokens=256, max_seq_len=64, attn_layers=Decoder(dim=64, depth=2, heads=4, rotary_pos_emb=True)
        )
        self.model = AutoregressiveWrapper(net)

    def training_step(self, batch, batch_idx):
        return self.model(batch)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


pl.seed_everything(1)
trainer = pl.Trainer(max_epochs=4, accelerator="cpu", callbacks=[FareMeter(report_dir=".")])
trainer.fit(Language(), DataLoader(torch.randint(0, 256, (32, 65)), batch_size=8))
