"""torchgeo's SemanticSegmentationTask."""

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader
from torchgeo.trainers import SemanticSegmentationTask

from trainfare import FareMeter

pl.seed_everything(1)
samples = [{"image": torch.rand(3, 64, 64), "mask": torch.randint(0, 4, (64, 64))} for _ in range(16)]
task = SemanticSegmentationTask(
    model="unet", backbone="resnet18", in_channels=3, num_classes=4, task="multiclass", loss="ce"
)
trainer = pl.Trainer(max_epochs=4, accelerator="cpu", callbacks=[FareMeter(report_dir=".")])
trainer.fit(task, DataLoader(samples, batch_size=4))
