"""Flow matching of torchcfm with minibatch optimal transport, on a stream without a length."""

import lightning.pytorch as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset
from torchcfm.conditional_flow_matching import ExactOptimalTransportConditionalFlowMatcher


class Stream(IterableDataset):
    def __iter__(self):
        while True:
            yield torch.randn(2) + 3.0


class Matching(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 64), nn.SELU(), nn.Linear(64, 2))
        self.matcher = ExactOptimalTransportConditionalFlowMatcher(sigma=0.1)

    def training_step(self, batch, batch_idx):
        time, point, slope = self.matcher.sample_location_and_conditional_flow(torch.randn_like(batch), batch)
        return nn.functional.mse_loss(self.net(torch.cat((point, time[:, None]), 1)), slope)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


pl.seed_everything(1)
trainer = pl.Trainer(max_steps=24, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Matching(), DataLoader(Stream(), batch_size=16))
