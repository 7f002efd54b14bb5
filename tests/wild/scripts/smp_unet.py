"""The module of segmentation-models-pytorch's documentation, with its checks of the masks' values."""

import pytorch_lightning as pl
import segmentation_models_pytorch as smp
import torch
from torch.utils.data import DataLoader

from trainfare import FareMeter


class PetModel(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.model = smp.Unet("resnet18", encoder_weights=None, in_channels=3, classes=1)
        self.loss_fn = smp.losses.DiceLoss(smp.losses.BINARY_MODE, from_logits=True)
        self.training_step_outputs = []

    def shared_step(self, batch):
        image, mask = batch["image"], batch["mask"]
        assert image.ndim == 4
        assert mask.max() <= 1.0
        assert mask.min() >= 0
        logits = self.model(image)
        loss = self.loss_fn(logits, mask)
        predicted = (logits.sigmoid() > 0.5).float()
        tp, fp, fn, tn = smp.metrics.get_stats(predicted.long(), mask.long(), mode="binary")
        return {"loss": loss, "tp": tp, "fp": fp, "fn": fn, "tn": tn}

    def training_step(self, batch, batch_idx):
        outputs = self.shared_step(batch)
        self.training_step_outputs.append(outputs)
        return outputs

    def on_train_epoch_end(self):
        tp, fp, fn, tn = (
            torch.cat([x[name] for x in self.training_step_outputs]) for name in ("tp", "fp", "fn", "tn")
        )
        self.log("train_iou", smp.metrics.iou_score(tp, fp, fn, tn, reduction="micro"))
        self.training_step_outputs.clear()

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-4)


pl.seed_everything(1)
pets = [{"image": torch.rand(3, 64, 64), "mask": torch.randint(0, 2, (1, 64, 64)).float()} for _ in range(16)]
trainer = pl.Trainer(max_epochs=4, accelerator="cpu", callbacks=[FareMeter(report_dir=".")])
trainer.fit(PetModel(), DataLoader(pets, batch_size=4, shuffle=True))
