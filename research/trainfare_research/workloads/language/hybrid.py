"""
Decoders whose blocks each hold one mixer (state space, linear attention, short convolution, attention, feed-forward,
experts), as traces.

The work of a state-space block is that of Mamba-2's kernels (Dao and Gu 2024, arXiv 2405.21060, section 6): within a
chunk of tokens the products of attention without softmax, between chunks one state per head. Nothing that the kernels
keep in registers is written, and backward runs convolution, states and gate again
(`mamba_split_conv1d_scan_combined` of mamba_ssm). Of linear attention see linear_attention.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from trainfare import TrainingJob, trace_job
from trainfare_core.job_profile import JobProfile

# Private there, because a trace is kept under a digest of the code of decoder.py: public names would be other traces.
from trainfare_research.workloads.language.decoder import (
    Attention,
    DecoderStep,
    Experts,
    FeedForward,
    Linear,
    Model,
)
from trainfare_research.workloads.language.hybrid_parts import (
    Hybrid,
    adapter_rank,
    convolve,
    depthwise,
    in_chunks,
)
from trainfare_research.workloads.language.linear_attention import (
    GatedAttention,
    LatentAttention,
    LinearAttention,
)

_CHUNK_TOKENS = 128
"""Of the scan: the default of Megatron's mixer, and what the published configurations of Nemotron-H state."""


class _StateSpace(nn.Module):
    """Mamba-2's mixer: a convolution, a scan over chunks and a gated norm between two projections."""

    def __init__(self, step: DecoderStep, model: Hybrid) -> None:
        super().__init__()
        self.model, frozen = model, step.method != "full"
        rank = adapter_rank(step)
        self.into = Linear(model.hidden, model.inner + model.mixed + model.state_heads, rank, frozen=frozen)
        self.convolution = depthwise(model.mixed, model.kernel).requires_grad_(not frozen)
        self.weight = nn.Parameter(torch.ones(model.inner), requires_grad=not frozen)
        self.out = Linear(model.inner, model.hidden, rank, frozen=frozen)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        model = self.model
        gate, mixed, _ = self.into(x).split([model.inner, model.mixed, model.state_heads], dim=-1)
        y = checkpoint(self._scan, mixed, use_reentrant=False)
        out: torch.Tensor = self.out(checkpoint(self._gate, y, gate, use_reentrant=False))
        return out

    def _gate(self, y: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
        groups = (y * functional.silu(gate)).view(*y.shape[:-1], self.model.groups, -1)
        return functional.rms_norm(groups, groups.shape[-1:]).flatten(-2) * self.weight

    def _scan(self, mixed: torch.Tensor) -> torch.Tensor:
        model, length = self.model, mixed.shape[1]
        mixed = functional.silu(convolve(self.convolution, mixed))
        if length % _CHUNK_TOKENS:
            mixed = functional.pad(mixed, (0, 0, 0, -length % _CHUNK_TOKENS))
        keys = model.groups * model.state
        x, k, q = (
            in_chunks(t, model.groups, _CHUNK_TOKENS)
            for t in torch.split(mixed, [model.inner, keys, keys], dim=-1)
        )
        states = (k.transpose(-1, -2) @ x).float()
        carried = (states * states.new_ones(1)).to(x.dtype)  # what the chunks before left, in fp32
        # Last, what the kernels keep: it is not run again in backward.
        y = q @ carried + (q @ k.transpose(-1, -2)) @ x
        y = y.view(len(mixed), -1, model.groups, _CHUNK_TOKENS, y.shape[-1]).transpose(2, 3)
        return y.reshape(len(mixed), -1, model.inner)[:, :length]


class _ShortConvolution(nn.Module):
    """LFM2's mixer: a convolution over a few tokens between two gates (`Lfm2ShortConv` in transformers)."""

    def __init__(self, step: DecoderStep, model: Hybrid) -> None:
        super().__init__()
        frozen, rank = step.method != "full", adapter_rank(step)
        self.into = Linear(model.hidden, 3 * model.hidden, rank, frozen=frozen)
        self.convolution = depthwise(model.hidden, model.kernel).requires_grad_(not frozen)
        self.out = Linear(model.hidden, model.hidden, rank, frozen=frozen)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        before, after, x = self.into(x).chunk(3, dim=-1)
        out: torch.Tensor = self.out(after * convolve(self.convolution, before * x))
        return out


class _NarrowedExperts(nn.Module):
    """
    Routed experts that work on narrowed tokens, beside one that works on whole ones (Nemotron 3 Super).

    The router reads narrowed tokens here and whole ones there: less than 1 % of the block's FLOPs.
    """

    def __init__(self, step: DecoderStep, model: Hybrid) -> None:
        super().__init__()
        frozen, latent = step.method != "full", model.expert_latent
        self.down = Linear(model.hidden, latent, adapter_rank(step), frozen=frozen)
        self.routed = Experts(replace(step, model=replace(model, hidden=latent, shared_ffn=0)))
        self.up = Linear(latent, model.hidden, adapter_rank(step), frozen=frozen)
        self.shared = FeedForward(step, model.shared_ffn)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.up(self.routed(self.down(x))) + self.shared(x)
        return out


def _experts(step: DecoderStep, model: Hybrid) -> nn.Module:
    return _NarrowedExperts(step, model) if model.expert_latent else Experts(step)


def _make_attention(step: DecoderStep, model: Hybrid) -> nn.Module:
    if model.kv_latent:
        return LatentAttention(step, model)
    return GatedAttention(step, model) if model.gated_attention else Attention(step)


_MIXERS: Final[dict[str, Callable[[DecoderStep, Hybrid], nn.Module]]] = {
    "state": _StateSpace,
    "linear": LinearAttention,
    "convolution": _ShortConvolution,
    "attention": _make_attention,
    "dense": lambda step, model: FeedForward(step, model.ffn),
    "expert": _experts,
}


class _Block(nn.Module):
    def __init__(self, step: DecoderStep, model: Hybrid, kind: str) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(model.hidden).requires_grad_(step.method == "full")
        self.mixer = _MIXERS[kind](step, model)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = x + self.mixer(self.norm(x))
        return y


class _HybridModel(Model):
    def __init__(self, step: DecoderStep, kinds: tuple[str, ...]) -> None:
        super().__init__(step, ())
        model = step.model
        assert isinstance(model, Hybrid)
        self.blocks = nn.ModuleList(_Block(step, model, kind) for kind in kinds)
        self.further = model.further
        if self.further:
            self.joined = nn.Linear(2 * model.hidden, model.hidden, bias=False)
            self.ahead = nn.ModuleList(_Block(step, model, kind) for kind in ("attention", "expert"))

    def training_step(self, batch: torch.Tensor, _index: int) -> torch.Tensor:
        words = self.embedding(batch)
        if self.step.method != "full":
            words.requires_grad_(requires_grad=True)
        x = self._through(self.blocks, words)
        loss = self._compute_loss(x, batch)
        for _ in range(self.further):
            x = self._through(self.ahead, self.joined(torch.cat((x, words), dim=-1)))
            loss = loss + self._compute_loss(x, batch)
        return loss

    def _through(self, blocks: nn.ModuleList, x: torch.Tensor) -> torch.Tensor:
        for block in blocks:
            x = checkpoint(block, x, use_reentrant=False) if self.step.recompute == "full" else block(x)
        return x

    def _compute_loss(self, x: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
        logits = self.head(self.norm(x)).float()
        return functional.cross_entropy(logits.view(-1, logits.shape[-1]), batch.view(-1))


def trace_hybrid_blocks(step: DecoderStep, kinds: tuple[str, ...]) -> JobProfile:
    """
    Trace one sample through an embedding, blocks of these kinds and an output head.

    Raises:
        TraceError: torch cannot run it on fake tensors.
    """
    return trace_job(
        TrainingJob(
            module=lambda: _HybridModel(step, kinds),
            batch=lambda: torch.zeros(1, step.sequence, dtype=torch.long),
            batch_size=1, precision=step.precision, max_steps=1, tokens_per_sample=step.sequence,
        )
    )  # fmt: skip
