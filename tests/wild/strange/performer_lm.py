"""A Performer, which draws its random features anew every fifth pass, with reversible layers."""

import lightning.pytorch as pl
import torch
from performer_pytorch import PerformerLM
from torch.utils.data import DataLoader


class Language(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.model = PerformerLM(
            num_tokens=64, max_seq_len=32, dim=32, depth=2, heads=2, dim_head=16, causal=False,
            feature_redraw_interval=5, reversible=True,
        )  # fmt: skip

    def training_step(self, batch, batch_idx):
        return torch.nn.functional.cross_entropy(self.model(batch).transpose(1, 2), batch)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


pl.seed_everything(1)
trainer = pl.Trainer(max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Language(), DataLoader(torch.randint(0, 64, (96, 32)), batch_size=8))
