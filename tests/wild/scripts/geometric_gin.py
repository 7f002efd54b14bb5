"""A graph isomorphism network of PyTorch Geometric."""

import pytorch_lightning as pl
import torch
from torch.nn import functional as F
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader
from torch_geometric.nn import GIN, global_add_pool

from trainfare import FareMeter


class Graphs(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.model = GIN(8, 32, 3, 2)

    def training_step(self, batch, batch_idx):
        pooled = global_add_pool(self.model(batch.x, batch.edge_index), batch.batch)
        return F.cross_entropy(pooled, batch.y)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters())


pl.seed_everything(1)
graphs = [
    Data(x=torch.randn(n, 8), edge_index=torch.randint(0, n, (2, 3 * n)), y=torch.randint(0, 2, (1,)))
    for n in (5, 9, 7, 6)
]
trainer = pl.Trainer(max_epochs=16, accelerator="cpu", callbacks=[FareMeter(report_dir=".")])
trainer.fit(Graphs(), DataLoader(graphs, batch_size=4, shuffle=True))
