"""Sizes of a decoder whose blocks each hold one mixer, and what its mixers share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import nn

from trainfare_research.workloads.language.decoder import Decoder, DecoderStep

ROTARY: Final = 64
"""Scalars of the key that all heads of latent attention share (DeepSeek-V2; Kimi Linear has them without rotation)."""
_KINDS = ("state", "linear", "convolution", "attention", "dense", "expert")


@dataclass(frozen=True)
class Hybrid(Decoder):
    """
    A decoder of blocks with one mixer each, from its published configuration; `layers` is the number of all blocks.

    Attributes:
        state_blocks, linear_blocks, convolution_blocks, attention_blocks, dense_blocks, expert_blocks: how many of each
            kind.
        state_heads, state_head: heads of a state-space block, and the width of one.
        state: values that a head keeps for each of its channels.
        groups: of heads that share keys and queries.
        linear_heads, linear_key_heads, linear_head: heads of linear attention, those of its keys and queries, which
            groups of heads share, and the width of one.
        decay_rank: width between the two matrices that give each channel of linear attention its own decay, and
            between those that give its output gate (Kimi); 0: one decay a head, and one matrix for the gate (Qwen).
        gated_attention: whether attention's output has a gate as wide as its queries.
        kernel: tokens of the depthwise convolution.
        expert_latent: width to which tokens are narrowed before they reach the routed experts; 0: they are not.
        further: tokens after the next that one more attention and expert block, run again for each, predicts.
    """

    state_blocks: int = 0
    linear_blocks: int = 0
    convolution_blocks: int = 0
    attention_blocks: int = 0
    dense_blocks: int = 0
    expert_blocks: int = 0
    state_heads: int = 0
    state_head: int = 0
    state: int = 0
    groups: int = 0
    linear_heads: int = 0
    linear_key_heads: int = 0
    linear_head: int = 0
    decay_rank: int = 0
    gated_attention: bool = False
    kernel: int = 0
    expert_latent: int = 0
    further: int = 0

    @property
    def inner(self) -> int:
        """Width of a state-space block."""
        return self.state_heads * self.state_head

    @property
    def mixed(self) -> int:
        """Channels of its convolution: values, keys and queries."""
        return self.inner + 2 * self.groups * self.state

    @property
    def linear_widths(self) -> tuple[int, int]:
        """Width of the keys of linear attention, which its queries have too, and that of its values."""
        return self.linear_key_heads * self.linear_head, self.linear_heads * self.linear_head

    @property
    def blocks(self) -> tuple[str, ...]:
        """Kind of each block; their order decides neither time nor memory."""
        counts = {kind: int(getattr(self, f"{kind}_blocks")) for kind in _KINDS}
        return tuple(kind for kind, count in counts.items() for _ in range(count))

    @property
    def parameters(self) -> int:
        """Number of weights of all matrices and embeddings, without norms and biases."""
        three = 3 if self.gated else 2
        narrow = self.expert_latent or self.hidden
        experts = three * (self.experts * self.expert_ffn * narrow + self.shared_ffn * self.hidden)
        experts += self.hidden * self.experts + 2 * self.hidden * self.expert_latent
        attention = self._attention_weights
        extra = attention + experts + 2 * self.hidden**2 if self.further else 0
        return (
            self.state_blocks * self.hidden * (2 * self.inner + self.mixed + self.state_heads)
            + self.linear_blocks * self._linear_weights
            + self.convolution_blocks * 4 * self.hidden**2
            + self.attention_blocks * attention
            + self.dense_blocks * three * self.hidden * self.ffn
            + self.expert_blocks * experts
            + self.hidden * self.vocabulary * (1 if self.tied else 2)
            + extra
        )

    @property
    def active_parameters(self) -> int:
        """Number of those weights that process a token: of all but the experts that it is not sent to."""
        idle = (self.experts - self.active) * (3 if self.gated else 2) * self.expert_ffn
        return self.parameters - self.expert_blocks * idle * (self.expert_latent or self.hidden)

    @property
    def _attention_weights(self) -> int:
        """Number of weights of one attention block."""
        if self.kv_latent:
            wide = self.heads * self.head
            queries, low = wide + self.heads * ROTARY, self.kv_latent + ROTARY
            return self.hidden * (queries + low + wide) + self.kv_latent * 2 * wide
        queries = self.heads * (3 if self.gated_attention else 2)
        return self.hidden * self.head * (queries + 2 * self.kv_heads)

    @property
    def _linear_weights(self) -> int:
        """Number of weights of one block of linear attention."""
        keys, values = self.linear_widths
        if self.decay_rank:
            pairs = 2 * self.decay_rank * (self.hidden + values)
            return self.hidden * (2 * keys + 2 * values + self.linear_heads) + pairs
        return self.hidden * (2 * keys + 3 * values + 2 * self.linear_heads)


def depthwise(channels: int, kernel: int) -> nn.Conv1d:
    """Return a causal convolution of each channel over `kernel` tokens, for `convolve`."""
    return nn.Conv1d(channels, channels, kernel, groups=channels, padding=kernel - 1, bias=False)


def convolve(convolution: nn.Conv1d, x: torch.Tensor) -> torch.Tensor:
    """Return a causal convolution of (batch, tokens, channels)."""
    y: torch.Tensor = convolution(x.transpose(1, 2))
    return y[..., : x.shape[1]].transpose(1, 2)


def in_chunks(x: torch.Tensor, groups: int, tokens: int) -> torch.Tensor:
    """
    Return (batch, tokens, channels) as (batch x chunks x groups, tokens of a chunk, channels of a group).

    Args:
        x: its number of tokens is a multiple of `tokens`.
        groups: of channels, e.g. heads.
        tokens: of one chunk.
    """
    x = x.view(len(x), -1, tokens, groups, x.shape[-1] // groups).transpose(2, 3)
    return x.reshape(-1, tokens, x.shape[-1])


def adapter_rank(step: DecoderStep) -> int:
    """Return the rank of LoRA's matrices beside those of attention; 0: there are none."""
    return step.rank if step.method in ("lora", "qlora") and step.lora_everywhere else 0
