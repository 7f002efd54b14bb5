"""Analog layers of aihwkit-lightning, converted from a network, with its optimizer wrapper."""

import lightning.pytorch as pl
import torch
from aihwkit_lightning.nn.conversion import convert_to_analog
from aihwkit_lightning.optim import AnalogOptimizer
from aihwkit_lightning.simulator.configs import TorchInferenceRPUConfig
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Analog(pl.LightningModule):
    def __init__(self):
        super().__init__()
        config = TorchInferenceRPUConfig()
        config.forward.inp_res = 254
        config.pre_post.input_range.enable = True
        config.modifier.noise_per_sample = True
        self.net = convert_to_analog(nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4)), config)

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self):
        return AnalogOptimizer(torch.optim.AdamW, self.net.analog_layers, self.parameters(), lr=1e-3)


pl.seed_everything(1)
data = TensorDataset(torch.randn(64, 16), torch.randint(0, 4, (64,)))
trainer = pl.Trainer(max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Analog(), DataLoader(data, 8))
