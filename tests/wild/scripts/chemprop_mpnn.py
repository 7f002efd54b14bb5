"""A message-passing network of chemprop."""

import numpy as np
from chemprop import data, models, nn
from lightning import pytorch as pl

from trainfare import FareMeter

pl.seed_everything(1)
smiles = ["CCO", "CCN", "CCC", "c1ccccc1", "CC(=O)O", "CCCl", "CNC", "COC"]
points = [data.MoleculeDatapoint.from_smi(smile, np.array([float(len(smile))])) for smile in smiles]
loader = data.build_dataloader(data.MoleculeDataset(points), batch_size=8, num_workers=0)
model = models.MPNN(nn.BondMessagePassing(d_h=32), nn.MeanAggregation(), nn.RegressionFFN(input_dim=32))
trainer = pl.Trainer(max_epochs=16, accelerator="cpu", callbacks=[FareMeter(report_dir=".")])
trainer.fit(model, loader)
