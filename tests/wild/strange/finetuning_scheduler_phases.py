"""A schedule of thawed layers by finetuning-scheduler: the trainable part grows by epochs."""

import lightning.pytorch as pl
import torch
from finetuning_scheduler import FinetuningScheduler
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 3))

    def training_step(self, batch, batch_idx):
        source, target = batch
        return nn.functional.cross_entropy(self.net(source), target)

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.training_step(batch, batch_idx))

    def configure_optimizers(self):
        return torch.optim.SGD([p for p in self.parameters() if p.requires_grad], lr=0.01)


pl.seed_everything(1)
data = TensorDataset(torch.randn(64, 16), torch.randint(0, 3, (64,)))
loader = DataLoader(data, batch_size=8)
phases = {
    0: {"params": ["net.4.weight", "net.4.bias"], "max_transition_epoch": 2},
    1: {"params": ["net.2.weight", "net.2.bias"], "max_transition_epoch": 4},
    2: {"params": ["net.0.weight", "net.0.bias"], "max_transition_epoch": 6},
}
scheduler = FinetuningScheduler(ft_schedule=phases, epoch_transitions_only=True)
trainer = pl.Trainer(max_epochs=6, accelerator="cpu", logger=False, callbacks=[scheduler])
trainer.fit(Net(), loader, loader)
