"""Parameters on a manifold and the optimizer of geoopt: a subclass of Parameter."""

import geoopt
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, TensorDataset


class Ball(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.manifold = geoopt.PoincareBall()
        self.points = geoopt.ManifoldParameter(self.manifold.random_normal(50, 8), manifold=self.manifold)
        self.head = torch.nn.Linear(8, 8)

    def training_step(self, batch, batch_idx):
        left, right = (self.points[column] for column in batch)
        far = self.manifold.dist(left, self.manifold.expmap0(self.head(right) * 0.1))
        return far.pow(2).mean()

    def configure_optimizers(self):
        return geoopt.optim.RiemannianAdam(self.parameters(), lr=1e-2)


pl.seed_everything(1)
pairs = TensorDataset(torch.randint(0, 50, (64,)), torch.randint(0, 50, (64,)))
pl.Trainer(max_epochs=2, accelerator="cpu").fit(Ball(), DataLoader(pairs, batch_size=8))
