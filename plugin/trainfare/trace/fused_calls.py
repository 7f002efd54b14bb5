"""
Calls that CUDA runs as one fused operation, even where this machine runs several.

A region is one call of a torch function. The operations that torch dispatches while it runs are not recorded: one
ledger line is added for the call, and one for its backward, which is recognised by the autograd nodes that the call
made.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import torch

from trainfare.trace import torch_private
from trainfare.trace.flops import RECURRENT_GATES, attention_flops, recurrent_flops
from trainfare.trace.kinds import compute_dtype, dtype_name
from trainfare.trace.storages import tensors_in
from trainfare_core.job_profile import OperationKind

_SAME_VALUES: Final = frozenset(
    f"{name}Backward0" for name in ("Clone", "Permute", "ToCopy", "Transpose", "UnsafeView", "View")
)
"""Autograd nodes of operations that give the values of a tensor another place, type or shape."""

_RECURRENT_ARGUMENTS: Final = 9
"""Of `torch.lstm` and its kind, as torch's layers call it, with a batch that is not packed."""


@dataclass(slots=True)
class Region:
    """
    One fused call.

    Attributes:
        kind: of the operation.
        name: of the forward, as torch names it on CUDA; `_backward` is appended for the backward.
        dtype: compute type.
        shape: see `SHAPE_AXES`.
        operands: tensors that forward reads.
        flops: of the forward.
        backward_flops: of the backward.
        extra_kept_bytes: bytes that the kernel keeps for backward besides operands and results (masks, statistics).
        backward_reads_operands: whether backward reads the forward's operands.
        backward_reads_results: whether backward reads the forward's results.
        wanted: operands that need a gradient.
        autograd_keeps: True where autograd keeps the tensors for backward; False where saved-tensor hooks (activation
            checkpointing) take them.
        first_node: sequence number of the first autograd node of the call.
        launched: whether torch dispatched any operation in it.
        entered_in_task: number of the backward pass in which its backward line was added.
        held: numbers of the storages that backward reads.
        backward_launch: number of the backward in `Fusion`.
        backward_storages: numbers of the storages that the backward has read or made so far.
        backward_read: bytes read by the backward.
        backward_written: bytes written by the backward.
        backward_fixed: the part of both that does not shrink with the batch.
        backward_made: the part of `backward_written` that shrinks with the batch.
    """

    kind: OperationKind
    name: str
    dtype: str
    shape: tuple[int, ...]
    operands: list[torch.Tensor]
    flops: int = 0
    backward_flops: int = 0
    extra_kept_bytes: int = 0
    backward_reads_operands: bool = True
    backward_reads_results: bool = False
    wanted: list[torch.Tensor] = field(default_factory=list[torch.Tensor])
    autograd_keeps: bool = True
    first_node: int = 0
    launched: bool = False
    entered_in_task: int = -1
    held: list[int] = field(default_factory=list[int])
    backward_launch: int = -1
    backward_storages: set[int] = field(default_factory=set[int])
    backward_read: int = 0
    backward_written: int = 0
    backward_fixed: int = 0
    backward_made: int = 0

    def node_keys(self, out: Any) -> list[tuple[int, str]]:
        """Return the keys of the autograd nodes that this call made, by walking back from its results."""
        pending = [t.grad_fn for t in tensors_in(out) if t.grad_fn is not None]
        keys: dict[tuple[int, str], None] = {}
        while pending:
            node: Any = pending.pop()
            key = torch_private.node_key(node)
            if key in keys or not self.first_node <= key[0] < 2**63:
                continue
            keys[key] = None
            pending += [following for following, _ in node.next_functions if following is not None]
        return list(keys)


def open_region(name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> Region | None:
    """
    Return the region of a call; None where its operations are recorded as they are dispatched.

    Args:
        name: of the torch function, e.g. "scaled_dot_product_attention".
        args: of the call.
        kwargs: of the call.
    """
    opener = _OPENERS.get(name)
    if opener is None:
        return None
    if any(not _is_plain(t) for t in (*tensors_in(args), *tensors_in(kwargs))):
        return None
    region = opener(name, args, kwargs)
    if region is not None:
        region.wanted = [t for t in region.operands if t.requires_grad and torch.is_grad_enabled()]
        region.autograd_keeps = torch_private.can_push_saved_tensor_hooks()
        region.first_node = torch_private.next_sequence_number()
    return region


def run_call(name: str, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """
    Call a torch function. On fake tensors, a recurrent layer runs for its first time step alone.

    Its results have the sizes that they have with all steps. torch would dispatch the operations of each step one by
    one, though the call is recorded as one.

    Args:
        name: of the function, e.g. "lstm".
        func: the function.
        args: of the call.
        kwargs: of the call.
    """
    recurrent = name in RECURRENT_GATES and torch_private.fake_mode() is not None
    if not recurrent or len(args) < _RECURRENT_ARGUMENTS or _is_packed(args):
        return func(*args, **kwargs)
    axis = _time_axis(args)
    steps = int(args[0].shape[axis])
    if steps < 2:
        return func(*args, **kwargs)
    out, *states = func(args[0].narrow(axis, 0, 1), *args[1:], **kwargs)
    # Time comes first in memory, also where the batch comes first. Backward, the parts of `cat` are views.
    first = out.transpose(0, axis)
    others = first.new_empty(steps - 1, *first.shape[1:])
    return torch.cat([first, others]).transpose(0, axis), *states


def _is_plain(tensor: torch.Tensor) -> bool:
    return tensor.layout is torch.strided and not torch_private.is_wrapper_subclass(type(tensor))


def _argument(
    args: Sequence[Any], kwargs: dict[str, Any], position: int, name: str, default: Any = None
) -> Any:
    return args[position] if len(args) > position else kwargs.get(name, default)


def _find_attention(_name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> Region | None:
    query, key, value = (_argument(args, kwargs, i, n) for i, n in enumerate(("query", "key", "value")))
    mask = _argument(args, kwargs, 3, "attn_mask")
    causal = bool(_argument(args, kwargs, 5, "is_causal", default=False))
    fused = torch_private.choose_fused_attention(query.dtype, int(query.shape[-1]), masked=mask is not None)
    if fused is None:
        return None
    heads = int(query.shape[-3]) if query.dim() > 2 else 1
    batch = math.prod(int(size) for size in query.shape[:-3])
    return Region(
        kind="attention",
        name=f"aten._scaled_dot_product_{fused}_attention",
        shape=(
            batch,
            heads,
            _own_heads(key),
            int(query.shape[-2]),
            int(key.shape[-2]),
            int(query.shape[-1]),
            int(causal),
        ),
        operands=[query, key, value] if mask is None else [query, key, value, mask],
        dtype=compute_dtype("attention", "", [query], []),
        flops=attention_flops(query.shape, key.shape, value.shape),
        backward_flops=attention_flops(query.shape, key.shape, value.shape, backward=True),
        extra_kept_bytes=4 * batch * heads * int(query.shape[-2]),
        backward_reads_results=True,
    )


def _own_heads(key: torch.Tensor) -> int:
    """
    Return the heads of keys, without the copies that models make of them for every head of the query.

    Copies are found in the autograd graph: those of keys without a gradient count as heads.
    """
    heads = int(key.shape[-3]) if key.dim() > 2 else 1
    node: Any = key.grad_fn
    while node is not None and node.name() in _SAME_VALUES:
        ((node, _),) = node.next_functions
    if node is None or node.name() not in ("ExpandBackward0", "RepeatBackward0"):
        return heads
    ((before, index),) = node.next_functions
    many, few = torch_private.edge_shape(node, 0) or (), torch_private.edge_shape(before, index) or ()
    for axis in range(1, min(len(many), len(few))):
        # The axis of heads itself, or one behind it for the copies.
        if few[axis] < many[axis] and heads in (many[axis], many[axis - 1] * many[axis]):
            return heads * few[axis] // many[axis]
    return heads


def _recurrent(name: str, args: Sequence[Any], _kwargs: dict[str, Any]) -> Region | None:
    """
    Return the region of `torch.lstm`, `gru`, `rnn_tanh` or `rnn_relu`.

    The arguments are (input, hx, weights, has_biases, layers, dropout, train, bidirectional, batch_first), or
    (rows, batch_sizes, hx, weights, ...) for packed sequences.
    """
    packed = _is_packed(args)
    plain = [args[0], *args[2:]] if packed else args
    source, states, weights, _, layers, _, train, both = plain[:8]
    return _recurrent_region(
        "aten._cudnn_rnn",
        RECURRENT_GATES[name],
        [source, *tensors_in(states)],
        tensors_in(weights),
        _steps_and_batch(source, args, packed=packed),
        layers=int(layers),
        directions=2 if both else 1,
        train=bool(train),
    )


def _is_packed(args: Sequence[Any]) -> bool:
    return isinstance(args[3], (list, tuple))


def _time_axis(args: Sequence[Any]) -> int:
    return 1 if args[0].dim() == 3 and len(args) > 8 and args[8] else 0


def _recurrent_region(
    name: str, gates: int, inputs: list[torch.Tensor], weights: list[torch.Tensor], steps_and_batch: tuple[int, int],
    *, layers: int = 1, directions: int = 1, train: bool = True,
) -> Region:  # fmt: skip
    """Return the region of recurrent layers; the second weight is that of the hidden state."""
    source, (steps, batch) = inputs[0], steps_and_batch
    hidden, out = int(weights[1].shape[0]) // gates, int(weights[1].shape[1])
    rows, width = int(source.numel()) // int(source.shape[-1]), int(source.shape[-1])
    projection = out if out != hidden else 0
    total, first = recurrent_flops(rows, width, hidden, gates, layers, directions, projection)
    # The gradients of the weights, of the hidden states and, where it is wanted, of the input.
    weight_gradients = total if any(weight.requires_grad for weight in weights) else 0
    return Region(
        kind="recurrent",
        name=name,
        shape=(batch, steps, width, hidden, layers, directions),
        operands=[*inputs, *weights],
        dtype=compute_dtype("recurrent", "", [source], []),
        flops=total,
        backward_flops=weight_gradients + total - (0 if source.requires_grad else first),
        extra_kept_bytes=rows * gates * hidden * layers * directions * source.element_size() if train else 0,
        backward_reads_results=True,
    )


def _steps_and_batch(source: torch.Tensor, args: Sequence[Any], *, packed: bool) -> tuple[int, int]:
    if packed:
        steps = int(args[1].numel())
        return steps, math.ceil(int(source.shape[0]) / max(steps, 1))
    if source.dim() == 2:
        return int(source.shape[0]), 1
    axis = _time_axis(args)
    return int(source.shape[axis]), int(source.shape[1 - axis])


def _recurrent_cell(name: str, args: Sequence[Any], _kwargs: dict[str, Any]) -> Region | None:
    """Return the region of `torch.lstm_cell` and the other cells: (input, hx, w_ih, w_hh, b_ih, b_hh)."""
    source, weights = args[0], [t for t in args[2:] if isinstance(t, torch.Tensor)]
    gates = RECURRENT_GATES[name.removesuffix("_cell")]
    batch = int(source.numel()) // int(source.shape[-1])
    return _recurrent_region(f"aten.{name}", gates, [source, *tensors_in(args[1])], weights, (1, batch))


def _rms_norm(_name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> Region | None:
    if not hasattr(torch.ops.aten, "_fused_rms_norm"):
        return None
    source = _argument(args, kwargs, 0, "input")
    columns = math.prod(int(size) for size in _argument(args, kwargs, 1, "normalized_shape"))
    weight = _argument(args, kwargs, 2, "weight")
    rows = int(source.numel()) // max(columns, 1)
    return Region(
        kind="normalization",
        name="aten._fused_rms_norm",
        shape=(rows, columns),
        operands=[source] if weight is None else [source, weight],
        dtype=dtype_name(source.dtype),
        extra_kept_bytes=4 * rows,
    )


def _dropout(_name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> Region | None:
    source = _argument(args, kwargs, 0, "input")
    return Region(
        kind="dropout",
        name="aten.native_dropout",
        shape=(int(source.numel()),),
        operands=[source],
        dtype=dtype_name(source.dtype),
        extra_kept_bytes=int(source.numel()),
        backward_reads_operands=False,
    )


# The function that makes the region of a call, by the torch function's name.
_OPENERS: Final[dict[str, Callable[[str, Sequence[Any], dict[str, Any]], Region | None]]] = {
    "scaled_dot_product_attention": _find_attention,
    **dict.fromkeys(RECURRENT_GATES, _recurrent),
    **{f"{layer}_cell": _recurrent_cell for layer in RECURRENT_GATES},
    "rms_norm": _rms_norm,
    "dropout": _dropout,
    "dropout_": _dropout,
}
