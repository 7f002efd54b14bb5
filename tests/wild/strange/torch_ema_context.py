"""The running mean of torch-ema, stored in the checkpoint by hooks of the module, and a loader that ends early."""

import lightning.pytorch as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torch_ema import ExponentialMovingAverage


class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Conv1d(9, 12, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 1))

    def on_fit_start(self):
        self.ema = ExponentialMovingAverage(self.parameters(), decay=0.99)

    def on_train_batch_start(self, batch, batch_idx):
        return -1 if batch_idx == 6 else None

    def training_step(self, batch, batch_idx):
        return nn.functional.mse_loss(self.net(batch[0]), batch[1])

    def on_train_batch_end(self, *_):
        self.ema.update()

    def on_save_checkpoint(self, checkpoint):
        checkpoint["ema"] = self.ema.state_dict()

    def configure_optimizers(self):
        return torch.optim.RMSprop(self.parameters(), lr=1e-3)


pl.seed_everything(1)
data = TensorDataset(torch.randn(80, 9, 6), torch.randn(80, 1))
pl.Trainer(max_epochs=4, accelerator="cpu", logger=False).fit(Net(), DataLoader(data, 8))
