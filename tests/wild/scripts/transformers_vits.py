"""VITS, which draws how long the sounds of a text last: the length of the speech is another in each batch."""

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader
from transformers import VitsConfig, VitsModel

from trainfare import FareMeter


class Speech(pl.LightningModule):
    def __init__(self):
        super().__init__()
        config = VitsConfig(
            vocab_size=30, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, ffn_dim=32, flow_size=16,
            spectrogram_bins=33, upsample_initial_channel=16, upsample_rates=[4, 4], upsample_kernel_sizes=[8, 8],
            resblock_kernel_sizes=[3], resblock_dilation_sizes=[[1, 3]], prior_encoder_num_flows=2,
            posterior_encoder_num_wavenet_layers=2, prior_encoder_num_wavenet_layers=2, depth_separable_channels=2,
            duration_predictor_num_flows=2,
        )  # fmt: skip
        self.model = VitsModel(config)

    def training_step(self, batch, batch_idx):
        return self.model(input_ids=batch).waveform.pow(2).mean()

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-5)


pl.seed_everything(1)
trainer = pl.Trainer(max_epochs=2, accelerator="cpu", callbacks=[FareMeter(report_dir=".")])
trainer.fit(Speech(), DataLoader(torch.randint(0, 30, (32, 10)), batch_size=2))
