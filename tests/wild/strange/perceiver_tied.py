"""A Perceiver whose layers share their weights, trained twice by the same Trainer."""

import lightning.pytorch as pl
import torch
from perceiver_pytorch import Perceiver
from torch.utils.data import DataLoader, TensorDataset


class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.model = Perceiver(
            input_channels=3, input_axis=2, num_freq_bands=4, max_freq=8.0, depth=3, num_latents=8, latent_dim=16,
            cross_heads=1, latent_heads=2, cross_dim_head=8, latent_dim_head=8, num_classes=5, weight_tie_layers=True,
        )  # fmt: skip

    def training_step(self, batch, batch_idx):
        return torch.nn.functional.cross_entropy(self.model(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


pl.seed_everything(1)
loader = DataLoader(TensorDataset(torch.rand(48, 8, 8, 3), torch.randint(0, 5, (48,))), batch_size=4)
for _ in range(2):
    pl.Trainer(max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False).fit(Net(), loader)
