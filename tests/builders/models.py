"""Small and large models for tests, written out so that their FLOPs can be checked by hand."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F


class SmallCnn(nn.Module):
    """Convolution, batch norm, pooling, dropout and a linear head; 8 x 8 images, ten classes."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.second = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1, groups=2)
        self.drop = nn.Dropout(0.25)
        self.head = nn.Linear(2 * width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.norm(self.first(x)))
        x = F.max_pool2d(F.silu(self.second(x)), 2)
        return self.head(self.drop(x.mean((2, 3))))


class Attention(nn.Module):
    """Causal self-attention in two implementations: fused (`sdpa`) and written out (`eager`)."""

    def __init__(self, width: int, heads: int, kv_heads: int, *, bias: bool, how: str, rotary: bool) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_dim, self.how, self.rotary = (
            heads,
            kv_heads,
            width // heads,
            how,
            rotary,
        )
        self.query = nn.Linear(width, width, bias=bias)
        self.key = nn.Linear(width, kv_heads * self.head_dim, bias=bias)
        self.value = nn.Linear(width, kv_heads * self.head_dim, bias=bias)
        self.out = nn.Linear(width, width, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, width = x.shape
        q = self.query(x).view(batch, length, self.heads, self.head_dim).transpose(1, 2)
        k = self.key(x).view(batch, length, self.kv_heads, self.head_dim).transpose(1, 2)
        v = self.value(x).view(batch, length, self.kv_heads, self.head_dim).transpose(1, 2)
        if self.rotary:
            q, k = _rotate_half(q), _rotate_half(k)
        if self.how == "sdpa":
            shared = {} if self.kv_heads == self.heads else {"enable_gqa": True}
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True, **shared)
        else:
            mask = torch.ones(length, length, dtype=torch.bool, device=x.device).triu(1)
            scores = (q @ k.transpose(-2, -1) / math.sqrt(self.head_dim)).masked_fill(mask, float("-inf"))
            y = F.softmax(scores, dim=-1) @ v
        return self.out(y.transpose(1, 2).reshape(batch, length, width))


def _rotate_half(x: torch.Tensor) -> torch.Tensor:
    length, half = x.shape[-2], x.shape[-1] // 2
    angles = torch.arange(length, device=x.device)[:, None] / 10_000 ** (
        torch.arange(half, device=x.device) / half
    )
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    first, second = x[..., :half], x[..., half:]
    return torch.cat((first * cos - second * sin, first * sin + second * cos), dim=-1)


class Gpt2Block(nn.Module):
    def __init__(self, width: int, heads: int, how: str) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads, heads, bias=True, how=how, rotary=False)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.norm_1(x))
        return x + self.down(F.gelu(self.up(self.norm_2(x)), approximate="tanh"))


class Gpt2(nn.Module):
    """GPT-2, by default of 124M parameters. The head shares the token embedding."""

    def __init__(
        self, layers: int = 12, width: int = 768, heads: int = 12, vocabulary: int = 50_257, context: int = 1024,
        how: str = "sdpa",
    ) -> None:  # fmt: skip
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
        self.blocks = nn.ModuleList(Gpt2Block(width, heads, how) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.tokens(ids) + self.positions(torch.arange(ids.shape[1], device=ids.device))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


class LlamaBlock(nn.Module):
    def __init__(self, width: int, hidden: int, heads: int, kv_heads: int, how: str) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = nn.RMSNorm(width), nn.RMSNorm(width)
        self.attention = Attention(width, heads, kv_heads, bias=False, how=how, rotary=True)
        self.gate, self.up = nn.Linear(width, hidden, bias=False), nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.norm_1(x))
        y = self.norm_2(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


class Llama(nn.Module):
    """A Llama-like decoder, by default of 7B parameters. `checkpointed` recomputes each block in backward."""

    def __init__(
        self, layers: int = 32, width: int = 4096, hidden: int = 11_008, heads: int = 32, kv_heads: int | None = None,
        vocabulary: int = 32_000, how: str = "sdpa", checkpointed: str = "",
    ) -> None:  # fmt: skip
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.blocks = nn.ModuleList(
            LlamaBlock(width, hidden, heads, kv_heads or heads, how) for _ in range(layers)
        )
        self.norm, self.head = nn.RMSNorm(width), nn.Linear(width, vocabulary, bias=False)
        self.checkpointed = checkpointed

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.tokens(ids)
        for block in self.blocks:
            if self.checkpointed:
                reentrant = self.checkpointed == "reentrant"
                x = torch.utils.checkpoint.checkpoint(block, x, use_reentrant=reentrant)
            else:
                x = block(x)
        return self.head(self.norm(x))


class SmallLstm(nn.Module):
    """One LSTM of 64 features and 128 units, and a head."""

    def __init__(self, width: int = 64, hidden: int = 128, layers: int = 1, *, both: bool = False) -> None:
        super().__init__()
        self.recurrent = nn.LSTM(width, hidden, layers, batch_first=True, bidirectional=both)
        self.head = nn.Linear(hidden * (2 if both else 1), 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.recurrent(x)[0][:, -1])


class LoraLinear(nn.Module):
    """A frozen linear layer plus a trainable update of low rank."""

    def __init__(self, inputs: int, outputs: int, rank: int) -> None:
        super().__init__()
        self.frozen = nn.Linear(inputs, outputs, bias=False)
        self.frozen.weight.requires_grad_(False)
        self.down, self.up = nn.Linear(inputs, rank, bias=False), nn.Linear(rank, outputs, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.frozen(x) + self.up(self.down(x))
