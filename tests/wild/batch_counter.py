"""A counter of FLOPs beside the product's: torch's formulas, and a few that torch lacks."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count

_aten: Any = torch.ops.aten
BLIND = ("rnn_layer", "_sparse", "_trilinear")
"""Parts of names of operations whose work the product counts and this file does not; with one of them the ratio may be above
1. Decompositions of matrices (Cholesky, QR, eigenvalues) are counted by neither."""


def _count_products(first: Any, second: Any) -> int:
    columns = second.shape[-1] if second.dim() > 1 else 1
    return 2 * first.numel() * int(columns)


def _count_convolution_backward(args: Any) -> int:
    """Return the work of both gradients; torch's formula multiplies that of a grouped one by the groups."""
    gradient, source, weight, transposed, wanted = args[0], args[1], args[2], args[7], args[10]
    positions = math.prod((source if transposed else gradient).shape[2:]) * gradient.shape[0]
    return (int(wanted[0]) + int(wanted[1])) * 2 * positions * weight.numel()


def _count_transform(source: Any, axes: Any, out: Any) -> int:
    """Return 5 N log2 N of a complex Fourier transform of N numbers, and half of it where one side is real."""
    longer = source if source.numel() > out.numel() else out
    length = math.prod(longer.shape[axis] for axis in axes)
    half = 1 if source.is_complex() and out.is_complex() else 2
    return int(5 * longer.numel() * math.log2(max(length, 2)) / half)


_MORE: dict[Any, Any] = {
    **dict.fromkeys(
        (_aten._fft_c2c, _aten._fft_r2c, _aten._fft_c2r),
        lambda args, out: _count_transform(args[0], args[1], out),
    ),
    _aten.linalg_solve_triangular: lambda args, out: out.numel() * int(args[0].shape[-1]),
    _aten._cdist_forward: lambda args, _: 3 * args[0].numel() * int(args[1].shape[-2]),
    _aten._cdist_backward: lambda args, _: 5 * args[1].numel() * int(args[2].shape[-2]),
    _aten.mv: lambda args, _: _count_products(args[0], args[1]),
    _aten.dot: lambda args, _: _count_products(args[0], args[1]),
    _aten.vdot: lambda args, _: _count_products(args[0], args[1]),
    _aten.addmv: lambda args, _: _count_products(args[1], args[2]),
    _aten.addmv_: lambda args, _: _count_products(args[1], args[2]),
    _aten.addmm_: lambda args, _: _count_products(args[1], args[2]),
    _aten.convolution_backward: lambda args, _: _count_convolution_backward(args),
    _aten._scaled_dot_product_flash_attention_for_cpu: lambda args, _: sdpa_flop_count(
        *(tensor.shape for tensor in args[:3])
    ),
    _aten._scaled_dot_product_flash_attention_for_cpu_backward: lambda args, _: sdpa_backward_flop_count(
        *(tensor.shape for tensor in args[:4])
    ),
}


class BatchCounter:
    """The FLOPs of each training batch, and the operations with work that has no formula here."""

    def __init__(self) -> None:
        self.blind: set[str] = set()
        self.flops = 0
        self._batches: list[int] = []
        self._mode: _CountingMode | None = None

    def open_batch(self) -> None:
        """Start to count a batch; one that was skipped is dropped."""
        if self._mode is not None:
            self._mode.__exit__(None, None, None)
        self.flops, self._mode = 0, _CountingMode(self)
        self._mode.__enter__()

    def close_batch(self) -> None:
        """Keep the FLOPs of a batch."""
        if self._mode is not None:
            self._mode.__exit__(None, None, None)
            self._mode = None
            self._batches.append(self.flops)

    def take_batches(self) -> list[int]:
        """Return the FLOPs of the batches so far and forget them."""
        batches, self._batches = self._batches, []
        return batches

    def add(self, packet: Any, args: Any, kwargs: Any, out: Any) -> None:
        """Count one operation."""
        if packet in _MORE:
            self.flops += int(_MORE[packet](args, out))
        elif packet in flop_registry:
            self.flops += int(flop_registry[packet](*args, **kwargs, out_val=out))
        elif any(part in str(packet) for part in BLIND):
            self.blind.add(str(packet).removeprefix("aten."))


class _CountingMode(TorchDispatchMode):
    def __init__(self, counter: BatchCounter) -> None:
        super().__init__()
        self._counter = counter

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self._counter.add(getattr(func, "_overloadpacket", func), args, kwargs or {}, out)
        return out
