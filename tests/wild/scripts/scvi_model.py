"""SCVI of scvi-tools, which builds its own Trainer inside `train`."""

import numpy as np
import scvi
from anndata import AnnData

from trainfare import FareMeter

scvi.settings.seed = 1
counts = np.random.default_rng(1).poisson(2.0, size=(256, 40)).astype("float32")
data = AnnData(counts)
scvi.model.SCVI.setup_anndata(data)
model = scvi.model.SCVI(data, n_hidden=32, n_latent=4)
model.train(
    max_epochs=8, batch_size=64, train_size=1.0, accelerator="cpu", callbacks=[FareMeter(report_dir=".")]
)
