"""
Linear attention by the gated delta rule, and the attention of the decoders that have it, as mixers of hybrid.py.

The work is that of the kernels of flash-linear-attention, chunk by chunk (Yang et al. 2024, arXiv 2406.06484 and
2412.06464; with a decay for each channel Kimi Team 2025, arXiv 2510.26692). Of a chunk's keys they invert a triangle,
which stays until backward; its keys and values are multiplied by it, one state a head goes from chunk to chunk, and
tokens of a chunk attend to each other without softmax. Backward computes all but the triangle again, and of decays for
each channel the scores of a chunk stay too. Without a library's kernel for it, queries and keys are repeated for the
heads that share them. The inverse itself, 1.5 % of the products, is counted by its bytes, and decays of whole heads,
one number for a token and head, are not.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

# Private there, because a trace is kept under a digest of the code of decoder.py: public names would be other traces.
from trainfare_research.workloads.language.decoder import DecoderStep, Linear, rotate
from trainfare_research.workloads.language.hybrid_parts import (
    ROTARY,
    Hybrid,
    adapter_rank,
    convolve,
    depthwise,
    in_chunks,
)

_CHUNK_TOKENS = 64
"""Of the kernels of flash-linear-attention."""


class LinearAttention(nn.Module):
    """
    Gated DeltaNet's mixer (Qwen3-Next), or Kimi Delta Attention's where the model has a `decay_rank`.

    A convolution, the delta rule over chunks and a gated norm of each head between two projections.
    """

    def __init__(self, step: DecoderStep, model: Hybrid) -> None:
        super().__init__()
        self.model, frozen, rank = model, step.method != "full", adapter_rank(step)
        keys, values = model.linear_widths
        # Queries, keys, values; then the strength of each update beside the gate and decay, or beside their pairs.
        narrow = 2 * model.decay_rank or values + model.linear_heads
        self.widths = [2 * keys + values, narrow, model.linear_heads]
        self.into = Linear(model.hidden, sum(self.widths), rank, frozen=frozen)
        if model.decay_rank:
            self.decays = Linear(model.decay_rank, values, rank, frozen=frozen)
            self.gate = Linear(model.decay_rank, values, rank, frozen=frozen)
        self.convolution = depthwise(2 * keys + values, model.kernel).requires_grad_(not frozen)
        self.weight = nn.Parameter(torch.ones(model.linear_head), requires_grad=not frozen)
        self.out = Linear(values, model.hidden, rank, frozen=frozen)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Mix (batch, tokens, hidden)."""
        model, shape = self.model, x.shape
        mixed, narrow, _ = torch.split(self.into(x), self.widths, dim=-1)
        q, k, v = checkpoint(self._prepare, mixed, use_reentrant=False)
        decays = None
        if model.decay_rank:
            first, second = narrow.chunk(2, dim=-1)
            decays, gate = self._whole_chunks(self.decays(first)), self.gate(second)
        else:
            gate = narrow[..., : model.linear_widths[1]]
        inverse = checkpoint(_triangle, k, k, decays, use_reentrant=False)
        scores = None if decays is None else checkpoint(_triangle, q, k, decays, use_reentrant=False)
        y = checkpoint(_delta_rule, q, k, v, inverse, decays, scores, use_reentrant=False)
        y = y.view(shape[0], -1, model.linear_heads, _CHUNK_TOKENS, model.linear_head).transpose(2, 3)
        y = y.reshape(shape[0], -1, model.linear_widths[1])[:, : shape[1]]
        out: torch.Tensor = self.out(checkpoint(self._gate, y, gate, use_reentrant=False))
        return out

    def _prepare(self, mixed: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return normalised queries and keys, and values: (batch x chunks x heads, tokens of a chunk, width)."""
        model = self.model
        keys, values = model.linear_widths
        mixed = functional.silu(convolve(self.convolution, mixed))
        q, k, v = torch.split(mixed, [keys, keys, values], dim=-1)
        heads_per_key = model.linear_heads // model.linear_key_heads
        if heads_per_key > 1:
            q, k = (
                _by_heads(t, model.linear_head).repeat_interleave(heads_per_key, dim=2).flatten(2)
                for t in (q, k)
            )
        q, k, v = (self._whole_chunks(t) for t in (q, k, v))
        q, k = (functional.rms_norm(t, t.shape[-1:]) for t in (q, k))
        return q, k, v

    def _whole_chunks(self, x: torch.Tensor) -> torch.Tensor:
        missing = -x.shape[1] % _CHUNK_TOKENS
        x = functional.pad(x, (0, 0, 0, missing)) if missing else x
        return in_chunks(x, self.model.linear_heads, _CHUNK_TOKENS)

    def _gate(self, y: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
        heads = _by_heads(y, self.model.linear_head)
        return (functional.rms_norm(heads, heads.shape[-1:]) * self.weight).flatten(-2) * functional.silu(
            gate
        )


def _by_heads(x: torch.Tensor, width: int) -> torch.Tensor:
    """Return (..., channels) as (..., heads, width)."""
    return x.view(*x.shape[:-1], -1, width)


def _apply_decays(x: torch.Tensor, decays: torch.Tensor | None) -> torch.Tensor:
    """Return keys or queries with the decays that their channels gathered in the chunk, in fp32 until then."""
    return x if decays is None else x * functional.softplus(decays.float()).cumsum(dim=1).to(x.dtype)


def _triangle(left: torch.Tensor, keys: torch.Tensor, decays: torch.Tensor | None) -> torch.Tensor:
    """Return the products of a chunk's tokens with the keys of the same and earlier tokens."""
    return torch.tril(_apply_decays(left, decays) @ _apply_decays(keys, decays).transpose(-1, -2))


def _delta_rule(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, inverse: torch.Tensor,
    decays: torch.Tensor | None, scores: torch.Tensor | None,
) -> torch.Tensor:  # fmt: skip
    """Return the output of each chunk: the work of all chunks at once, as if no state depended on another."""
    if scores is None:
        scores = _triangle(q, k, None)
    else:
        q, k = _apply_decays(q, decays), _apply_decays(k, decays)
    reads, writes = inverse @ k, inverse @ v
    states = k.transpose(-1, -2) @ writes
    fresh = writes - reads @ states
    # Last, what the kernels keep: the sum is not computed again in backward.
    return torch.baddbmm(scores @ fresh, q, states)


class GatedAttention(nn.Module):
    """Attention whose output has a gate as wide as its queries (Qwen3-Next)."""

    def __init__(self, step: DecoderStep, model: Hybrid) -> None:
        super().__init__()
        frozen, rank = step.method != "full", step.rank if step.method in ("lora", "qlora") else 0
        self.model = model
        self.widths = [model.head * n for n in (model.heads, model.heads, model.kv_heads, model.kv_heads)]
        self.into = Linear(model.hidden, sum(self.widths), rank, frozen=frozen)
        self.out = Linear(model.head * model.heads, model.hidden, rank, frozen=frozen)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Mix (batch, tokens, hidden)."""
        model = self.model
        gate, *parts = torch.split(self.into(x), self.widths, dim=-1)
        q, k, v = (_by_heads(part, model.head).transpose(1, 2) for part in parts)
        y = functional.scaled_dot_product_attention(
            rotate(q), rotate(k), v, is_causal=True, enable_gqa=model.kv_heads != model.heads
        )
        out: torch.Tensor = self.out(y.transpose(1, 2).flatten(2) * torch.sigmoid(gate))
        return out


class LatentAttention(nn.Module):
    """Latent attention whose queries are not compressed (Kimi Linear), with the shared part of the keys unrotated."""

    def __init__(self, step: DecoderStep, model: Hybrid) -> None:
        super().__init__()
        frozen, rank = step.method != "full", step.rank if step.method in ("lora", "qlora") else 0
        self.model = model
        self.widths = [model.heads * (model.head + ROTARY), model.kv_latent, ROTARY]
        self.into = Linear(model.hidden, sum(self.widths), rank, frozen=frozen)
        self.pairs = Linear(model.kv_latent, 2 * model.head * model.heads, rank, frozen=frozen)
        self.out = Linear(model.head * model.heads, model.hidden, rank, frozen=frozen)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Mix (batch, tokens, hidden)."""
        model = self.model
        q, latent, shared = torch.split(self.into(x), self.widths, dim=-1)
        q = _by_heads(q, model.head + ROTARY).transpose(1, 2)
        pairs = self.pairs(functional.rms_norm(latent, latent.shape[-1:]))
        k, v = _by_heads(pairs, 2 * model.head).transpose(1, 2).chunk(2, dim=-1)
        k = torch.cat((k, shared[:, None].expand(-1, model.heads, -1, -1)), dim=-1)
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        out: torch.Tensor = self.out(y.transpose(1, 2).flatten(2))
        return out
