"""A Temporal Fusion Transformer of pytorch-forecasting, as in its tutorial."""

import lightning.pytorch as pl
import numpy as np
import pandas as pd
from pytorch_forecasting import QuantileLoss, TemporalFusionTransformer, TimeSeriesDataSet

from trainfare import FareMeter

pl.seed_everything(1)
steps = np.arange(40)
frame = pd.DataFrame({"time": np.tile(steps, 4), "series": np.repeat(list("abcd"), len(steps))})
frame["value"] = np.sin(frame["time"] / 4.0).astype("float32") + frame["series"].map(ord)
training = TimeSeriesDataSet(
    frame,
    time_idx="time",
    target="value",
    group_ids=["series"],
    max_encoder_length=12,
    min_encoder_length=12,
    max_prediction_length=4,
    static_categoricals=["series"],
    time_varying_unknown_reals=["value"],
    time_varying_known_reals=["time"],
)
model = TemporalFusionTransformer.from_dataset(
    training, hidden_size=8, attention_head_size=2, hidden_continuous_size=8, loss=QuantileLoss()
)
loader = training.to_dataloader(train=True, batch_size=16)
trainer = pl.Trainer(
    max_epochs=2, gradient_clip_val=0.1, accelerator="cpu", callbacks=[FareMeter(report_dir=".")]
)
trainer.fit(model, train_dataloaders=loader)
