"""
Decoder-only transformers, described by layers, hidden size, heads, feed-forward, vocabulary and experts, as traces.

Models with one and with two blocks are traced by trainfare on fake tensors. The difference of the two traces is one
more block, and a model of n blocks is the first trace plus n - 1 differences. That is exact where all blocks are alike
(a test compares it with a trace of the whole model), so a model of 405 B parameters is traced as fast as one of 1 B.
Traces are of one sample; the batch is scaled by `micro_ratio`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import lightning.pytorch as pl
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from trainfare import TrainingJob, trace_job
from trainfare_core.job_profile import JobProfile

Method = Literal["full", "lora", "qlora", "adapter"]
Recompute = Literal["none", "half", "full"]


@dataclass(frozen=True)
class Decoder:
    """
    A decoder, from public architecture facts.

    Attributes:
        ffn: width of the feed-forward of a dense block.
        gated: three matrices (SwiGLU) instead of two.
        experts, active: routed experts of a block, and how many of them process a token; 0: dense.
        expert_ffn: width of one expert.
        shared_ffn: width of the experts that process every token.
        dense_layers: blocks without experts.
        head_dim: 0: hidden / heads.
        tied: whether input embedding and output head share weights.
    """

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    ffn: int
    vocabulary: int
    gated: bool = True
    experts: int = 0
    active: int = 0
    expert_ffn: int = 0
    shared_ffn: int = 0
    dense_layers: int = 0
    head_dim: int = 0
    tied: bool = False
    kv_latent: int = 0
    """Multi-head latent attention: width of the compressed keys and values; 0: none."""

    @property
    def head(self) -> int:
        """Width of one head."""
        return self.head_dim or self.hidden // self.heads

    @property
    def parameters(self) -> int:
        """Number of weights of all matrices and embeddings, without norms and biases."""
        dense = self.dense_layers if self.experts else self.layers
        sparse = self.layers - dense
        three = 3 if self.gated else 2
        ffn = dense * three * self.ffn + sparse * three * (self.expert_ffn * self.experts + self.shared_ffn)
        block = self.layers * self._attention_width + ffn
        return self.hidden * (block + self.vocabulary * (1 if self.tied else 2) + sparse * self.experts)

    @property
    def _attention_width(self) -> int:
        """Number of weights of attention's matrices in one block, divided by the hidden size."""
        if self.kv_latent:
            # DeepSeek-V2: queries compressed to 3 widths, keys and values to 1, and 64 scalars of a shared rotary key.
            low = self.kv_latent * (4 + 5 * self.head * self.heads / self.hidden) + 64
            return int(low) + self.head * self.heads
        return self.head * (2 * self.heads + 2 * self.kv_heads)


@dataclass(frozen=True)
class DecoderStep:
    """
    One step of one decoder on one sample, before any sharding.

    Attributes:
        sequence: tokens of one sample.
        fused_attention: flash attention; False: matrix products and softmax as separate operations.
        recompute: which activations are recomputed; "half": those of every second block.
        method: which weights are trained.
        rank: of LoRA's matrices.
        lora_everywhere: LoRA on every matrix of a block; False: on those of attention only.
        dropout: whether the model uses it.
        separate: single projections and norms of single operations, as `transformers` writes its models; False: the
            projections that read one input are one matrix, as most trainers write theirs.
        fused_norms: with `separate`: norms are one kernel each.
        precision: as Lightning names it. Sharded trainers compute with 16-bit weights ("bf16-true").
    """

    model: Decoder
    sequence: int
    fused_attention: bool = True
    recompute: Recompute = "none"
    method: Method = "full"
    rank: int = 16
    lora_everywhere: bool = False
    dropout: bool = False
    separate: bool = False
    fused_norms: bool = False
    precision: str = "bf16-true"
    optimizer: str = "adamw"

    def key(self, kinds: tuple[bool, ...]) -> str:
        """Return a text of everything that decides the trace of these blocks (True: a block with experts)."""
        return repr((replace(self.model, layers=1, dense_layers=0), replace(self, model=_NOTHING), kinds))


_NOTHING = Decoder(1, 1, 1, 1, 1, 1)


class Linear(nn.Module):
    """A linear layer without bias; with a rank, its output gets that of a trained low-rank pair (LoRA) added."""

    def __init__(self, wide: int, out: int, rank: int, *, frozen: bool) -> None:
        super().__init__()
        self.base = nn.Linear(wide, out, bias=False)
        self.base.weight.requires_grad_(not frozen)
        self.low_rank = (
            nn.Sequential(nn.Linear(wide, rank, bias=False), nn.Linear(rank, out, bias=False))
            if rank
            else None
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.base(x)
        return y if self.low_rank is None else y + self.low_rank(x) * 2.0


class Attention(nn.Module):
    """Causal attention of grouped heads, or latent attention; queries and keys are rotated where the model is gated."""

    def __init__(self, step: DecoderStep) -> None:
        super().__init__()
        model = step.model
        self.step, self.heads, self.kv, self.head = step, model.heads, model.kv_heads, model.head
        frozen = step.method != "full"
        rank = step.rank if step.method in ("lora", "qlora") else 0
        self.latent = model.kv_latent
        if self.latent:
            self.down = Linear(model.hidden, 4 * self.latent + 64, 0, frozen=frozen)
            self.queries = Linear(3 * self.latent, self.head * self.heads, rank, frozen=frozen)
            self.pairs = Linear(self.latent, 2 * self.head * self.heads, rank, frozen=frozen)
        elif step.separate:
            widths = (self.head * n for n in (self.heads, self.kv, self.kv))
            self.each = nn.ModuleList(Linear(model.hidden, wide, rank, frozen=frozen) for wide in widths)
        else:
            self.qkv = Linear(model.hidden, self.head * (self.heads + 2 * self.kv), rank, frozen=frozen)
        self.out = Linear(self.head * self.heads, model.hidden, rank, frozen=frozen)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, _ = x.shape
        if self.latent:
            low, pair, _ = self.down(x).split([3 * self.latent, self.latent, 64], dim=-1)
            q, (k, v) = self.queries(low), self.pairs(pair).chunk(2, dim=-1)
        elif self.step.separate:
            q, k, v = (project(x) for project in self.each)
        else:
            q, k, v = self.qkv(x).split([self.head * n for n in (self.heads, self.kv, self.kv)], dim=-1)
        q, k, v = (t.view(batch, length, -1, self.head).transpose(1, 2) for t in (q, k, v))
        if self.step.model.gated:
            q, k = rotate(q), rotate(k)
        mixed = self._mix(q, k, v).transpose(1, 2).reshape(batch, length, -1)
        y: torch.Tensor = self.out(mixed)
        return y

    def _mix(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        if self.step.fused_attention:
            return functional.scaled_dot_product_attention(
                q, k, v, is_causal=True, enable_gqa=self.kv != self.heads
            )
        if self.kv != self.heads:
            k, v = (t.repeat_interleave(self.heads // self.kv, dim=1) for t in (k, v))
        scores = torch.softmax(q @ k.transpose(-1, -2) * self.head**-0.5, dim=-1)
        return (functional.dropout(scores, 0.1) if self.step.dropout else scores) @ v


def rotate(x: torch.Tensor) -> torch.Tensor:
    """Return queries or keys with rotary position embeddings, shape (batch, heads, tokens, size of a head)."""
    half = x.shape[-1] // 2
    angle = torch.ones(x.shape[-2], half, dtype=x.dtype, device=x.device)
    a, b = x[..., :half], x[..., half:]
    return torch.cat((a * angle - b * angle, b * angle + a * angle), dim=-1)


class FeedForward(nn.Module):
    """A feed-forward network, gated where the model's is."""

    def __init__(self, step: DecoderStep, width: int) -> None:
        super().__init__()
        hidden = step.model.hidden
        self.gated, frozen = step.model.gated, step.method != "full"
        rank = step.rank if step.method in ("lora", "qlora") and step.lora_everywhere else 0
        self.separate = step.separate and self.gated
        self.up = Linear(hidden, width * (2 if self.gated and not self.separate else 1), rank, frozen=frozen)
        self.gate = Linear(hidden, width, rank, frozen=frozen) if self.separate else None
        self.down = Linear(width, hidden, rank, frozen=frozen)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.up(x)
        if self.gate is not None:
            y = functional.silu(self.gate(x)) * y
        elif self.gated:
            gate, y = y.chunk(2, dim=-1)
            y = functional.silu(gate) * y
        else:
            y = functional.gelu(y)
        out: torch.Tensor = self.down(y)
        return out


class _SeparateNorm(nn.Module):
    """Root-mean-square norm in fp32 from single operations."""

    def __init__(self, wide: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(wide))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wide = x.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6)
        y: torch.Tensor = self.weight * wide.to(x.dtype)
        return y


class Experts(nn.Module):
    """Routed experts that each get the same number of tokens, which a load-balancing loss aims at."""

    def __init__(self, step: DecoderStep) -> None:
        super().__init__()
        model = step.model
        self.experts, self.active, self.gated = model.experts, model.active, model.gated
        trains = step.method == "full"
        self.router = nn.Linear(model.hidden, model.experts, bias=False)
        wide = model.expert_ffn * (2 if model.gated else 1)
        self.up = nn.Parameter(torch.empty(model.experts, model.hidden, wide), requires_grad=trains)
        self.down = nn.Parameter(
            torch.empty(model.experts, model.expert_ffn, model.hidden), requires_grad=trains
        )
        self.shared = FeedForward(step, model.shared_ffn) if model.shared_ffn else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = x.reshape(-1, x.shape[-1])
        weight, _ = torch.softmax(self.router(tokens), dim=-1).topk(self.active, dim=-1)
        per_expert = -(-len(tokens) * self.active // self.experts)
        order = torch.zeros(self.experts * per_expert, dtype=torch.long, device=x.device)
        picked = tokens[order].view(self.experts, per_expert, -1)
        y = torch.bmm(picked, self.up)
        if self.gated:
            gate, y = y.chunk(2, dim=-1)
            y = functional.silu(gate) * y
        else:
            y = functional.gelu(y)
        y = torch.bmm(y, self.down).reshape(len(order), -1)[: len(tokens) * self.active]
        y = (y.view(len(tokens), self.active, -1) * weight[..., None]).sum(dim=1).view_as(x)
        return y if self.shared is None else y + self.shared(x)


class _Block(nn.Module):
    def __init__(self, step: DecoderStep, *, sparse: bool) -> None:
        super().__init__()
        make: Callable[[int], nn.Module] = nn.RMSNorm if step.model.gated else nn.LayerNorm
        if step.model.gated and step.separate and not step.fused_norms:
            make = _SeparateNorm
        self.first, self.second = make(step.model.hidden), make(step.model.hidden)
        for norm in (self.first, self.second):
            norm.requires_grad_(step.method == "full")
        self.attention = Attention(step)
        self.ffn: nn.Module = Experts(step) if sparse else FeedForward(step, step.model.ffn)
        self.dropout = 0.1 if step.dropout else 0.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self._drop(self.attention(self.first(x)))
        return x + self._drop(self.ffn(self.second(x)))

    def _drop(self, x: torch.Tensor) -> torch.Tensor:
        return functional.dropout(x, self.dropout) if self.dropout else x


class Model(pl.LightningModule):
    """Embeddings, blocks, norm and head of a decoder, with the loss that its trainer takes."""

    def __init__(self, step: DecoderStep, kinds: tuple[bool, ...]) -> None:
        super().__init__()
        model = step.model
        self.step = step
        trains = step.method == "full"
        self.embedding = nn.Embedding(model.vocabulary, model.hidden).requires_grad_(trains)
        self.blocks = nn.ModuleList(_Block(step, sparse=sparse) for sparse in kinds)
        self.norm = nn.RMSNorm(model.hidden).requires_grad_(trains)
        self.head = nn.Linear(model.hidden, model.vocabulary, bias=False).requires_grad_(trains)
        if model.tied:
            self.head.weight = self.embedding.weight

    def training_step(self, batch: torch.Tensor, _index: int) -> torch.Tensor:
        x = self.embedding(batch)
        if self.step.method != "full":
            x.requires_grad_(requires_grad=True)
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False) if self.step.recompute == "full" else block(x)
        logits = self.head(self.norm(x)).float()
        return functional.cross_entropy(logits.view(-1, logits.shape[-1]), batch.view(-1))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        trained = [p for p in self.parameters() if p.requires_grad]
        if self.step.optimizer == "sgd":
            return torch.optim.SGD(trained, lr=1e-4)
        return torch.optim.AdamW(trained, lr=1e-4, fused=True)


def trace_blocks(step: DecoderStep, kinds: tuple[bool, ...]) -> JobProfile:
    """
    Trace one sample through an embedding, these blocks (True: a block with experts) and an output head.

    Raises:
        TraceError: torch cannot run it on fake tensors.
    """
    return trace_job(
        TrainingJob(
            module=lambda: Model(step, kinds),
            batch=lambda: torch.zeros(1, step.sequence, dtype=torch.long),
            batch_size=1, precision=step.precision, max_steps=1, tokens_per_sample=step.sequence,
        )
    )  # fmt: skip
