"""DeepAR of gluonts, whose estimator builds module and Trainer inside `train`."""

import numpy as np
import pandas as pd
from gluonts.dataset.pandas import PandasDataset
from gluonts.torch import DeepAREstimator

from trainfare import FareMeter

index = pd.period_range("2024-01-01", periods=200, freq="h")
data = PandasDataset({"a": pd.Series(np.sin(np.arange(200) / 9) + 2, index=index, dtype="float32")})
estimator = DeepAREstimator(
    freq="h",
    prediction_length=6,
    context_length=24,
    hidden_size=16,
    lags_seq=[1, 2, 24],
    batch_size=8,
    num_batches_per_epoch=16,
    trainer_kwargs={"max_epochs": 2, "accelerator": "cpu", "callbacks": [FareMeter(report_dir=".")]},
)
estimator.train(data)
