"""The shape of an operation, with the axes of `SHAPE_AXES`, from the arguments that torch dispatched."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

import torch

from trainfare_core.job_profile import OperationKind


def operation_shape(kind: OperationKind, name: str, args: Sequence[Any], out: Any) -> tuple[int, ...]:
    """
    Return the shape of an operation, with the axes of `SHAPE_AXES`.

    Args:
        kind: of the operation.
        name: without its namespace.
        args: as dispatched.
        out: the result.

    Returns:
        The axes of the kind. For other kinds, and for arguments of an unexpected form, the number of elements of
        the largest tensor.
    """
    shaper = _SHAPERS.get(kind)
    try:
        shape = None if shaper is None else shaper(name, args, out)
    except (IndexError, TypeError, AttributeError, ValueError):
        shape = None
    if shape is None:
        shape = (largest((args, out)),)
    return tuple(int(size) for size in shape)


def largest(value: Any) -> int:
    """Return the number of elements of the largest tensor inside nested sequences."""
    if isinstance(value, torch.Tensor):
        return int(value.numel())
    if isinstance(value, (list, tuple)):
        return max((largest(item) for item in cast("Any", value)), default=0)
    return 0


def _matmul_shape(name: str, args: Sequence[Any], out: Any) -> tuple[int, ...] | None:
    if "triangular" in name:
        solution, size = (
            (out, args[0].shape[-1]) if isinstance(out, torch.Tensor) else (out[0], args[1].shape[-1])
        )
        return math.prod(solution.shape[:-2]), size, solution.shape[-2] * solution.shape[-1] // size, size
    adds = name.startswith(("addmm", "baddbmm", "addbmm", "addmv", "_addmm", "_sparse_addmm", "sspaddmm"))
    if name in ("addr", "ger"):
        return 1, args[-2].numel(), args[-1].numel(), 1
    if name in ("_trilinear", "_weight_int4pack_mm", "_weight_int4pack_mm_for_cpu", "_dyn_quant_matmul_4bit"):
        return 1, out.numel() // out.shape[-1], out.shape[-1], args[0].shape[-1]
    left, right = args[1:3] if adds else args[:2]
    if name.startswith("_cdist"):
        left, right = (args[1], args[2]) if name.endswith("backward") else (left, right)
        return math.prod(left.shape[:-2]), left.shape[-2], right.shape[-2], left.shape[-1]
    if name in ("linear", "_weight_int8pack_mm") or (name == "matmul" and right.dim() == 2):
        return 1, left.numel() // left.shape[-1], out.shape[-1], left.shape[-1]
    if left.dim() == 3:
        return left.shape[0], left.shape[1], right.shape[-1], left.shape[2]
    rows = left.shape[0] if left.dim() == 2 else 1
    return 1, rows, right.shape[-1] if right.dim() == 2 else 1, left.shape[-1]


def _get_grouped_shape(_name: str, args: Sequence[Any], _out: Any) -> tuple[int, ...]:
    """Return (groups, m over all groups, n, k), so that 2 m n k are the FLOPs whichever operand is ragged."""
    left, right = args[0], args[1]
    offsets = next((a for a in args[2:] if isinstance(a, torch.Tensor) and a.dtype == torch.int32), None)
    groups = offsets.numel() if offsets is not None else left.shape[0]
    if left.dim() == 3:
        columns = right.shape[-1] if right.dim() == 3 else right.shape[-1] // groups
        return groups, groups * left.shape[1], columns, left.shape[2]
    if right.dim() == 3:
        return right.shape[0], left.shape[0], right.shape[-1], left.shape[1]
    return groups, left.shape[0] * groups, right.shape[-1], left.shape[1] // groups


def _attention_shape(name: str, args: Sequence[Any], _out: Any) -> tuple[int, ...] | None:
    if name in ("_native_multi_head_attention", "_transformer_encoder_layer_fwd"):
        source, key = args[0], args[1] if isinstance(args[1], torch.Tensor) else args[0]
        width, heads = (args[3], args[4]) if name.startswith("_native") else (args[1], args[2])
        return source.shape[0], heads, heads, source.shape[1], key.shape[1], width // heads, 0
    query, key = (args[1], args[2]) if name.endswith("backward") else (args[0], args[1])
    heads, length, causal = 1, 2, any(a is True for a in args)
    if name.startswith(("_flash_attention", "_efficient_attention")):
        heads, length, causal = -2, 1, False
    return (
        query.shape[0], query.shape[heads], key.shape[heads], query.shape[length], key.shape[length],
        query.shape[-1], int(causal),
    )  # fmt: skip


def _convolution_shape(name: str, args: Sequence[Any], out: Any) -> tuple[int, ...] | None:
    if name == "convolution_backward":
        return None
    return convolution_shape(args[0], args[1], out, args[3], groups=int(args[8]), transposed=bool(args[6]))


def convolution_shape(
    source: Any, weight: Any, out: Any, stride: Sequence[int], *, groups: int, transposed: bool = False
) -> tuple[int, ...]:
    """
    Return the axes of a convolution (`SHAPE_AXES`); of a transposed one, those of the convolution it inverts.

    Args:
        source: (batch, c_in, *space).
        weight: (c_out, c_in / groups, *kernel); of a transposed convolution (c_in, c_out / groups, *kernel).
        out: (batch, c_out, *space).
        stride: one figure per dimension or one for all.
        groups: of channels.
        transposed: whether it is a transposed convolution.
    """
    big, small = (out, source) if transposed else (source, out)
    space = list(small.shape[2:])
    kernel = list(weight.shape[2:])
    pad = [1] * (3 - len(kernel))
    strides = list(stride) or [1]
    channels_last = len(kernel) == 2 and (
        (source.is_contiguous(memory_format=torch.channels_last) and not source.is_contiguous())
        or (weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous())
    )
    return (
        source.shape[0], big.shape[1], small.shape[1], groups,
        *pad, *kernel, *pad, *space, max(strides), int(channels_last),
    )  # fmt: skip


def _softmax_shape(name: str, args: Sequence[Any], _out: Any) -> tuple[int, ...]:
    source = args[0]
    dim = args[2] if name.endswith("backward_data") else args[1]
    columns = source.shape[dim if isinstance(dim, int) else -1] if source.dim() else 1
    return source.numel() // max(columns, 1), columns


def _normalization_shape(name: str, args: Sequence[Any], _out: Any) -> tuple[int, ...] | None:
    source = args[1] if name.endswith("_backward") and name != "cudnn_batch_norm_backward" else args[0]
    if "layer_norm" in name or "rms_norm" in name:
        normalized = args[2] if name.endswith("_backward") else args[1]
        columns = math.prod(normalized)
        return source.numel() // max(columns, 1), columns
    if "group_norm" in name:
        groups = args[7] if name.endswith("_backward") else args[6]
        rows = source.shape[0] * groups
        return rows, source.numel() // max(rows, 1)
    if "batch_norm" in name:
        columns = source.shape[1]
        return source.numel() // max(columns, 1), columns
    return None


def _recurrent_shape(name: str, args: Sequence[Any], _out: Any) -> tuple[int, ...] | None:
    source = args[0]
    if name == "mkldnn_rnn_layer":
        steps, batch = source.shape[0], source.shape[1]
        return batch, steps, source.shape[2], args[10], 1, 1
    if name not in ("_cudnn_rnn", "_cudnn_rnn_backward") or source.dim() != 3:
        return None
    shift = 4 if name.endswith("backward") else 0
    hidden, layers, batch_first, both = (args[shift + position] for position in (7, 9, 10, 13))
    steps, batch = (source.shape[1], source.shape[0]) if batch_first else source.shape[:2]
    return batch, steps, source.shape[2], hidden, layers, 2 if both else 1


_SHAPERS: Final[dict[OperationKind, Callable[[str, Sequence[Any], Any], tuple[int, ...] | None]]] = {
    "matmul": _matmul_shape,
    "grouped_matmul": _get_grouped_shape,
    "attention": _attention_shape,
    "convolution": _convolution_shape,
    "softmax": _softmax_shape,
    "normalization": _normalization_shape,
    "recurrent": _recurrent_shape,
}
"""The function of each kind; it returns None, or raises one of four exceptions, for arguments of another form."""
