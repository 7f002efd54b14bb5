"""A diffusion model with self-conditioning, which runs the network once more in half of the batches, at random."""

import lightning.pytorch as pl
import torch
from denoising_diffusion_pytorch import GaussianDiffusion, Unet
from torch.utils.data import DataLoader


class Diffusion(pl.LightningModule):
    def __init__(self):
        super().__init__()
        net = Unet(dim=8, dim_mults=(1, 2), self_condition=True, flash_attn=False, full_attn=(False, True))
        self.model = GaussianDiffusion(net, image_size=16, timesteps=20)

    def training_step(self, batch, batch_idx):
        return self.model(batch)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-4)


pl.seed_everything(1)
trainer = pl.Trainer(max_epochs=3, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Diffusion(), DataLoader(torch.rand(32, 3, 16, 16), batch_size=4))
