"""A neural spline flow of zuko, with gradient clipping of the module's own and an exponential mean of weights."""

import lightning.pytorch as pl
import torch
import zuko
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader


class Flow(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.flow = zuko.flows.NSF(features=4, context=3, transforms=2, hidden_features=(32, 32))
        self.average = AveragedModel(self.flow, multi_avg_fn=get_ema_multi_avg_fn(0.99))

    def training_step(self, batch, batch_idx):
        return -self.flow(batch[:, 4:]).log_prob(batch[:, :4]).mean()

    def configure_gradient_clipping(self, optimizer, gradient_clip_val=None, gradient_clip_algorithm=None):
        torch.nn.utils.clip_grad_norm_(self.flow.parameters(), 1.0)

    def on_train_batch_end(self, outputs, batch, batch_idx):
        self.average.update_parameters(self.flow)

    def configure_optimizers(self):
        return torch.optim.AdamW(self.flow.parameters(), lr=1e-3)


pl.seed_everything(1)
trainer = pl.Trainer(max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Flow(), DataLoader(torch.randn(128, 7), 16))
