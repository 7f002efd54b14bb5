"""
A linear layer whose frozen weight is packed in 4 bits, for the trace of QLoRA. It has the traffic and the operations of
bitsandbytes' kernels, and needs neither bitsandbytes nor a GPU.

    weight 0.5 byte a scalar, one 8-bit scale a block of 64, one fp32 a 256 scales: 0.516 byte (double quantisation)

Forward and backward each unpack the weight to the compute type and multiply; nothing unpacked is kept between
them (T. Dettmers et al., "QLoRA", arXiv:2305.14314; bitsandbytes' MatMul4Bit).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

BLOCK = 64
"""Weights that share one 8-bit scale, as in bitsandbytes' NF4."""
SCALES_A_GROUP = 256
"""Scales that share one fp32 scale (double quantisation)."""


def _unpack(packed: Tensor, scales: Tensor, rows: int, columns: int, like: Tensor) -> Tensor:
    """Return the weight: two a byte in `packed`, one scale a block of 64, in the dtype of `like`."""
    high, low = (packed >> 4).to(like.dtype), (packed & 15).to(like.dtype)
    levels = torch.stack((high, low), dim=-1).flatten()[: rows * columns] / 7.5 - 1
    scale_of_value = scales.to(like.dtype).repeat_interleave(BLOCK)[: rows * columns]
    weight: Tensor = (levels * scale_of_value).view(rows, columns)
    return weight


def _make_unpacked(packed: Tensor, scales: Tensor, rows: int, columns: int, like: Tensor) -> Tensor:
    del scales
    return packed.new_empty((rows, columns), dtype=like.dtype)


_operator: Any = torch.library.custom_op("trainfare::unpack_4bit", _unpack, mutates_args=())
_operator.register_fake(_make_unpacked)
unpack = cast("Callable[[Tensor, Tensor, int, int, Tensor], Tensor]", _operator)
"""Kernel that unpacks a weight: reads 0.516 byte a scalar and writes the compute type."""


class _Product(torch.autograd.Function):
    """x @ weight.T, with the weight unpacked in forward and again in backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, packed: Tensor, scales: Tensor, rows: int, columns: int) -> Tensor:
        """Multiply."""
        ctx.save_for_backward(packed, scales)
        ctx.shape = (rows, columns)
        return x @ unpack(packed, scales, rows, columns, x).t()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None, None]:
        """Return the gradient of x; the weight is frozen."""
        packed, scales = ctx.saved_tensors
        rows, columns = cast("tuple[int, int]", ctx.shape)
        return grads[0] @ unpack(packed, scales, rows, columns, grads[0]), None, None, None, None


class FourBitLinear(nn.Linear):
    """
    Replacement of a frozen `nn.Linear`, with the shape of its weight but not its values.

    Args:
        layer: the layer to replace.
        compute_dtype: of its products; None takes the input's.
        twice: the scales are quantized too; else each is fp32.
    """

    def __init__(
        self, layer: nn.Linear, compute_dtype: torch.dtype | None = None, *, twice: bool = True
    ) -> None:
        nn.Module.__init__(self)
        self.compute_dtype = compute_dtype
        self.in_features, self.out_features = layer.in_features, layer.out_features
        count = layer.in_features * layer.out_features
        device = layer.weight.device
        blocks = -(-count // BLOCK)
        self.weight = nn.Parameter(
            torch.zeros(-(-count // 2), dtype=torch.uint8, device=device), requires_grad=False
        )
        scales = torch.zeros(blocks, dtype=torch.uint8 if twice else torch.float32, device=device)
        self.scales = nn.Parameter(scales, requires_grad=False)
        groups = -(-blocks // SCALES_A_GROUP) if twice else 0
        self.group_scales = nn.Parameter(torch.zeros(groups, device=device), requires_grad=False)
        self.bias = layer.bias

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - nn.Linear's own name for it
        """Map (..., in_features) to (..., out_features)."""
        x = input if self.compute_dtype is None else input.to(self.compute_dtype)
        apply = cast("Callable[..., Tensor]", cast("Any", _Product).apply)
        product = apply(x, self.weight, self.scales, self.out_features, self.in_features)
        bias = cast("Tensor | None", self.bias)
        return product if bias is None else product + bias.to(product.dtype)
