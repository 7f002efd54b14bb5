"""
FLOPs of one operation: torch's formulas, and our own where torch counts zero or counts wrong.

One multiply-add is two FLOPs. Matrix-like work is counted. Elementwise work, normalisation, softmax and reductions
count zero FLOPs, as in `torch.utils.flop_counter`, because memory bandwidth decides their time. Attention under a
causal mask is not halved, as in `torch.utils.flop_counter`.

To add an operation, write its formula here and add it to `_OWN`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils.flop_counter import flop_registry

RECURRENT_GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}
"""Matrix rows per hidden unit of one recurrent layer, by torch's name of the layer."""

_CUDNN_MODES = {0: 1, 1: 1, 2: 4, 3: 3}
"""The same by cuDNN's number of the layer type (`cudnnRNNMode_t`): ReLU, tanh, LSTM, GRU."""

_Formula = Callable[[Sequence[Any], Any], int]
"""Returns the FLOPs of an operation from its arguments and its result."""


def operation_flops(packet: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> int | None:
    """
    Return the FLOPs of one call of an aten operation.

    Args:
        packet: the `OpOverloadPacket`, e.g. `torch.ops.aten.mm`, or a higher-order operator.
        args: as dispatched.
        kwargs: as dispatched.
        out: the result.

    Returns:
        The FLOPs, or None where neither torch nor this file has a formula.
    """
    name = str(getattr(packet, "__name__", packet))
    aten = str(getattr(packet, "_qualified_op_name", "")).startswith("aten::")
    if aten and name in _OWN:
        return _OWN[name](args, out)
    formula = flop_registry.get(packet)
    if formula is not None:
        return int(formula(*args, **kwargs, out_val=out))
    return _HIGHER_ORDER[name](args, out) if name in _HIGHER_ORDER else None


def attention_flops(
    query: Sequence[int], key: Sequence[int], value: Sequence[int], *, backward: bool = False
) -> int:
    """
    Return the FLOPs of scaled-dot-product attention; a causal mask is not halved.

    Forward is two products (scores, output). Backward of a fused kernel is five: scores again, and the gradients of
    value, scores, query and key (Dao et al. 2022, appendix B.4; `torch.utils.flop_counter`).

    Args:
        query: (..., heads, q_len, head_dim).
        key: (..., kv_heads, kv_len, head_dim).
        value: (..., kv_heads, kv_len, value_dim).
        backward: count the fused backward instead of the forward.
    """
    outer = math.prod(int(size) for size in query[:-2])
    pairs = 2 * outer * int(query[-2]) * int(key[-2])
    head_dim, value_dim = int(query[-1]), int(value[-1])
    return pairs * (3 * head_dim + 2 * value_dim) if backward else pairs * (head_dim + value_dim)


def recurrent_flops(
    rows: int, width: int, hidden: int, gates: int, layers: int = 1, directions: int = 1, projection: int = 0
) -> tuple[int, int]:
    """
    Return the FLOPs of a recurrent layer's matrix products: all of them, and those with the first layer's input.

    Args:
        rows: time steps times batch.
        width: features of the input.
        hidden: units of one direction.
        gates: 4 for LSTM, 3 for GRU, 1 for an Elman RNN.
        layers: stacked layers.
        directions: 2 where bidirectional.
        projection: LSTM's `proj_size`, 0 for none.
    """
    out = projection or hidden
    first = 2 * rows * gates * hidden * width * directions
    deeper = 2 * rows * gates * hidden * out * directions * directions * (layers - 1)
    recurrent = 2 * rows * gates * hidden * out * directions * layers
    projected = 2 * rows * hidden * projection * directions * layers
    return first + deeper + recurrent + projected, first


def convolution_flops(out_or_in: Sequence[int], weight: Sequence[int]) -> int:
    """
    Return the FLOPs of one convolution; its input gradient and its weight gradient have the same number.

    Args:
        out_or_in: shape of the output; of the input where the convolution is transposed.
        weight: shape (c_out, c_in / groups, *kernel).
    """
    positions = int(out_or_in[0]) * math.prod(int(size) for size in out_or_in[2:])
    return 2 * positions * math.prod(int(size) for size in weight)


def _count_product(left: int, right: int) -> _Formula:
    """Return the formula of a matrix product whose operands are the arguments at two positions."""

    def formula(args: Sequence[Any], _out: Any) -> int:
        columns = args[right].shape[-1] if args[right].dim() > 1 else 1
        return 2 * int(args[left].numel()) * int(columns)

    return formula


def _outer(args: Sequence[Any], _out: Any) -> int:
    return 2 * int(args[-2].numel()) * int(args[-1].numel())


def _count_packed_product(args: Sequence[Any], out: Any) -> int:
    return 2 * int(out.numel()) * int(args[0].shape[-1])


def _count_grouped_product(args: Sequence[Any], _out: Any) -> int:
    left, right = args[0], args[1]
    rows = int(left.numel())
    if left.dim() == 3 and right.dim() == 2:
        rows //= int(left.shape[0])
    return 2 * rows * int(right.shape[-1])


def _count_attention(query: int, *, backward: bool = False) -> _Formula:
    """Return the formula of attention with the query at a position, followed by key and value."""

    def formula(args: Sequence[Any], _out: Any) -> int:
        shapes = (tensor.shape for tensor in args[query : query + 3])
        return attention_flops(*shapes, backward=backward)

    return formula


def _native_multi_head(args: Sequence[Any], _out: Any) -> int:
    query, key, width = args[0], args[1], int(args[3])
    batch, q_len, kv_len = int(query.shape[0]), int(query.shape[1]), int(key.shape[1])
    projections = 2 * batch * width * width * (2 * q_len + 2 * kv_len)
    return projections + 4 * batch * q_len * kv_len * width


def _encoder_layer(args: Sequence[Any], _out: Any) -> int:
    source, width = args[0], int(args[1])
    batch, length = int(source.shape[0]), int(source.shape[1])
    feed_forward = [t for t in args[12:] if isinstance(t, torch.Tensor) and t.dim() == 2][:2]
    products = 4 * width * width + sum(int(weight.numel()) for weight in feed_forward)
    return 2 * batch * length * products + 4 * batch * length * length * width


def _trilinear(args: Sequence[Any], _out: Any) -> int:
    """Return the FLOPs of a contraction of three broadcast operands, done as two products."""
    shapes: list[list[int]] = []
    for tensor, expand in zip(args[:3], args[3:6], strict=True):
        shape = [int(size) for size in tensor.shape]
        for dim in sorted(int(d) for d in expand):
            shape.insert(dim, 1)
        shapes.append(shape)
    sizes: list[int] = [max(along) for along in zip(*shapes, strict=True)]
    first = math.prod([sizes[int(dim)] for dim in args[6] if shapes[2][int(dim)] == 1])
    whole = math.prod(sizes)
    return 2 * whole + 2 * whole // max(first, 1)


def _triangular(matrix: int) -> _Formula:
    """Return the formula of a triangular system (n x n) with some columns: n^2 FLOPs each, by substitution."""

    def formula(args: Sequence[Any], out: Any) -> int:
        solution = out if isinstance(out, torch.Tensor) else out[0]
        return int(solution.numel()) * int(args[matrix].shape[-1])

    return formula


def _sparse(left: int, right: int) -> _Formula:
    def formula(args: Sequence[Any], _out: Any) -> int:
        sparse = args[left]
        stored = int(sparse.numel()) if sparse.layout is torch.strided else int(sparse.values().numel())
        return 2 * stored * int(args[right].shape[-1])

    return formula


def _fourier(args: Sequence[Any], out: Any) -> int:
    """Return 5 N log2 N per complex transform, half of it per real one (Cooley and Tukey, radix 2)."""
    source, dims = args[0], args[1]
    wide = max((source, out), key=lambda tensor: int(tensor.numel()))
    length = math.prod(int(wide.shape[d]) for d in dims)
    scale = 5.0 if source.is_complex() and out.is_complex() else 2.5
    return int(scale * int(wide.numel()) * math.log2(max(length, 2)))


def _cudnn_rnn(mode: int, times: int) -> _Formula:
    """Return the formula of cuDNN's layer, `times` its forward; `mode` is the position of the layer type."""

    def formula(args: Sequence[Any], _out: Any) -> int:
        source, width = args[0], int(args[0].shape[-1])
        gates, hidden, projection = _CUDNN_MODES[int(args[mode])], int(args[mode + 1]), int(args[mode + 2])
        layers, directions = int(args[mode + 3]), 2 if args[mode + 7] else 1
        rows = int(source.numel()) // width
        return times * recurrent_flops(rows, width, hidden, gates, layers, directions, projection)[0]

    return formula


def _mkldnn_rnn(times: int) -> _Formula:
    """Return the formula of oneDNN's layer, `times` its forward."""

    def formula(args: Sequence[Any], _out: Any) -> int:
        rows = int(args[0].numel()) // int(args[0].shape[-1])
        return times * 2 * rows * sum(int(weight.numel()) for weight in args[1:3])

    return formula


def _pairwise(left: int, flops: int) -> _Formula:
    """Return the formula of so many FLOPs per feature and pair of rows of the arguments at `left` and after it."""

    def formula(args: Sequence[Any], _out: Any) -> int:
        return flops * int(args[left].numel()) * int(args[left + 1].shape[-2])

    return formula


# Formulas by the name of a higher-order operator.
_HIGHER_ORDER: dict[str, _Formula] = {
    "flex_attention": _count_attention(0),
    "flex_attention_backward": _count_attention(0, backward=True),
}

_FUSED_ATTENTION = (
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_cudnn_attention",
    "_scaled_dot_product_fused_attention_overrideable",
    "_scaled_dot_product_flash_attention_for_cpu",
)

# Formulas by the names of aten operations; they replace torch's.
_OWN: dict[str, _Formula] = {
    # torch 2.5 has no formula of `_scaled_mm`.
    **dict.fromkeys(("mv", "dot", "vdot", "_int_mm", "_scaled_mm", "_scaled_mm_v2"), _count_product(0, 1)),
    **dict.fromkeys(
        ("addmv", "addmv_", "addbmm", "addmm_", "baddbmm_", "_addmm_activation"), _count_product(1, 2)
    ),
    **dict.fromkeys(("addr", "ger"), _outer),
    **dict.fromkeys(
        ("linear", "matmul", "_weight_int8pack_mm", "_weight_int4pack_mm", "_weight_int4pack_mm_for_cpu",
         "_dyn_quant_matmul_4bit"),
        _count_packed_product,
    ),
    **dict.fromkeys(("_grouped_mm", "_scaled_grouped_mm", "_scaled_grouped_mm_v2"), _count_grouped_product),
    **dict.fromkeys(_FUSED_ATTENTION, _count_attention(0)),
    **dict.fromkeys((f"{name}_backward" for name in _FUSED_ATTENTION), _count_attention(1, backward=True)),
    "linalg_solve_triangular": _triangular(0),
    "triangular_solve": _triangular(1),
    "_native_multi_head_attention": _native_multi_head,
    "_transformer_encoder_layer_fwd": _encoder_layer,
    "_trilinear": _trilinear,
    **dict.fromkeys(("_sparse_addmm", "sspaddmm"), _sparse(1, 2)),
    **dict.fromkeys(("_sparse_mm", "hspmm"), _sparse(0, 1)),
    **dict.fromkeys(("_fft_c2c", "_fft_r2c", "_fft_c2r"), _fourier),
    "_cudnn_rnn": _cudnn_rnn(6, 1),
    "_cudnn_rnn_backward": _cudnn_rnn(10, 2),
    "mkldnn_rnn_layer": _mkldnn_rnn(1),
    "mkldnn_rnn_layer_backward": _mkldnn_rnn(2),
    **dict.fromkeys(
        ("_thnn_fused_lstm_cell", "_thnn_fused_lstm_cell_backward_impl", "_thnn_fused_gru_cell",
         "_thnn_fused_gru_cell_backward"),
        lambda _args, _out: 0,
    ),
    "_cdist_forward": _pairwise(0, 3),  # difference, power, sum
    "_cdist_backward": _pairwise(1, 5),
}  # fmt: skip
