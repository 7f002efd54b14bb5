"""
A Llama-class model of 7 billion parameters, traced before launch on a machine too small to hold it.

    trainfare profile examples/llama_7b.py:job -o llama.json      # one device
    trainfare recommend examples/llama_7b.py:job_on_eight         # sharded over 8 devices
"""

from __future__ import annotations

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional

from trainfare import TrainingJob

WIDTH, HEADS, LAYERS, HIDDEN, VOCAB, CONTEXT = 4096, 32, 32, 11008, 32000, 4096


class Attention(nn.Module):
    """Causal self-attention with rotary positions."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(4))

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Map (batch, tokens, width) to the same shape; cos and sin are (tokens, head_dim)."""
        batch, tokens, width = x.shape
        q, k, v = (
            layer(x).view(batch, tokens, HEADS, width // HEADS).transpose(1, 2)
            for layer in (self.q, self.k, self.v)
        )
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        attended = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(attended.transpose(1, 2).reshape(batch, tokens, width))


class Block(nn.Module):
    """Attention and a gated MLP, each behind an RMS norm."""

    def __init__(self) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = nn.RMSNorm(WIDTH, eps=1e-5), nn.RMSNorm(WIDTH, eps=1e-5)
        self.attention = Attention()
        self.gate, self.up = nn.Linear(WIDTH, HIDDEN, bias=False), nn.Linear(WIDTH, HIDDEN, bias=False)
        self.down = nn.Linear(HIDDEN, WIDTH, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Map (batch, tokens, width) to the same shape."""
        x = x + self.attention(self.norm_1(x), cos, sin)
        y = self.norm_2(x)
        return x + self.down(functional.silu(self.gate(y)) * self.up(y))


class Llama7B(pl.LightningModule):
    """32 blocks of width 4096 over a vocabulary of 32,000."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(VOCAB, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.norm, self.head = nn.RMSNorm(WIDTH, eps=1e-5), nn.Linear(WIDTH, VOCAB, bias=False)
        frequencies = 10_000.0 ** (-torch.arange(0, WIDTH // HEADS, 2) / (WIDTH // HEADS))
        angles = torch.outer(torch.arange(CONTEXT), frequencies).repeat(1, 2)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        x = self.tokens(batch)
        tokens = batch.shape[1]
        for block in self.blocks:
            x = block(x, self.cos[:tokens], self.sin[:tokens])
        logits = self.head(self.norm(x))
        loss = functional.cross_entropy(logits[:, :-1].flatten(0, 1), batch[:, 1:].flatten())
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=3e-4, betas=(0.9, 0.95), weight_decay=0.1)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate pairs of channels by their position's angle; x is (batch, heads, tokens, head_dim)."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


def job(devices: int = 1, strategy: str = "auto") -> TrainingJob:
    """Describe continued training on 10 billion tokens: bf16 weights, AdamW, sequences of 4096 tokens."""
    tokens_per_step = CONTEXT * 8
    return TrainingJob(
        module=Llama7B,
        batch=lambda: torch.zeros(1, CONTEXT, dtype=torch.long),
        batch_size=1,
        max_steps=10_000_000_000 // tokens_per_step,
        tokens_per_sample=CONTEXT,
        precision="bf16-true",
        accumulate_grad_batches=8 // devices,
        devices=devices,
        strategy=strategy,
        checkpoint_every_n_steps=5000,
    )


def job_on_eight() -> TrainingJob:
    """Describe the same run with the model sharded over the eight devices of one machine."""
    return job(devices=8, strategy="fsdp")


def main() -> None:
    """Trace one step and print its parameters and FLOPs."""
    from trainfare import trace_job

    profile = trace_job(job())
    parameters = sum(group.count for group in profile.parameters)
    print(f"{parameters:,} parameters, {profile.step_flops / 1e12:,.0f} TFLOP a step, no accelerator needed")


if __name__ == "__main__":
    main()
