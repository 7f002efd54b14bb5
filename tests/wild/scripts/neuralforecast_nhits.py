"""NHITS of neuralforecast, which builds module and Trainer inside `fit`."""

import numpy as np
import pandas as pd
from neuralforecast import NeuralForecast
from neuralforecast.models import NHITS

from trainfare import FareMeter

days = pd.date_range("2024-01-01", periods=120, freq="D")
frame = pd.concat(
    pd.DataFrame({"unique_id": name, "ds": days, "y": np.sin(np.arange(len(days)) / period)})
    for name, period in (("week", 7.0), ("month", 30.0))
)
model = NHITS(h=7, input_size=28, max_steps=20, accelerator="cpu", callbacks=[FareMeter(report_dir=".")])
NeuralForecast(models=[model], freq="D").fit(df=frame)
