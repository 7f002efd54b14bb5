"""FTTransformer of pytorch-tabular, which builds module and Trainer inside `fit`."""

import numpy as np
import pandas as pd
from pytorch_tabular import TabularModel
from pytorch_tabular.config import DataConfig, OptimizerConfig, TrainerConfig
from pytorch_tabular.models import FTTransformerConfig

from trainfare import FareMeter

random = np.random.default_rng(1)
frame = pd.DataFrame(random.normal(size=(256, 4)), columns=list("abcd")).astype("float32")
frame["kind"] = random.choice(["x", "y", "z"], size=len(frame))
frame["target"] = (frame["a"] > 0).astype(int)
model = TabularModel(
    data_config=DataConfig(target=["target"], continuous_cols=list("abcd"), categorical_cols=["kind"]),
    model_config=FTTransformerConfig(
        task="classification", input_embed_dim=16, num_heads=2, num_attn_blocks=2
    ),
    optimizer_config=OptimizerConfig(),
    trainer_config=TrainerConfig(
        batch_size=32, max_epochs=3, accelerator="cpu", checkpoints=None, early_stopping=None
    ),
)
model.fit(train=frame, callbacks=[FareMeter(report_dir=".")])
