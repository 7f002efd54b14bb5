"""A diffusion model of diffusers with a moving average of its weights and accumulation."""

import diffusers
import pytorch_lightning as pl
import torch
from diffusers.training_utils import EMAModel
from torch.nn import functional as F
from torch.utils.data import DataLoader

from trainfare import FareMeter


class Diffusion(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.model = diffusers.UNet2DModel(
            sample_size=16,
            block_out_channels=(32, 64),
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        )
        self.scheduler = diffusers.DDPMScheduler()

    def on_fit_start(self):
        self.ema = EMAModel(self.model.parameters())

    def training_step(self, images, batch_idx):
        noise = torch.randn_like(images)
        times = torch.randint(
            0, self.scheduler.config.num_train_timesteps, (len(images),), device=self.device
        )
        noisy = self.scheduler.add_noise(images, noise, times)
        return F.mse_loss(self.model(noisy, times).sample, noise)

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=1e-4)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.99)
        return [optimizer], [schedule]


pl.seed_everything(1)
trainer = pl.Trainer(
    max_epochs=4, accumulate_grad_batches=2, accelerator="cpu", callbacks=[FareMeter(report_dir=".")]
)
trainer.fit(Diffusion(), DataLoader(torch.rand(16, 3, 16, 16), batch_size=2))
