"""A residual flow of normflows: power iterations, a series of random length, and memory-saving gradients."""

import lightning.pytorch as pl
import normflows as nf
import torch
from torch.utils.data import DataLoader


class Flow(pl.LightningModule):
    def __init__(self):
        super().__init__()
        layers = []
        for _ in range(3):
            net = nf.nets.LipschitzMLP([2, 32, 32, 2], init_zeros=True, lipschitz_const=0.9)
            layers += [nf.flows.Residual(net, reduce_memory=True), nf.flows.ActNorm(2)]
        self.model = nf.NormalizingFlow(q0=nf.distributions.DiagGaussian(2, trainable=False), flows=layers)

    def training_step(self, batch, batch_idx):
        return self.model.forward_kld(batch)

    def on_train_batch_end(self, *_):
        nf.utils.update_lipschitz(self.model, 5)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-4)


pl.seed_everything(1)
trainer = pl.Trainer(max_epochs=5, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Flow(), DataLoader(torch.randn(64, 2), 8))
