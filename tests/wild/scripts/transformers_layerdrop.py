"""A TimeSeriesTransformer, which leaves each of its layers out with a probability of 0.1."""

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader
from transformers import TimeSeriesTransformerConfig, TimeSeriesTransformerForPrediction

from trainfare import FareMeter


class Forecast(pl.LightningModule):
    def __init__(self):
        super().__init__()
        config = TimeSeriesTransformerConfig(
            prediction_length=4, context_length=12, lags_sequence=[1, 2], num_time_features=1, d_model=16,
            encoder_layers=2, decoder_layers=2, encoder_attention_heads=2, decoder_attention_heads=2,
            encoder_ffn_dim=32, decoder_ffn_dim=32, encoder_layerdrop=0.1, decoder_layerdrop=0.1,
        )  # fmt: skip
        self.model = TimeSeriesTransformerForPrediction(config)

    def training_step(self, batch, batch_idx):
        return self.model(**batch).loss

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-4)


def make_series():
    return {
        "past_values": torch.randn(14),
        "past_time_features": torch.randn(14, 1),
        "past_observed_mask": torch.ones(14),
        "future_values": torch.randn(4),
        "future_time_features": torch.randn(4, 1),
    }


pl.seed_everything(1)
trainer = pl.Trainer(max_epochs=8, accelerator="cpu", callbacks=[FareMeter(report_dir=".")])
trainer.fit(Forecast(), DataLoader([make_series() for _ in range(64)], batch_size=8))
