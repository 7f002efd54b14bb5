"""A spiking network of snntorch, unrolled over time steps, with surrogate gradients."""

import lightning.pytorch as pl
import snntorch
import torch
from snntorch import surrogate
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Spiking(pl.LightningModule):
    def __init__(self):
        super().__init__()
        spike = surrogate.fast_sigmoid(slope=25)
        self.first, self.second = nn.Linear(20, 32), nn.Linear(32, 5)
        self.fire1 = snntorch.Leaky(beta=0.9, spike_grad=spike)
        self.fire2 = snntorch.Leaky(beta=0.9, spike_grad=spike)

    def training_step(self, batch, batch_idx):
        source, target = batch
        state1, state2 = self.fire1.init_leaky(), self.fire2.init_leaky()
        total = 0.0
        for _ in range(6):
            spikes, state1 = self.fire1(self.first(source), state1)
            spikes, state2 = self.fire2(self.second(spikes), state2)
            total = total + nn.functional.cross_entropy(state2, target)
        return total

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


pl.seed_everything(1)
data = TensorDataset(torch.rand(64, 20), torch.randint(0, 5, (64,)))
trainer = pl.Trainer(max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Spiking(), DataLoader(data, 8))
