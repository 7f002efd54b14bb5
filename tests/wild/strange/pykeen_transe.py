"""Knowledge-graph embeddings of pykeen through its own LightningModule."""

import pytorch_lightning as pl
from pykeen.contrib.lightning import SLCWALitModule
from pykeen.datasets import Nations

pl.seed_everything(1)
module = SLCWALitModule(
    dataset=Nations(),
    model="transe",
    model_kwargs={"embedding_dim": 32},
    batch_size=128,
    optimizer="adam",
)
trainer = pl.Trainer(max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(module)
