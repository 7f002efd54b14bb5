"""Lightning's example of fine-tuning: a torchvision backbone is unfrozen during the run by a callback."""

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import BaseFinetuning
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from torchvision.models import resnet18

from trainfare import FareMeter


class MilestonesFinetuning(BaseFinetuning):
    def freeze_before_training(self, pl_module):
        self.freeze(modules=pl_module.feature_extractor, train_bn=True)

    def finetune_function(self, pl_module, epoch, optimizer):
        if epoch == 1:
            self.unfreeze_and_add_param_group(pl_module.feature_extractor[-2:], optimizer=optimizer)
        elif epoch == 3:
            self.unfreeze_and_add_param_group(pl_module.feature_extractor[:-2], optimizer=optimizer)


class TransferLearning(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.feature_extractor = nn.Sequential(*list(resnet18(weights=None).children())[:-1])
        self.fc = nn.Linear(512, 1)

    def training_step(self, batch, batch_idx):
        x, y = batch
        return F.binary_cross_entropy_with_logits(self.fc(self.feature_extractor(x).flatten(1)).squeeze(1), y)

    def configure_optimizers(self):
        return torch.optim.Adam(
            [parameter for parameter in self.parameters() if parameter.requires_grad], lr=1e-3
        )


pl.seed_everything(1)
data = TensorDataset(torch.rand(32, 3, 32, 32), torch.randint(0, 2, (32,)).float())
callbacks = [FareMeter(report_dir=".", warmup_steps=1, measure_steps=2), MilestonesFinetuning()]
trainer = pl.Trainer(max_epochs=5, accelerator="cpu", callbacks=callbacks)
trainer.fit(TransferLearning(), DataLoader(data, batch_size=4))
