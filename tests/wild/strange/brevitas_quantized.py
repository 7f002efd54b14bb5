"""Quantization-aware training of brevitas: quantized tensors are named tuples that pass between layers."""

import brevitas.nn as qnn
import lightning.pytorch as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Quantized(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            qnn.QuantIdentity(bit_width=8, return_quant_tensor=True),
            qnn.QuantConv2d(3, 8, 3, weight_bit_width=4, bias=True),
            qnn.QuantReLU(bit_width=4, return_quant_tensor=True),
            nn.Flatten(),
            qnn.QuantLinear(8 * 36, 10, bias=True, weight_bit_width=4),
        )

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


pl.seed_everything(1)
data = TensorDataset(torch.rand(64, 3, 8, 8), torch.randint(0, 10, (64,)))
trainer = pl.Trainer(max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Quantized(), DataLoader(data, 8))
