"""Batches and modules of tensordict: the step writes its results into the batch."""

import lightning.pytorch as pl
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule, TensorDictSequential
from torch import nn
from torch.utils.data import DataLoader


class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = TensorDictSequential(
            TensorDictModule(nn.Linear(8, 16), in_keys=["state"], out_keys=["hidden"]),
            TensorDictModule(
                nn.Sequential(nn.ReLU(), nn.Linear(16, 2)), in_keys=["hidden"], out_keys=["action"]
            ),
        )

    def training_step(self, batch, batch_idx):
        self.net(batch)
        return nn.functional.mse_loss(batch["action"], batch["wanted"])

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


pl.seed_everything(1)
rows = TensorDict({"state": torch.randn(96, 8), "wanted": torch.randn(96, 2)}, batch_size=[96])
trainer = pl.Trainer(max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Net(), DataLoader(rows, batch_size=8, collate_fn=lambda batch: batch))
