"""Tables with tab-transformer-pytorch, in batches that are dataclasses, with two loaders side by side."""

from dataclasses import dataclass

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities import CombinedLoader
from tab_transformer_pytorch import TabTransformer
from torch.utils.data import DataLoader


@dataclass
class Table:
    categories: torch.Tensor
    numbers: torch.Tensor
    label: torch.Tensor


class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.model = TabTransformer(
            categories=(5, 3),
            num_continuous=4,
            dim=16,
            dim_out=1,
            depth=2,
            heads=2,
            mlp_hidden_mults=(2, 1),
            mlp_act=torch.nn.ReLU(),
        )

    def training_step(self, batch, batch_idx):
        losses = [
            torch.nn.functional.mse_loss(self.model(table.categories, table.numbers), table.label)
            for table in batch.values()
        ]
        return {"loss": sum(losses), "parts": [loss.detach() for loss in losses]}

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=1e-3)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, 1e-2, total_steps=self.trainer.estimated_stepping_batches
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def collate(rows):
    size = len(rows)
    categories = torch.stack([torch.randint(0, top, (size,)) for top in (5, 3)], 1)
    return Table(categories, torch.randn(size, 4), torch.randn(size, 1))


pl.seed_everything(1)
loaders = {
    "long": DataLoader(range(64), 8, collate_fn=collate),
    "short": DataLoader(range(16), 4, collate_fn=collate),
}
trainer = pl.Trainer(max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Net(), CombinedLoader(loaders, "max_size_cycle"))
