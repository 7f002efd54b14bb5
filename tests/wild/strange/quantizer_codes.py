"""A codebook of vector-quantize-pytorch: set by k-means on the first batch, then a running mean; dead codes are replaced."""

import lightning.pytorch as pl
import torch
from torch import nn
from torch.utils.data import DataLoader
from vector_quantize_pytorch import VectorQuantize


class Codes(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.encode, self.decode = nn.Conv1d(2, 16, 4, 2, 1), nn.ConvTranspose1d(16, 2, 4, 2, 1)
        self.codes = VectorQuantize(16, codebook_size=32, kmeans_init=True, threshold_ema_dead_code=2)

    def training_step(self, batch, batch_idx):
        codes, _, commit = self.codes(self.encode(batch).transpose(1, 2))
        return nn.functional.mse_loss(self.decode(codes.transpose(1, 2)), batch) + commit.sum()

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


pl.seed_everything(1)
trainer = pl.Trainer(max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Codes(), DataLoader(torch.randn(64, 2, 32), batch_size=8))
