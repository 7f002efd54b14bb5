"""A StreamingDataLoader of litdata over items that were optimized into chunks."""

import tempfile

import pytorch_lightning as pl
import torch
from litdata import StreamingDataLoader, StreamingDataset
from litdata.streaming.writer import BinaryWriter
from pytorch_lightning.demos.boring_classes import BoringModel

from trainfare import FareMeter

folder = tempfile.mkdtemp()
writer = BinaryWriter(folder, chunk_size=16)
for index in range(64):
    writer[index] = torch.full((32,), float(index))
writer.done()
writer.merge()
trainer = pl.Trainer(
    max_epochs=2, accelerator="cpu", limit_val_batches=0, callbacks=[FareMeter(report_dir=".")]
)
trainer.fit(BoringModel(), StreamingDataLoader(StreamingDataset(folder), batch_size=4))
