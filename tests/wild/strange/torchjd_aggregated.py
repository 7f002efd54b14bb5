"""Two losses whose Jacobian torchjd aggregates, under manual optimization."""

import lightning.pytorch as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchjd.aggregation import PCGrad
from torchjd.autojac import mtl_backward

try:
    from torchjd.autojac import jac_to_grad
except ImportError:
    jac_to_grad = None


class Tasks(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.trunk = nn.Sequential(nn.Linear(10, 16), nn.ReLU())
        self.heads = nn.ModuleList([nn.Linear(16, 1), nn.Linear(16, 1)])
        self.aggregator = PCGrad()

    def training_step(self, batch, batch_idx):
        source, *targets = batch
        features = self.trunk(source)
        losses = [
            nn.functional.mse_loss(head(features), target)
            for head, target in zip(self.heads, targets, strict=True)
        ]
        optimizer = self.optimizers()
        optimizer.zero_grad()
        if jac_to_grad is None:
            mtl_backward(losses=losses, features=features, aggregator=self.aggregator)
        else:
            mtl_backward(losses, features=features)
            jac_to_grad(list(self.trunk.parameters()), self.aggregator)
        optimizer.step()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


pl.seed_everything(1)
data = TensorDataset(torch.randn(64, 10), torch.randn(64, 1), torch.randn(64, 1))
trainer = pl.Trainer(max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Tasks(), DataLoader(data, 8))
