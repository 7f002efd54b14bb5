"""MONAI's 3-D segmentation tutorial: the module builds a cached, transformed data set in `setup`."""

import monai
import pytorch_lightning as pl
import torch
from monai.data import CacheDataset, DataLoader, list_data_collate
from monai.losses import DiceLoss
from monai.networks.nets import UNet
from monai.transforms import Compose, EnsureTyped, RandFlipd, ScaleIntensityd

from trainfare import FareMeter


class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.model = UNet(spatial_dims=3, in_channels=1, out_channels=2, channels=(8, 16, 32), strides=(2, 2))
        self.loss_function = DiceLoss(to_onehot_y=True, softmax=True)

    def setup(self, stage):
        monai.utils.set_determinism(seed=0)
        keys = ["image", "label"]
        steps = [
            EnsureTyped(keys=keys),
            ScaleIntensityd(keys="image"),
            RandFlipd(keys=keys, prob=0.5, spatial_axis=0),
        ]
        volumes = [
            {"image": torch.rand(1, 16, 16, 16), "label": torch.randint(0, 2, (1, 16, 16, 16)).float()}
            for _ in range(8)
        ]
        self.train_ds = CacheDataset(volumes, Compose(steps), cache_rate=1.0, num_workers=0, progress=False)

    def train_dataloader(self):
        return DataLoader(self.train_ds, batch_size=2, shuffle=True, collate_fn=list_data_collate)

    def training_step(self, batch, batch_idx):
        loss = self.loss_function(self.model(batch["image"]), batch["label"])
        return {"loss": loss, "log": {"train_loss": loss.item()}}

    def configure_optimizers(self):
        return torch.optim.Adam(self.model.parameters(), 1e-4)


trainer = pl.Trainer(max_epochs=5, accelerator="cpu", callbacks=[FareMeter(report_dir=".")])
trainer.fit(Net())
