"""An optimizer of schedulefree, which hooks switch between training and evaluation; validation in mid-epoch."""

import lightning.pytorch as pl
import schedulefree
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.LSTM(4, 8, bidirectional=True)
        self.head = nn.Linear(16, 2)

    def training_step(self, batch, batch_idx):
        packed = nn.utils.rnn.pack_padded_sequence(
            batch[0].transpose(0, 1), torch.tensor([7] * len(batch[0]))
        )
        hidden = nn.utils.rnn.pad_packed_sequence(self.net(packed)[0])[0]
        return nn.functional.mse_loss(self.head(hidden[-1]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.training_step(batch, batch_idx))

    def on_train_start(self):
        self.optimizers().optimizer.train()

    def on_validation_start(self):
        self.optimizers().optimizer.eval()

    def on_validation_end(self):
        self.optimizers().optimizer.train()

    def configure_optimizers(self):
        return schedulefree.AdamWScheduleFree(self.parameters(), lr=1e-3)


pl.seed_everything(1)
loader = DataLoader(TensorDataset(torch.randn(64, 7, 4), torch.randn(64, 2)), 8)
trainer = pl.Trainer(
    max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False, val_check_interval=4
)
trainer.fit(Net(), loader, loader)
