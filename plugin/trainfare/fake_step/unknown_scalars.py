"""Scalars read from fake tensors, which have no values: they may be logged, but no computation may use them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NoReturn, cast

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException
from torch.overrides import TorchFunctionMode

from trainfare.fake_step.known_values import KnownValues


class UnknownScalar:
    """
    The result of `loss.item()` in a trace: it can be passed on and printed, and what is computed of it and of numbers
    is not known either; every other operation on it raises.

    Args:
        operation: by which the value was read; the error itself would keep its tensors in memory.
    """

    def __init__(self, operation: Any) -> None:
        self.operation = operation

    def __repr__(self) -> str:
        return "unknown"

    def __format__(self, spec: str) -> str:
        return "unknown"


def _refuse(self: UnknownScalar, *_: object) -> NoReturn:
    raise DataDependentOutputException(self.operation)


# Special methods, without their underscores, that would need the value.
_OPERATORS = (
    "bool float int complex index round trunc floor ceil neg pos abs eq ne lt le gt ge "
    "floordiv rfloordiv mod rmod pow rpow divmod and or xor "
    "hash iter len getitem contains call"
)
for _name in _OPERATORS.split():
    setattr(UnknownScalar, f"__{_name}__", _refuse)


def _compute(self: UnknownScalar, other: object) -> UnknownScalar:
    """Return the result of arithmetic with a number, as a running mean of a loss is made; with a tensor it raises."""
    return self if isinstance(other, (int, float, UnknownScalar)) else _refuse(self)


for _name in "add radd sub rsub mul rmul truediv rtruediv".split():  # noqa: SIM905 - as above
    setattr(UnknownScalar, f"__{_name}__", _compute)

_tensor = cast("Any", Tensor)
_READS: frozenset[Any] = frozenset({_tensor.numpy, _tensor.tolist})
"""Methods that read all values of a tensor."""
_CONVERSIONS: frozenset[Any] = frozenset(
    {_tensor.__float__, _tensor.__int__, _tensor.__index__, _tensor.__complex__}
)
"""Conversions to a Python number, of which torch warns where the tensor has a gradient."""


class ScalarReads(TorchFunctionMode):
    """
    Makes `tensor.item()` on a fake tensor whose value is not known return an `UnknownScalar`.

    Args:
        known: the values that are known; None where the tensors are real, and every value is.
        note_read: called with a tensor whose values are read.

    Attributes:
        count: how often a value was read; in a real run, each read makes the host wait for the device.
    """

    def __init__(self, known: KnownValues | None, note_read: Callable[[Tensor], None]) -> None:
        super().__init__()
        self.count = 0
        self._known, self._note_read = known, note_read

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        name = str(getattr(func, "__name__", ""))
        if name == "__get__":  # an attribute of a tensor, which is no value
            return func(*args, **kwargs)
        if (
            func in _CONVERSIONS
        ):  # torch would name our line in its warning, which the user's run gives anyway
            args = (args[0].detach(), *args[1:])
        if func in _READS:
            self._note_read(args[0])
        if self._known is None:
            self.count += func is Tensor.item
            return func(*args, **kwargs)
        if func in _READS and self._known.value_of(args[0]) is not None:
            self.count += 1
            return self._known.read(func, *args, **kwargs)
        if func is _tensor.__format__ and args[0].dim() == 0:
            return format(self.__torch_function__(Tensor.item, types, args[:1]), args[1])
        if func is not Tensor.item:
            out = func(*args, **kwargs)
            self._known.say_finite(name, out)
            return out
        try:
            return func(*args, **kwargs)
        except DataDependentOutputException as error:
            self.count += 1
            return UnknownScalar(error.func)


def tolerant_metrics(module: nn.Module, notes: list[str]) -> None:
    """
    Make torchmetrics metrics return zero where they need values, e.g. to validate their inputs.

    A metric's result is logged and not trained on. Each metric that was cut short is added to `notes`.
    """
    modules = cast("Iterable[tuple[str, nn.Module]]", module.named_modules())
    for name, member in modules:
        if not any(base.__module__.startswith("torchmetrics") for base in type(member).__mro__):
            continue
        for method in ("forward", "update", "compute"):
            original = getattr(member, method, None)
            if callable(original):
                object.__setattr__(member, method, _tolerant(original, name, notes))


def _tolerant(original: Callable[..., Any], name: str, notes: list[str]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return original(*args, **kwargs)
        except (DataDependentOutputException, DynamicOutputShapeException):
            note = f"the metric {name} needs values: only a part of its operations is counted"
            if note not in notes:
                notes.append(note)
            return torch.zeros(())

    return run
