"""Attention with entmax instead of softmax: autograd functions of its own, ragged sequences in a named tuple."""

from typing import NamedTuple

import lightning.pytorch as pl
import torch
from entmax import entmax15, entmax15_loss
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader


class Batch(NamedTuple):
    tokens: torch.Tensor
    lengths: torch.Tensor


class Reader(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(50, 16)
        self.query, self.key, self.out = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 50)

    def training_step(self, batch, batch_idx):
        words = self.embed(batch.tokens)
        scores = self.query(words) @ self.key(words).transpose(1, 2) / 4
        padded = torch.arange(words.shape[1])[None, None, :] >= batch.lengths[:, None, None]
        mixed = entmax15(scores.masked_fill(padded, -1e4), dim=-1) @ words
        return entmax15_loss(self.out(mixed).flatten(0, 1), batch.tokens.flatten()).mean()

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def collate(rows):
    return Batch(pad_sequence(rows, batch_first=True), torch.tensor([len(row) for row in rows]))


pl.seed_everything(1)
rows = [torch.randint(1, 50, (10 if index % 4 else 14,)) for index in range(64)]
trainer = pl.Trainer(max_epochs=3, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Reader(), DataLoader(rows, batch_size=8, collate_fn=collate))
