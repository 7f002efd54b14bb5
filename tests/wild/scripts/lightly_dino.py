"""DINO of lightly, as in its examples: a teacher that is a moving average, and a loss that keeps a centre."""

import copy

import pytorch_lightning as pl
import torch
from lightly.loss import DINOLoss
from lightly.models.modules import DINOProjectionHead
from lightly.models.utils import deactivate_requires_grad, update_momentum
from lightly.utils.scheduler import cosine_schedule
from torch import nn
from torch.utils.data import DataLoader
from torchvision.models import resnet18

from trainfare import FareMeter


class DINO(pl.LightningModule):
    def __init__(self):
        super().__init__()
        backbone = nn.Sequential(*list(resnet18().children())[:-1])
        self.student_backbone = backbone
        self.student_head = DINOProjectionHead(512, 64, 32, 128, freeze_last_layer=1)
        self.teacher_backbone = copy.deepcopy(backbone)
        self.teacher_head = DINOProjectionHead(512, 64, 32, 128)
        deactivate_requires_grad(self.teacher_backbone)
        deactivate_requires_grad(self.teacher_head)
        self.criterion = DINOLoss(output_dim=128, warmup_teacher_temp_epochs=5)

    def training_step(self, batch, batch_idx):
        momentum = cosine_schedule(self.current_epoch, 10, 0.996, 1)
        update_momentum(self.student_backbone, self.teacher_backbone, m=momentum)
        update_momentum(self.student_head, self.teacher_head, m=momentum)
        views = [view.to(self.device) for view in batch]
        teacher = [self.teacher_head(self.teacher_backbone(view).flatten(start_dim=1)) for view in views[:2]]
        student = [self.student_head(self.student_backbone(view).flatten(start_dim=1)) for view in views]
        return self.criterion(teacher, student, epoch=self.current_epoch)

    def on_after_backward(self):
        self.student_head.cancel_last_layer_gradients(current_epoch=self.current_epoch)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.001)


pl.seed_everything(1)
views = [tuple(torch.rand(3, 32, 32) for _ in range(4)) for _ in range(16)]
trainer = pl.Trainer(max_epochs=5, accelerator="cpu", callbacks=[FareMeter(report_dir=".")])
trainer.fit(DINO(), DataLoader(views, batch_size=4))
