"""Ratio estimation of swyft, which has a Trainer and a module of its own."""

import scipy.integrate
import torch
from pytorch_lightning import seed_everything

scipy.integrate.simps = scipy.integrate.simpson  # swyft 0.4 takes the old name
import swyft  # noqa: E402


class Simulator(swyft.Simulator):
    def __init__(self):
        super().__init__()
        self.transform_samples = swyft.to_numpy32

    def build(self, graph):
        z = graph.node("z", lambda: torch.rand(3).numpy())
        graph.node("x", lambda value: value + 0.1 * torch.randn(3).numpy(), z)


class Network(swyft.SwyftModule):
    def __init__(self):
        super().__init__()
        self.ratios = swyft.LogRatioEstimator_1dim(num_features=3, num_params=3, varnames="z")

    def forward(self, first, second):
        return self.ratios(first["x"], second["z"])


seed_everything(1)
samples = Simulator().sample(256)
data = swyft.SwyftDataModule(samples, fractions=[0.75, 0.125, 0.125], batch_size=16)
trainer = swyft.SwyftTrainer(accelerator="cpu", max_epochs=2, logger=False, enable_checkpointing=False)
trainer.fit(Network(), data)
