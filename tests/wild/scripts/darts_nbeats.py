"""N-BEATS of darts, which builds module and Trainer inside `fit`."""

import numpy as np
from darts import TimeSeries
from darts.models import NBEATSModel

from trainfare import FareMeter

series = TimeSeries.from_values(np.sin(np.arange(200, dtype="float32") / 9))
model = NBEATSModel(
    input_chunk_length=24,
    output_chunk_length=6,
    num_stacks=2,
    num_blocks=1,
    layer_widths=32,
    batch_size=16,
    n_epochs=2,
    random_state=1,
    pl_trainer_kwargs={"accelerator": "cpu", "callbacks": [FareMeter(report_dir=".")]},
)
model.fit(series)
