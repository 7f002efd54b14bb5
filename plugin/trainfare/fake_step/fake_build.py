"""Build a module on fake tensors: small constants keep values that can be read, and modules can be moved."""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Callable, Generator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode

from trainfare.fake_step.fake_results import find_known_result
from trainfare.fake_step.fake_tensors import with_properties_of
from trainfare.fake_step.module_parts import buffers_of, parameters_of, tensor_leaves
from trainfare.job.user_code import replace_attribute
from trainfare.trace import torch_private

_SMALL_NUMEL = 16_384
"""Elements up to which a tensor is computed for real: a chosen value, 64 KiB in fp32, above the tables of constants
(drop-path rates, window indices) that models read while being built and far below their weights."""
_aten: Any = torch.ops.aten
# Tuples: an operation is compared faster than torch hashes it.
_GROUPED = tuple(getattr(_aten, name).default for name in ("_grouped_mm",) if hasattr(_aten, name))
_KEEPS_ROWS = (_aten.clone.default, _aten._coalesce.default, _aten.sparse_mask.default)  # noqa: SLF001
_SHARES_GRADIENTS = tuple(
    getattr(_aten, name).default for name in ("mkldnn_rnn_layer_backward",) if hasattr(_aten, name)
)
_BAGS = _aten._embedding_bag_backward.default  # noqa: SLF001
_TABLE_ROWS, _SPARSE_BAGS = 6, 9
"""Places of `num_weights` and `sparse` among its arguments."""
_FILLS = (_aten.normal_.default, _aten.uniform_.default, _aten.fill_.Scalar, _aten.zero_.default)
"""Operations that change only the values of their first operand: a fake tensor has none."""
_EMPTY = _aten.empty.memory_format
_CPU = torch.device("cpu")
_ASKS_FAKE = "is_fake_tensor"
"""transformers' function that tells a fake tensor."""
_DRAWS = "_no_grad_trunc_normal_"
"""torch's function behind `trunc_normal_`."""


class BuildMode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """
    Makes tensors fake while a module is built, except small ones that depend on no fake tensor.

    Many models read small constants while being built: `[x.item() for x in torch.linspace(0, 0.1, depth)]`.
    Those are computed for real. A small tensor that was written from a fake one has no values from then on and is
    treated as fake.
    """

    def __init__(self, mode: FakeTensorMode) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # pyright: ignore[reportUnknownMemberType]
        self._mode = mode
        self._without_value: set[int] = set()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if torch_private.asks_device(func, args):
            return args[0].device
        if func in _FILLS and isinstance(args[0], FakeTensor) and args[0].is_floating_point():
            return args[0]
        kwargs = kwargs or {}
        if func is _EMPTY and kwargs.get("device") == _CPU and math.prod(args[0]) <= _SMALL_NUMEL:
            return _run_real(func, args, kwargs)
        tensors = tensor_leaves((args, kwargs))
        real = [tensor for tensor in tensors if not isinstance(tensor, FakeTensor)]
        if len(real) < len(tensors) or any(_storage(tensor) in self._without_value for tensor in real):
            if any(argument.alias_info is not None for argument in func._schema.arguments):  # noqa: SLF001
                self._without_value.update(_storage(tensor) for tensor in real)
            with self._mode:
                return func(*args, **kwargs)
        if real and all(tensor.numel() <= _SMALL_NUMEL for tensor in real):
            return _run_real(func, args, kwargs)
        with self._mode:
            fake = func(*args, **kwargs)
        small = all(
            tensor.numel() <= _SMALL_NUMEL and tensor.device.type == "cpu" for tensor in tensor_leaves(fake)
        )
        return _run_real(func, args, kwargs) if small and not real else fake


@contextlib.contextmanager
def movable_fakes() -> Generator[None, None, None]:
    """
    Let `module.to(...)`, `.half()` and `.bfloat16()` work on fake modules while one is being built.

    torch swaps the tensors in place, which fails for fake ones. Inside this block the parameters of fake modules are
    replaced instead; a shared parameter stays shared. `trunc_normal_`, which draws until every value is in range,
    returns fake tensors unchanged.
    """
    home: Any = nn.Module
    original: Callable[..., nn.Module] = home._apply  # noqa: SLF001
    replaced: dict[int, tuple[Tensor, nn.Parameter]] = {}

    def apply(self: nn.Module, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:  # noqa: FBT001, FBT002
        parameters, buffers = parameters_of(self), buffers_of(self)
        if not any(isinstance(value, FakeTensor) for value in parameters.values()):
            return original(self, fn, recurse)
        if recurse:
            for child in self.children():
                loose: Any = child
                loose._apply(fn)  # noqa: SLF001
        with torch.no_grad():
            for name, value in parameters.items():
                if value is None:
                    continue
                if id(value) not in replaced:
                    moved = fn(value)
                    twin: Any = value if moved is value else with_properties_of(value, moved)
                    replaced[id(value)] = (value, twin)
                parameters[name] = replaced[id(value)][1]
            for name, buffer in buffers.items():
                if buffer is not None:
                    buffers[name] = fn(buffer)
        return self

    draw: Callable[..., Tensor] | None = getattr(nn.init, _DRAWS, None)
    with contextlib.ExitStack() as stack:
        stack.enter_context(replace_attribute(home, "_apply", apply))
        if draw is not None:
            stack.enter_context(replace_attribute(nn.init, _DRAWS, _skipping_fakes(draw)))
        yield


@contextlib.contextmanager
def allow_mixed_recurrent_inputs() -> Generator[None, None, None]:
    """
    Let recurrent layers take inputs of another dtype than their weights, as under CUDA's autocast.

    Their Python code compares the two dtypes before any call that could cast, unless torch's own autocast is on. It
    is off here, because the trace casts by itself.
    """
    original: Callable[..., None] = nn.RNNBase.check_input

    def check(self: nn.RNNBase, input: Tensor, batch_sizes: Tensor | None) -> None:  # noqa: A002 - torch's name
        weight = next(self.parameters(), input)
        original(self, input.to(weight.dtype) if input.is_floating_point() else input, batch_sizes)

    with replace_attribute(nn.RNNBase, "check_input", check):
        yield


def run_fake(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """
    Run an operation with what fake kernels lack: grouped products of every type, and sparse tensors with their rows.

    The fake kernels of `_KEEPS_ROWS` and `_BAGS` return no row. Two equal rows that `_coalesce` would add up stay two.
    Those of `_SHARES_GRADIENTS` give both biases one gradient when they first meet a size, and later two.
    """
    if func in _KEEPS_ROWS and args[-1].layout is torch.sparse_coo:
        return _with_rows_of(args[-1], args[0].dtype)
    if func is _BAGS and args[_SPARSE_BAGS]:
        return _rows_of_bags(*args[:2], table_rows=args[_TABLE_ROWS])
    result = find_known_result(func, args, kwargs)
    if result is not NotImplemented:
        return result
    if func in _SHARES_GRADIENTS:
        gradients = func(*args, **kwargs)
        return tuple(
            gradient.clone() if any(gradient is other for other in gradients[:i]) else gradient
            for i, gradient in enumerate(gradients)
        )
    left: Tensor | None = args[0] if func in _GROUPED else None
    if left is None or left.dtype == torch.bfloat16 or left.dtype != args[1].dtype:
        return func(*args, **kwargs)
    narrow = (left.to(torch.bfloat16), args[1].to(torch.bfloat16), *args[2:])
    return func(*narrow, **kwargs).to(left.dtype)


def _rows_of_bags(gradient: Tensor, indices: Tensor, *, table_rows: int) -> Tensor:
    """Return the sparse gradient of an embedding bag's table: a row for each index."""
    values = gradient.new_empty(indices.numel(), gradient.shape[1])
    rows: Tensor = _aten._sparse_coo_tensor_with_dims_and_tensors(  # noqa: SLF001
        1, 1, (table_rows, gradient.shape[1]), indices.reshape(1, -1), values, dtype=gradient.dtype,
        layout=torch.sparse_coo, device=gradient.device,
    )  # fmt: skip
    return rows


def _with_rows_of(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a new sparse tensor with as many rows."""
    indices, values = (part.clone() for part in torch_private.list_stored_parts(tensor))
    result: Tensor = _aten._sparse_coo_tensor_with_dims_and_tensors(  # noqa: SLF001
        tensor.sparse_dim(), tensor.dense_dim(), tensor.shape, indices, values.to(dtype), dtype=dtype,
        layout=torch.sparse_coo, device=tensor.device,
    )  # fmt: skip
    return result


@contextlib.contextmanager
def values_in_transformers(is_known: Callable[[object], bool]) -> Generator[None, None, None]:
    """
    Let transformers look at masks whose values are known, as it does in training.

    Before it asks whether a mask is needed at all, it asks whether a tensor is fake. With a mask, a causal model runs
    another attention kernel.
    """
    home = sys.modules.get("transformers.utils.import_utils")
    original: Callable[[object], bool] | None = getattr(home, _ASKS_FAKE, None)
    if home is None or original is None:
        yield
        return
    asks = original

    def is_unknown(tensor: object) -> bool:
        return asks(tensor) and not is_known(tensor)

    with replace_attribute(home, _ASKS_FAKE, is_unknown):
        yield


def _skipping_fakes(draw: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def draw_or_skip(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return tensor if isinstance(tensor, FakeTensor) else draw(tensor, *args, **kwargs)

    return draw_or_skip


def _run_real(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    with unset_fake_temporarily():
        return func(*args, **kwargs)


def _storage(tensor: Tensor) -> int:
    storage: Any = tensor.untyped_storage()
    return int(storage._cdata)  # noqa: SLF001
