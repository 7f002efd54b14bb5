"""
The jobs of docs/scenarios.md, traced before launch on a machine too small to hold most of them.

    trainfare profile examples/scenario_jobs.py:lora_70b -o docs/examples/lora-70b.json
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import resnet50 as resnet50_of_torchvision

from trainfare import TrainingJob

LORA_RANK = 16


@dataclass(frozen=True)
class Size:
    """Sizes of a transformer; `kv_heads` fewer than `heads` is grouped-query attention."""

    width: int
    layers: int
    heads: int
    kv_heads: int
    hidden: int
    vocabulary: int


LLAMA_7B = Size(4096, 32, 32, 32, 11008, 32000)
LLAMA_8B = Size(4096, 32, 32, 8, 14336, 128256)
LLAMA_70B = Size(8192, 80, 64, 8, 28672, 128256)


class LowRank(nn.Module):
    """A frozen linear layer with a trained update of low rank."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.base = nn.Linear(inputs, outputs, bias=False)
        self.down = nn.Linear(inputs, LORA_RANK, bias=False)
        self.up = nn.Linear(LORA_RANK, outputs, bias=False)
        self.base.requires_grad_(requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., inputs) to (..., outputs)."""
        return self.base(x) + self.up(self.down(x))


class Block(nn.Module):
    """Causal self-attention and a gated MLP, each behind an RMS norm."""

    def __init__(self, size: Size, *, lora: bool) -> None:
        super().__init__()
        linear = LowRank if lora else partial(nn.Linear, bias=False)
        self.size, self.head = size, size.width // size.heads
        self.norm_1, self.norm_2 = nn.RMSNorm(size.width), nn.RMSNorm(size.width)
        self.q, self.out = linear(size.width, size.width), linear(size.width, size.width)
        self.k, self.v = (linear(size.width, size.kv_heads * self.head) for _ in range(2))
        self.gate, self.up = linear(size.width, size.hidden), linear(size.width, size.hidden)
        self.down = linear(size.hidden, size.width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, tokens, width) to the same shape."""
        batch, tokens, width = x.shape
        y = self.norm_1(x)
        q, k, v = (
            layer(y).view(batch, tokens, -1, self.head).transpose(1, 2) for layer in (self.q, self.k, self.v)
        )
        grouped = self.size.kv_heads < self.size.heads
        attended = functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=grouped)
        x = x + self.out(attended.transpose(1, 2).reshape(batch, tokens, width))
        y = self.norm_2(x)
        return x + self.down(functional.silu(self.gate(y)) * self.up(y))


class Llama(pl.LightningModule):
    """A language model; with `lora` its blocks and embeddings are frozen but for low-rank updates."""

    def __init__(self, size: Size, *, lora: bool = False) -> None:
        super().__init__()
        self.tokens = nn.Embedding(size.vocabulary, size.width)
        self.blocks = nn.ModuleList(Block(size, lora=lora) for _ in range(size.layers))
        self.norm, self.head = nn.RMSNorm(size.width), nn.Linear(size.width, size.vocabulary, bias=False)
        if lora:
            for part in (self.tokens, self.norm, self.head):
                part.requires_grad_(requires_grad=False)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        x = self.tokens(batch)
        for block in self.blocks:
            x = block(x)
        logits = self.head(self.norm(x))
        return functional.cross_entropy(logits[:, :-1].flatten(0, 1), batch[:, 1:].flatten())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(
            [parameter for parameter in self.parameters() if parameter.requires_grad], lr=1e-4
        )


class ImageNet(pl.LightningModule):
    """ResNet-50."""

    def __init__(self) -> None:
        super().__init__()
        self.network = resnet50_of_torchvision()

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        logits = self.network(batch)
        return functional.cross_entropy(
            logits, torch.zeros(len(batch), dtype=torch.long, device=logits.device)
        )

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


class Denoiser(pl.LightningModule):
    """A diffusion transformer of the size of DiT-XL/2: 28 blocks of width 1152 over 256 patches of a latent image."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.out = nn.Linear(16, 1152), nn.Linear(1152, 16)
        layer = partial(
            nn.TransformerEncoderLayer, 1152, 16, 4608, 0.0, "gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.ModuleList(layer() for _ in range(28))

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        x = self.patches(batch)
        for block in self.blocks:
            x = block(x)
        return functional.mse_loss(self.out(x), batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-4)


class Perceptron(pl.LightningModule):
    """A network that any machine trains in minutes."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 10))

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return self.network(batch).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def _language(
    size: Size,
    *,
    lora: bool,
    samples: int,
    tokens: int,
    steps: int,
    accumulate: int,
    devices: int = 1,
    nodes: int = 1,
) -> TrainingJob:
    return TrainingJob(
        module=lambda: Llama(size, lora=lora),
        batch=lambda: torch.zeros(samples, tokens, dtype=torch.long),
        batch_size=samples,
        tokens_per_sample=tokens,
        max_steps=steps,
        precision="bf16-true",
        accumulate_grad_batches=accumulate,
        devices=devices,
        num_nodes=nodes,
        strategy="auto" if devices == 1 else "fsdp",
        checkpoint_every_n_steps=500,
    )


def tiny() -> TrainingJob:
    """Ten epochs of 60,000 digits in batches of 256; it writes no checkpoints."""
    return TrainingJob(
        module=Perceptron,
        batch=lambda: torch.zeros(256, 784),
        batch_size=256,
        max_steps=2_340,
        precision="32-true",
    )


def resnet50() -> TrainingJob:
    """90 epochs of ImageNet's 1,281,167 images in batches of 256."""
    return TrainingJob(
        module=ImageNet,
        batch=lambda: torch.zeros(256, 3, 224, 224),
        batch_size=256,
        max_steps=90 * 5_004,
        precision="bf16-mixed",
        checkpoint_every_n_steps=5_004,
    )


def lora_7b() -> TrainingJob:
    """Three epochs of 52,000 instructions of 512 tokens."""
    return _language(LLAMA_7B, lora=True, samples=4, tokens=512, steps=3 * 52_000 // 16, accumulate=4)


def lora_70b() -> TrainingJob:
    """Three epochs of 52,000 instructions of 1,024 tokens on the eight devices of one machine."""
    return _language(
        LLAMA_70B, lora=True, samples=1, tokens=1_024, steps=3 * 52_000 // 16, accumulate=2, devices=8
    )


def full_70b() -> TrainingJob:
    """Three epochs of 52,000 documents of 4,096 tokens, all weights, on eight machines of eight devices."""
    return _language(
        LLAMA_70B,
        lora=False,
        samples=1,
        tokens=4_096,
        steps=3 * 52_000 // 64,
        accumulate=1,
        devices=8,
        nodes=8,
    )


def pretrain_8b() -> TrainingJob:
    """A trillion tokens on 64 machines of eight devices, 4.2 million a step."""
    return _language(
        LLAMA_8B, lora=False, samples=1, tokens=8_192, steps=238_419, accumulate=1, devices=8, nodes=64
    )


def diffusion() -> TrainingJob:
    """50,000 steps on batches of 64 latent images."""
    return TrainingJob(
        module=Denoiser,
        batch=lambda: torch.zeros(64, 256, 16),
        batch_size=64,
        max_steps=50_000,
        precision="bf16-mixed",
        checkpoint_every_n_steps=2_500,
    )
