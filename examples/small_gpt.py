"""
A small GPT on text that ships with Python (the Zen of Python and some documentation), metered while it trains.

    python examples/small_gpt.py                             # train a tiny one on this machine's CPU
    trainfare profile examples/small_gpt.py:job -o gpt.json  # a GPT-2 of 124M parameters, before launch
    trainfare recommend examples/small_gpt.py:job --deadline 24
"""

from __future__ import annotations

import codecs
import contextlib
import io

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from trainfare import FareMeter, TrainingJob


class Block(nn.Module):
    """Self-attention and an MLP, each behind a layer norm."""

    def __init__(self, width: int, heads: int, *, causal: bool = True) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, tokens, width) to the same shape."""
        batch, tokens, width = x.shape
        qkv = self.qkv(self.norm_1(x)).view(batch, tokens, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        x = x + self.out(attended.transpose(1, 2).reshape(batch, tokens, width))
        return x + self.mlp(self.norm_2(x))


class SmallGPT(pl.LightningModule):
    """A decoder with learned positions; the output layer shares its weights with the token embedding."""

    def __init__(
        self, vocab: int = 50257, context: int = 1024, width: int = 768, heads: int = 12, layers: int = 12
    ) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocab, width), nn.Embedding(context, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocab, bias=False)
        self.head.weight = self.tokens.weight
        nn.init.normal_(self.tokens.weight, std=0.02)

    def forward(self, ids: Tensor) -> Tensor:
        """Logits (batch, tokens, vocab) for ids (batch, tokens)."""
        x = self.tokens(ids) + self.positions(torch.arange(ids.shape[1], device=ids.device))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        (ids,) = batch
        logits = self(ids[:, :-1])
        loss = functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self) -> dict[str, object]:
        optimizer = torch.optim.AdamW(self.parameters(), lr=3e-4, weight_decay=0.1)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=1000)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def job() -> TrainingJob:
    """Describe a GPT-2 of 124M parameters on 10 billion tokens: eight devices, 2^19 tokens a step."""
    context, batch_size = 1024, 16
    return TrainingJob(
        module=SmallGPT,
        batch=lambda: [torch.zeros(batch_size, context + 1, dtype=torch.long)],
        batch_size=batch_size,
        max_steps=19_073,
        tokens_per_sample=context,
        precision="bf16-mixed",
        accumulate_grad_batches=4,
        devices=8,
        strategy="ddp",
        checkpoint_every_n_steps=1000,
    )


def text() -> str:
    """Return English text that ships with Python."""
    with contextlib.redirect_stdout(io.StringIO()):
        import this
    return (
        codecs.decode(this.s, "rot13") + contextlib.redirect_stdout.__doc__ + io.__doc__ + codecs.open.__doc__
    )


def loader(context: int = 64, batch_size: int = 8) -> DataLoader:
    """Return a loader of byte sequences of `context + 1` tokens, overlapping by half."""
    ids = torch.tensor(list(text().encode()), dtype=torch.long)
    return DataLoader(
        TensorDataset(ids.unfold(0, context + 1, context // 2).contiguous()), batch_size, shuffle=True
    )


def main(max_epochs: int = 2, report_dir: str = ".") -> pl.Trainer:
    """Train a tiny byte-level GPT on this machine's CPU with a FareMeter."""
    pl.seed_everything(0)
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=max_epochs,
        logger=False,
        enable_checkpointing=False,
        default_root_dir=report_dir,
        callbacks=[FareMeter(report_dir=report_dir)],
    )
    trainer.fit(SmallGPT(vocab=256, context=64, width=64, heads=4, layers=2), loader())
    return trainer


if __name__ == "__main__":
    main()
