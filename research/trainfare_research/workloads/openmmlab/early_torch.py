"""
What PyTorch kept for backward when the networks of OpenMMLab's zoos were trained, mostly from 2020 to the end of 2021.

- `softmax` and `log_softmax` kept their input beside their output until PyTorch 1.11 (pytorch/pytorch, issue 64000).
- Group normalisation was a batch normalisation of groups and a product with the weights, each of which kept its input,
  until PyTorch 1.5 (`aten/src/ATen/native/Normalization.cpp`); the zoo's networks with it everywhere are of early 2020.
- Attention was computed from the matrix of its scores.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional


class _Keeping(torch.autograd.Function):
    """Returns its first argument and keeps its second one until backward."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(kept)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        del ctx
        return grad, None


def _keeping(x: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    apply: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = _Keeping.apply
    return apply(x, kept)


class KeptScores(nn.Module):
    """Stands behind a softmax, and keeps as much as its input."""

    def forward(self, chances: torch.Tensor) -> torch.Tensor:
        return _keeping(chances, torch.zeros_like(chances))


def keeping_scores(body: nn.Module) -> nn.Module:
    """Return a network of timm whose attention keeps its scores before and after their softmax."""
    parts: list[Any] = [part for part in body.modules() if hasattr(part, "fused_attn")]
    for part in parts:
        part.fused_attn, part.attn_drop = False, KeptScores()
    return body


def pixel_loss(scores: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """Return the loss of every pixel at the size of the images, which keeps its scores."""
    whole = functional.interpolate(scores, size=images.shape[-2:], mode="bilinear")
    labels = torch.zeros(len(images), *images.shape[-2:], dtype=torch.long, device=images.device)
    return functional.cross_entropy(_keeping(whole, whole), labels)


class UnfusedGroupNorm(nn.GroupNorm):
    """Group normalisation of 32 groups in two steps."""

    def __init__(self, wide: int) -> None:
        super().__init__(32, wide)

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - torch's name
        groups = input.reshape(1, len(input) * self.num_groups, -1)
        even = functional.batch_norm(groups, None, None, training=True, eps=self.eps).view_as(input)
        shape = (1, -1, *(1,) * (input.dim() - 2))
        return torch.addcmul(self.bias.view(shape), even, self.weight.view(shape))
