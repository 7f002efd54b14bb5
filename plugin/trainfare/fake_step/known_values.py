"""
The values of fake tensors that do not depend on the weights: constants, buffers, and what a known batch gives.

A step may read them: `if mask.max() > 1`, `x[labels != -100]`, the causal-mask check of `nn.Transformer`. They are
computed for real beside the fake tensors. Of what depends on the weights two things are answered: a loss is finite,
and the arguments of a distribution are valid, as in any run that goes on.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, cast

import torch
from torch import Tensor, distributions, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
    unset_fake_temporarily,
)
from torch.utils._pytree import tree_map_only

from trainfare.fake_step.module_parts import tensor_leaves
from trainfare.job import place_of_caller
from trainfare.job.user_code import is_of_tracing, list_places
from trainfare.trace import torch_private
from trainfare.trace.modes import EagerMode
from trainfare.trace.storages import tensors_in
from trainfare.trace.torch_private import storage_address

_MOST_NUMEL: Final = 2**24
"""Elements up to which a value is kept: a chosen value, 64 MiB in fp32. It holds a batch of token ids of any size and a
mask of 4,096 by 4,096; above it stand images and activations, which steps do not read."""
_MOST_PLACES: Final = 3
"""Lines that the note on values of the batch names; a chosen value."""
_VALUE: Final = "_trainfare_value"
"""Attribute of a fake tensor that holds its values."""
_OF_BATCH: Final = "_trainfare_of_batch"
"""Attribute of values that depend on the batch."""
_FINITE: Final = {"isnan": False, "isinf": False, "isneginf": False, "isposinf": False, "isfinite": True}
"""What these functions say of every element in a run that goes on."""
_VALIDATION: Final = str(sys.modules[distributions.Distribution.__module__].__file__)
"""The file in which torch.distributions checks arguments and samples."""
_aten = cast("Any", torch.ops.aten)


def keep_value(fake: Tensor, real: Tensor, *, of_batch: bool = False) -> None:
    """Keep a copy of the values of a real tensor with its fake twin, if they are few, on the host and no weights."""
    if isinstance(fake, FakeTensor) and not isinstance(real, (FakeTensor, nn.Parameter)) and _is_small(real):
        with unset_fake_temporarily(), torch.no_grad():
            value = real.detach().to(fake.dtype, copy=True)
        _attach(fake, value, of_batch=of_batch)


class KnownValues(EagerMode):  # type: ignore[no-untyped-call]
    """
    Computes known values beside the fake tensors, and answers a step that reads one. Enter it inside the fake mode.

    Args:
        mode: of the fake tensors.
        run: runs an operation on fake tensors, given it, its arguments and its keyword arguments.
    """

    def __init__(
        self, mode: FakeTensorMode, run: Callable[[Any, Sequence[Any], dict[str, Any]], Any]
    ) -> None:
        super().__init__()
        self._mode, self._run_fake = mode, run
        self._places: dict[str, None] = {}
        # Storages whose values were overwritten by unknown ones; kept, so that no other gets their address.
        self._lost: dict[int, torch.UntypedStorage] = {}

    @property
    def notes(self) -> list[str]:
        """Where the step reads values of the batch, if it does."""
        if not self._places:
            return []
        where = list_places(self._places)
        return [f"the step reads values of the batch ({where}): its work is that of the batch given"]

    def value_of(self, tensor: object) -> Tensor | None:
        """Return the values of a tensor, on the host; None where they are not known."""
        if not isinstance(tensor, Tensor):
            return None
        if not isinstance(tensor, FakeTensor):
            return tensor if _is_small(tensor) and not isinstance(tensor, nn.Parameter) else None
        value: Tensor | None = vars(tensor).get(_VALUE)
        return None if value is None or storage_address(value.untyped_storage()) in self._lost else value

    def read(self, method: Callable[..., Any], tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Call a method that reads all values of a tensor, e.g. `Tensor.numpy`, on a copy of the known ones."""
        value = self.value_of(tensor)
        if value is None:
            return method(tensor, *args, **kwargs)
        self._mark([tensor])
        with unset_fake_temporarily():
            return method(value.clone(), *args, **kwargs)

    def say_finite(self, name: str, out: object) -> None:
        """Give the result of `torch.isnan` or one of its kind the values that it has in a run that goes on."""
        answer = _FINITE.get(name)
        if answer is None or not isinstance(out, FakeTensor) or self.value_of(out) is not None:
            return
        if out.dtype is torch.bool and out.numel() <= _MOST_NUMEL:
            with unset_fake_temporarily():
                _attach(out, torch.full((), answer).expand(out.shape), of_batch=False)

    def run_operation(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run an operation, and keep the values of its results where those of its operands are known."""
        with torch_private.without_torch_functions():
            return self._run(func, args, kwargs)

    def _run(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        tensors = tensors_in((args, kwargs))
        known = all(self.value_of(tensor) is not None for tensor in tensors)
        if func is _aten._local_scalar_dense.default:  # noqa: SLF001
            return self._scalar(func, args)
        try:
            out = self._run_fake(func, args, kwargs)
        except (DynamicOutputShapeException, DataDependentOutputException):
            positional = self._by_positions(func, args)
            if positional is not None:
                out = positional(*args[2:], **kwargs)
            elif known:
                self._mark(tensors)
                result = self._run_real(func, args, kwargs)
                return tree_map_only(Tensor, lambda real: self._fake(real, tensors), result)
            else:
                raise
        written = _list_written_tensors(func, args, kwargs)
        if (
            known
            and all(tensor.numel() <= _MOST_NUMEL for tensor in tensors_in(out))
            and all(isinstance(tensor, FakeTensor) for tensor in written)
        ):
            self._compute(func, args, kwargs, out)
        else:
            self._lose(written)
        return out

    def _scalar(self, func: Any, args: Sequence[Any]) -> Any:
        value = self.value_of(args[0])
        if isinstance(args[0], FakeTensor):
            checked = args[0].dtype is torch.bool and validates_arguments()
            if value is not None:
                if not checked:
                    self._mark(args[:1])
                return self._run_real(func, args, {})
            if checked:
                return True
        return func(*args)

    def _compute(self, func: Any, args: Any, kwargs: dict[str, Any], out: Any) -> None:
        """Run an operation whose operands are known, and keep what it makes with the fake results."""
        sources = tensor_leaves((args, kwargs))
        try:
            results = tensor_leaves(self._run_real(func, args, kwargs))
        except Exception:  # noqa: BLE001 - e.g. a device that is not here: the result is not known
            self._lose(_list_written_tensors(func, args, kwargs))
            return
        for fake, value in zip(tensor_leaves(out), results, strict=False):
            if isinstance(fake, FakeTensor) and value.device.type == "cpu" and fake.shape == value.shape:
                _attach(fake, value, of_batch=self._is_of_batch(sources))

    def _run_real(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        def real_of(tensor: Tensor) -> Tensor | None:
            value = self.value_of(tensor)
            # A result may share the memory of an operand, and a tensor of the user's must not be written to.
            return value if value is None or isinstance(tensor, FakeTensor) else value.clone()

        with unset_fake_temporarily(), torch.no_grad():
            real_args, real_kwargs = tree_map_only(Tensor, real_of, (args, kwargs))
            return func(*real_args, **real_kwargs)

    def _by_positions(self, func: Any, args: Sequence[Any]) -> Callable[..., Any] | None:
        """Return an operation that selects by known masks as one that selects by positions; None for any other."""
        if func is _aten.masked_select.default and self.value_of(args[1]) is not None:
            source, mask = cast("Any", torch).broadcast_tensors(args[0], args[1])
            return partial(_aten.index.Tensor, source, self._positions(mask))
        indices: Any = args[1] if len(args) > 1 else None
        if not isinstance(indices, (list, tuple)) or "index" not in str(func):
            return None
        positions: list[Any] = []
        for index in cast("Sequence[Any]", indices):
            mask = isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8)
            if mask and self.value_of(index) is None:
                return None
            positions += self._positions(index) if mask else [index]
        return partial(func, args[0], positions)

    def _positions(self, mask: Tensor) -> list[Tensor]:
        """Return the positions at which a known mask is true, one fake tensor for each of its axes."""
        self._mark([mask])
        indices = self._run_real(_aten.nonzero.default, (mask,), {})
        return [self._fake(axis, [mask]) for axis in indices.unbind(1)]

    def _fake(self, real: Tensor, sources: Sequence[Tensor]) -> Tensor:
        fake = self._mode.from_tensor(real, static_shapes=True)
        _attach(fake, real, of_batch=self._is_of_batch(sources))
        return fake

    def _lose(self, written: Sequence[Tensor]) -> None:
        """Forget the values of tensors that unknown values are written to, and of all that share their memory."""
        for tensor in written:
            value = vars(tensor).get(_VALUE) if isinstance(tensor, FakeTensor) else None
            if value is not None:
                storage = value.untyped_storage()
                self._lost[storage_address(storage)] = storage

    def _is_of_batch(self, tensors: Sequence[Tensor]) -> bool:
        return any(hasattr(self.value_of(tensor), _OF_BATCH) for tensor in tensors)

    def _mark(self, tensors: Sequence[Tensor]) -> None:
        """Remember the user's line if a value of the batch is read there."""
        if len(self._places) < _MOST_PLACES and self._is_of_batch(tensors):
            code_place = place_of_caller()
            if code_place is not None:
                self._places[code_place] = None


def _is_small(tensor: Tensor) -> bool:
    """Return whether a real tensor is one whose values are kept: few, on the host, and no part of a graph."""
    plain = tensor.layout is torch.strided and tensor.device.type == "cpu" and not tensor.requires_grad
    return plain and tensor.numel() <= _MOST_NUMEL and not torch_private.is_wrapper_subclass(type(tensor))


def _attach(fake: Tensor, value: Tensor, *, of_batch: bool) -> None:
    if of_batch:
        setattr(value, _OF_BATCH, True)
    setattr(fake, _VALUE, value)


def _list_written_tensors(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> list[Tensor]:
    """Return the tensors that an operation writes to in place."""
    if not func._schema.is_mutable:  # noqa: SLF001
        return []
    tensors: list[Tensor] = []
    for position, argument in enumerate(func._schema.arguments):  # noqa: SLF001
        # `argument.is_write` is of newer torch.
        if argument.alias_info is not None and argument.alias_info.is_write:
            given = args[position] if position < len(args) else kwargs.get(argument.name)
            tensors += tensor_leaves(given)
    return tensors


def validates_arguments() -> bool:
    """Return whether torch.distributions is asking whether its arguments or a sample are valid."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_code.co_filename != _VALIDATION:
        # Between the question and this answer there is only torch's and our own code.
        if not is_of_tracing(frame.f_code.co_filename):
            return False
        frame = frame.f_back
    return frame is not None
