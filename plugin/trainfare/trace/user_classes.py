"""
Tensor classes and torch modes of the user's: which ones a trace leaves as they are, and what it would disturb.

One is known where a step with it is bitwise the same under a trace, and is recorded as it runs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from types import FunctionType
from typing import Any, Final, cast

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from trainfare.trace import torch_private

_KNOWN_CLASSES: Final = ("torch.nn.parameter", "torch.nested.", "torch.distributed.", "torch._")
"""Modules of torch whose classes are known: parameters, nested tensors, DTensor, fake tensors."""
_KNOWN_MODES: Final = ("torch.utils._device", "torch.utils.checkpoint", "torch._", "trainfare.")
"""Modules whose modes are known: `torch.device` as a context, selective checkpointing, fake tensors."""
_DELEGATES: Final = frozenset({"__torch_function__", "DisableTorchFunctionSubclass", "super"})
"""What a method names that gives its calls to torch's own."""
_READ: Final = (
    "__torch_function__", "device", "dim", "dtype", "element_size", "grad_fn", "is_floating_point", "layout", "numel",
    "requires_grad", "shape", "size", "stride", "untyped_storage",
)  # fmt: skip
"""Attributes of a tensor that a trace reads, where a class of the user's would run code of its own."""
_TENSOR: Final = cast("Any", torch.Tensor)


class UntracedStepError(Exception):
    """A step holds a class or mode that is not known."""

    def __init__(self, what: str, kind: Any, why: str) -> None:
        functions = (
            getattr(value, "__func__", value) for value in cast("dict[str, Any]", vars(kind)).values()
        )
        codes = [function.__code__ for function in functions if isinstance(function, FunctionType)]
        first = min(codes, key=lambda code: code.co_firstlineno, default=None)  # opens no file
        where = kind.__module__ if first is None else f"{Path(first.co_filename).name}:{first.co_firstlineno}"
        super().__init__(f"the step {what} {kind.__qualname__} ({where}), {why}")


def check_classes(kinds: Iterable[Any]) -> None:
    """Raise an UntracedStepError where one of the classes of tensors is not known."""
    for kind in kinds:
        why = None if kind is torch.Tensor else _explain_class(kind)
        if why is not None:
            raise UntracedStepError("uses the tensor subclass", kind, why)


def _explain_class(kind: Any) -> str | None:
    if not issubclass(cast("type", kind), torch.Tensor) or kind.__module__.startswith(_KNOWN_CLASSES):
        return None  # an object that is no tensor takes whole calls, and torch dispatches plain tensors
    if kind.__torch_dispatch__ is not _TENSOR.__torch_dispatch__:
        return "which runs its operations itself"
    own = next(
        (name for name in _READ if not _is_of_torch(getattr(kind, name), getattr(_TENSOR, name))), None
    )
    return None if own is None else f"whose {own} is not torch's"


def _is_of_torch(value: Any, of_torch: Any) -> bool:
    """Return whether an attribute of a class is torch's, or a method or property that calls torch's."""
    function = getattr(value, "__func__", getattr(value, "fget", value))
    if value is of_torch or not isinstance(function, FunctionType):
        return value is of_torch or value is torch_private.NO_TORCH_FUNCTION
    return not _DELEGATES.isdisjoint(function.__code__.co_names)


def is_known_mode(kind: Any) -> bool:
    """Return whether a mode of this class does not disturb a trace."""
    return str(kind.__module__).startswith(_KNOWN_MODES)


def check_mode(kind: Any) -> None:
    """Raise an UntracedStepError where a mode of this class is not known."""
    if not is_known_mode(kind):
        raise UntracedStepError("runs under the torch mode", kind, "which sees its operations")


_reports: list[Callable[[Any], object]] = []
_replaced: list[tuple[Any, str, Any, Any]] = []
"""What was replaced: owner, name, replacement, and the owner's own attribute before (None: it has inherited it)."""


@contextmanager
def spare_classes(report_mode: Callable[[Any], object] = is_known_mode) -> Generator[None, None, None]:
    """
    Let tensor subclasses be made under a dispatch mode as without one; contexts may overlap in any order.

    Args:
        report_mode: called with the class of every mode that is entered meanwhile; must not raise.
    """
    torch_private.import_compiler()
    _reports.append(report_mode)
    if len(_reports) == 1:
        _replace(torch.Tensor, "__new__", staticmethod(functools.partial(_make_tensor, _TENSOR.__new__)))
        if torch_private.casts_under_modes():
            _replace(torch.Tensor, "as_subclass", _past_modes(_TENSOR.as_subclass))
        for base in (TorchDispatchMode, TorchFunctionMode):
            _replace(base, "__enter__", _reporting(cast("Any", base).__enter__))
    try:
        yield
    finally:
        _reports.remove(report_mode)
        while _replaced and not _reports:
            _put_back(*_replaced.pop())


def _replace(owner: Any, name: str, value: Any) -> None:
    _replaced.append((owner, name, value, cast("dict[str, Any]", vars(owner)).get(name)))
    setattr(owner, name, value)


def _put_back(owner: Any, name: str, value: Any, before: Any) -> None:
    if cast("dict[str, Any]", vars(owner)).get(name) is not value:
        return  # somebody has replaced it since, over ours
    if before is None:
        delattr(owner, name)
    else:
        setattr(owner, name, before)


def _make_tensor(make: Callable[..., Any], cls: Any, *args: Any, **kwargs: Any) -> Any:
    """
    Make a tensor as `Tensor.__new__` does, a subclass by `as_subclass`.

    torch's own gives another class to the result of an operation, which has a Python object under a dispatch mode.
    """
    if cls is torch.Tensor:
        return make(cls, *args, **kwargs)
    casts = len(args) == 1 and not kwargs and isinstance(args[0], torch.Tensor)
    plain = args[0] if casts else make(torch.Tensor, *args, **kwargs)
    with torch_private.without_torch_functions():
        return _TENSOR.as_subclass(plain, cls)


def _past_modes(cast_tensor: Callable[..., Any]) -> Callable[..., Any]:
    """Return `as_subclass` as torch has it from 2.6 on, past the modes: it fails where one of them makes its alias."""

    def as_subclass(self: Any, cls: Any) -> Any:
        with torch_private.without_modes():
            return cast_tensor(self, cls)

    return as_subclass


def _reporting(enter: Callable[..., Any]) -> Callable[..., Any]:
    def enter_mode(self: Any) -> Any:
        for report in tuple(_reports):
            report(type(self))
        return enter(self)

    return enter_mode
