"""
SASRec of RecTools, whose `fit` takes a table and makes its own Trainer.

RecTools states an older Lightning and NumPy than it needs: `pip install --no-deps rectools`, and what it imports; pandas 3 takes no tuple where it
gives one.
"""

import numpy as np
import pandas as pd
import pytorch_lightning as pl
from rectools.dataset import Dataset
from rectools.models.nn.transformers.sasrec import SASRecModel

from trainfare import FareMeter

unique = pd.unique
pd.unique = lambda values: unique(np.array(values, dtype=object) if isinstance(values, tuple) else values)


def make_trainer():
    return pl.Trainer(max_epochs=5, accelerator="cpu", callbacks=[FareMeter(report_dir=".")])


pl.seed_everything(1)
random = np.random.default_rng(1)
visits = pd.DataFrame(
    {
        "user_id": np.repeat(np.arange(60), 12),
        "item_id": random.integers(0, 40, 720),
        "weight": 1.0,
        "datetime": pd.date_range("2026-01-01", periods=720, freq="h"),
    }
)
model = SASRecModel(
    n_factors=16, n_blocks=1, n_heads=2, session_max_len=8, batch_size=16, get_trainer_func=make_trainer
)
model.fit(Dataset.construct(visits))
