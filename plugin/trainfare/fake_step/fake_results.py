"""
Results of common operations on fake tensors, made from the sizes of their operands alone.

torch finds the result of most operations on fake tensors by running Python code for their shapes, which was most of the
time of a trace. Results that have the sizes of an operand, views of one, products, norms and what writes to an operand
in place are made here. Any other call, and every call that torch may refuse, is torch's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, cast

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, in_kernel_invocation_manager

_aten: Any = torch.ops.aten
_UNSAFE_VIEW: Final = _aten._unsafe_view.default  # noqa: SLF001
_Maker = Callable[[Any, Sequence[Any], dict[str, Any]], Any]
_PLAIN_TYPES = (float, int, bool, str, torch.dtype, torch.memory_format, type(None))
"""Of arguments on which no size of a result depends."""


def find_known_result(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """
    Return the result of an operation, `NotImplemented` where torch has to find it.

    Args:
        func: an `OpOverload`.
        args: of the call.
        kwargs: of the call.

    Example:
        >>> from torch._subclasses.fake_tensor import FakeTensorMode
        >>> with FakeTensorMode():
        ...     rows = torch.zeros(4, 8)
        >>> find_known_result(torch.ops.aten.relu.default, (rows,), {}).shape
        torch.Size([4, 8])
    """
    # By number: torch hashes an operation in Python.
    maker = MAKERS.get(id(func))
    return NotImplemented if maker is None else maker(func, args, kwargs)


def _are_plain_tensors(operands: Sequence[Any]) -> bool:
    """Return whether all are strided fake tensors of real numbers, of one mode and device, without a kept value."""
    first = operands[0]
    return all(
        type(operand) is FakeTensor
        and operand.constant is None
        and operand.layout is torch.strided
        and not operand.is_complex()
        and operand.fake_mode is first.fake_mode
        and operand.fake_device == first.fake_device
        for operand in operands
    )


def _is_filled(tensor: Tensor) -> bool:
    """Return whether the elements of a tensor lie side by side, in any order of its axes."""
    expected = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size != 1:
            if stride != expected:
                return False
            expected *= size
    return True


def _overlaps(tensor: Tensor) -> bool:
    """Return whether elements of an expanded tensor share their memory."""
    return any(not stride and size > 1 for stride, size in zip(tensor.stride(), tensor.shape, strict=True))


def _new(source: FakeTensor, shape: Sequence[int], dtype: torch.dtype | None = None) -> FakeTensor:
    """Return a contiguous fake tensor on the device of another, by default of its type."""
    with in_kernel_invocation_manager(source.fake_mode):
        tensor = torch.empty(tuple(shape), dtype=dtype or source.dtype, device="meta")
    return FakeTensor(source.fake_mode, tensor, source.fake_device)


def _same_strides(source: FakeTensor, dtype: torch.dtype | None = None) -> FakeTensor:
    """Return a fake tensor of the size and the strides of another, which is filled."""
    with in_kernel_invocation_manager(source.fake_mode):
        tensor = torch.empty_strided(
            source.shape, source.stride(), dtype=dtype or source.dtype, device="meta"
        )
    return FakeTensor(source.fake_mode, tensor, source.fake_device)


def _view(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Return a view of the first operand; torch has kernels in C++ for the sizes of views."""
    source = args[0]
    if not _are_plain_tensors(args[:1]):
        return NotImplemented
    with in_kernel_invocation_manager(source.fake_mode):
        views = (_aten.view.default if func is _UNSAFE_VIEW else func)(*args, **kwargs)
    if isinstance(views, Tensor):
        return FakeTensor(source.fake_mode, views, source.fake_device)
    return [FakeTensor(source.fake_mode, view, source.fake_device) for view in views]


def _in_place(_func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Return the first operand, to which tensors of its size and numbers are written."""
    operands = [arg for arg in args if isinstance(arg, Tensor)]
    if not operands[0].is_floating_point() or _overlaps(operands[0]):
        return NotImplemented  # torch may refuse it
    equal = all(
        operand.shape == operands[0].shape and operand.dtype is operands[0].dtype for operand in operands
    )
    plain = all(isinstance(arg, (Tensor, *_PLAIN_TYPES)) for arg in args)
    return (
        args[0] if equal and plain and _are_plain(kwargs) and _are_plain_tensors(operands) else NotImplemented
    )


def _in_place_lists(_func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Return None, as an operation does that writes to a list of tensors in place."""
    lists = [cast("list[Any]", arg) for arg in args if isinstance(arg, (list, tuple))]
    numbers = all(isinstance(arg, (list, tuple, *_PLAIN_TYPES)) for arg in args)
    if not lists or not numbers or not _are_plain(kwargs) or len({len(tensors) for tensors in lists}) != 1:
        return NotImplemented
    first = lists[0]
    if not all(isinstance(tensor, Tensor) and tensor.is_floating_point() for tensor in first):
        return NotImplemented
    for other in lists[1:]:
        if not all(
            isinstance(a, Tensor) and a.shape == b.shape and a.dtype is b.dtype
            for a, b in zip(other, first, strict=True)
        ):
            return NotImplemented
    return (
        None
        if first and all(_are_plain_tensors(operands) for operands in zip(*lists, strict=True))
        else NotImplemented
    )


def _elementwise(_func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Return the result of an elementwise operation on tensors of one size, type and order in memory."""
    operands = [arg for arg in args if isinstance(arg, Tensor)]
    first = operands[0] if operands else None
    if (
        first is None
        or not _are_plain_tensors(operands)
        or not first.is_floating_point()
        or not _are_plain(kwargs)
    ):
        return NotImplemented
    for other in operands[1:]:
        if other.shape != first.shape or other.dtype is not first.dtype or other.stride() != first.stride():
            return NotImplemented
    if not all(isinstance(arg, (Tensor, *_PLAIN_TYPES)) for arg in args):
        return NotImplemented
    return _make_ordered_like(cast("FakeTensor", first))


def _make_ordered_like(source: FakeTensor) -> Any:
    """Return a result of the size of an operand, as torch's iterator over elements orders it."""
    if source.is_contiguous():
        return _new(source, source.shape)
    return _same_strides(source) if _is_filled(source) and 1 not in source.shape else NotImplemented


def _copy(_func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Return a copy, or a new tensor of the same size, in the type and memory format that may be given."""
    source = args[0]
    given = {name: value for name, value in kwargs.items() if value is not None}
    dtype, memory_format = given.pop("dtype", None), given.pop("memory_format", torch.preserve_format)
    given.pop("non_blocking", None)
    given.pop("pin_memory", None)
    if (
        given.pop("layout", torch.strided) is not torch.strided
        or len(args) > 1
        or not _are_plain_tensors(args[:1])
    ):
        return NotImplemented
    if given.pop("device", source.fake_device) != source.fake_device or given:
        return NotImplemented
    if memory_format is torch.contiguous_format:
        return _new(source, source.shape, dtype)
    if memory_format is not torch.preserve_format or not _is_filled(source):
        return NotImplemented
    return _same_strides(source, dtype)


def _make_biased_product(_func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Operands: bias, left and right matrix."""
    bias, left, right = args[:3]
    same = _are_plain_tensors((left, right, bias)) and left.dtype is right.dtype and left.dtype is bias.dtype
    shaped = same and left.dim() == 2 and right.dim() == 2 and left.shape[1] == right.shape[0]
    if not shaped or bias.shape != right.shape[1:] or not _are_plain(kwargs):
        return NotImplemented
    return _new(left, (left.shape[0], right.shape[1]))


def _make_product(_func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Operands: left and right matrix, or batches of as many."""
    left, right = args
    if kwargs or not _are_plain_tensors(args) or left.dtype is not right.dtype or left.dim() != right.dim():
        return NotImplemented
    if left.shape[-1] != right.shape[-2] or left.shape[:-2] != right.shape[:-2]:
        return NotImplemented
    return _new(left, (*left.shape[:-1], right.shape[-1]))


def _layer_norm(_func: Any, args: Sequence[Any], _kwargs: dict[str, Any]) -> Any:
    """Operands: input, normalized shape, weight, bias, epsilon."""
    source, shape = args[:2]
    given = [source, *(arg for arg in args[2:4] if arg is not None)]
    fits = tuple(source.shape[source.dim() - len(shape) :]) == tuple(shape)
    if (
        not fits
        or not _are_plain_tensors(given)
        or not source.is_contiguous()
        or source.fake_device.type != "cpu"
    ):
        return NotImplemented
    if any(weight.dtype is not source.dtype for weight in given):
        return NotImplemented
    rows = (*source.shape[: -len(shape)], *(1 for _ in shape))
    return _new(source, source.shape), _new(source, rows), _new(source, rows)


def _layer_norm_backward(_func: Any, args: Sequence[Any], _kwargs: dict[str, Any]) -> Any:
    """Operands: gradient, input, normalized shape, mean, deviation, weight, bias, what is wanted."""
    gradient, source = args[:2]
    weights, mask = args[5:7], args[7]
    given = [gradient, source, *args[3:5], *(weight for weight in weights if weight is not None)]
    if not _are_plain_tensors(given) or gradient.shape != source.shape or gradient.dtype is not source.dtype:
        return NotImplemented
    if not gradient.is_contiguous() or not source.is_contiguous():
        return NotImplemented
    results = [source, *weights]
    if any(result is None for result, is_needed in zip(results, mask, strict=True) if is_needed):
        return NotImplemented
    return tuple(
        _new(result, result.shape) if is_needed else None
        for result, is_needed in zip(results, mask, strict=True)
    )


def _batch_norm(_func: Any, args: Sequence[Any], _kwargs: dict[str, Any]) -> Any:
    """Operands: input, weight, bias, running mean, running variance, whether it trains, momentum, epsilon."""
    source, training = args[0], args[5]
    if (
        not training
        or not _are_plain_tensors([arg for arg in args[:5] if arg is not None])
        or source.dim() < 2
    ):
        return NotImplemented
    out = _make_ordered_like(source)
    if out is NotImplemented or source.fake_device.type != "cpu":
        return NotImplemented
    # On a CPU, torch keeps mean and deviation in the type of the input.
    return out, *(_new(source, (source.shape[1],)) for _ in range(2))


def _batch_norm_backward(_func: Any, args: Sequence[Any], _kwargs: dict[str, Any]) -> Any:
    """Operands: gradient, input, weight, running and saved statistics (2 each), training, epsilon, what is wanted."""
    gradient, source, weight = args[:3]
    training, mask = args[7], args[9]
    if not training or weight is None or not _are_plain_tensors([arg for arg in args[:7] if arg is not None]):
        return NotImplemented
    same = gradient.shape == source.shape and gradient.dtype is source.dtype
    if not same or gradient.stride() != source.stride():
        return NotImplemented
    out = _make_ordered_like(source)
    if out is NotImplemented:
        return NotImplemented
    of_weights = [_new(weight, weight.shape) if is_needed else None for is_needed in mask[1:]]
    return out, *of_weights


def _are_plain(kwargs: dict[str, Any]) -> bool:
    return all(isinstance(value, _PLAIN_TYPES) for value in kwargs.values())


def _map_ops(names: str, maker: _Maker) -> dict[int, _Maker]:
    """Return a maker by the number of each operation: `name.overload`, "default" is left out."""
    parts = (name.partition(".") for name in names.split())
    return {id(getattr(getattr(_aten, name), overload or "default")): maker for name, _, overload in parts}


MAKERS: Final[dict[int, _Maker]] = {
    **_map_ops("detach view _unsafe_view t transpose.int permute expand slice.Tensor select.int unsqueeze", _view),
    **_map_ops("add_.Tensor sub_.Tensor mul_.Tensor div_.Tensor add_.Scalar mul_.Scalar relu_ silu_", _in_place),
    **_map_ops("addcmul_ addcdiv_ sqrt_ lerp_.Scalar zero_ fill_.Scalar hardtanh_ hardswish_", _in_place),
    **_map_ops(
        "_foreach_add_.List _foreach_add_.Scalar _foreach_mul_.Scalar _foreach_mul_.List _foreach_sqrt_ "
        "_foreach_div_.List _foreach_addcmul_.Scalar "
        "_foreach_addcdiv_.Scalar _foreach_lerp_.Scalar",
        _in_place_lists,
    ),
    **_map_ops("add.Tensor sub.Tensor mul.Tensor div.Tensor mul.Scalar div.Scalar neg relu sigmoid silu", _elementwise),
    **_map_ops("gelu tanh hardswish hardsigmoid hardtanh leaky_relu elu threshold_backward", _elementwise),
    **_map_ops("silu_backward gelu_backward sigmoid_backward tanh_backward hardswish_backward", _elementwise),
    **_map_ops("hardsigmoid_backward hardtanh_backward leaky_relu_backward", _elementwise),
    **_map_ops("clone zeros_like ones_like empty_like _to_copy", _copy),
    **_map_ops("addmm", _make_biased_product),
    **_map_ops("mm bmm", _make_product),
    **_map_ops("native_layer_norm", _layer_norm),
    **_map_ops("native_layer_norm_backward", _layer_norm_backward),
    **_map_ops("native_batch_norm", _batch_norm),
    **_map_ops("native_batch_norm_backward", _batch_norm_backward),
}  # fmt: skip
"""What makes the result of an operation, by the number of the operation."""
