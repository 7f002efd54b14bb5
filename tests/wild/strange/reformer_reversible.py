"""A Reformer: hashed attention, and reversible layers that compute their inputs again with the random states of before."""

import lightning.pytorch as pl
import torch
from reformer_pytorch import ReformerLM
from torch.utils.data import DataLoader


class Language(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.model = ReformerLM(
            num_tokens=64,
            dim=32,
            depth=2,
            max_seq_len=64,
            heads=2,
            bucket_size=8,
            n_hashes=2,
            causal=True,
            lsh_dropout=0.1,
        )

    def training_step(self, batch, batch_idx):
        return torch.nn.functional.cross_entropy(self.model(batch).transpose(1, 2), batch)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


pl.seed_everything(1)
trainer = pl.Trainer(max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Language(), DataLoader(torch.randint(0, 64, (64, 64)), batch_size=8))
