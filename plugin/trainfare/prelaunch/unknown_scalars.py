"""Values that a trace does not have: one that is read may be logged, and nothing may depend on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NoReturn, cast

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException
from torch.overrides import TorchFunctionMode

__all__ = ["ReadsOfValues", "UnknownValue", "tolerant_metrics"]


class UnknownValue:
    """
    What `loss.item()` gives in a trace: it can be passed on and printed, and raises on any use of its value.

    Args:
        error: what to raise, from the place where the value was asked for.
    """

    def __init__(self, error: DataDependentOutputException) -> None:
        self.error = error

    def __repr__(self) -> str:
        return "unknown"

    def __format__(self, spec: str) -> str:
        return "unknown"


def _refuse(self: UnknownValue, *_: object) -> NoReturn:
    raise DataDependentOutputException(self.error.func)


for _name in [
    "bool",
    "float",
    "int",
    "complex",
    "index",
    "round",
    "trunc",
    "floor",
    "ceil",
    "neg",
    "pos",
    "abs",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "add",
    "radd",
    "sub",
    "rsub",
    "mul",
    "rmul",
    "truediv",
    "rtruediv",
    "floordiv",
    "rfloordiv",
    "mod",
    "rmod",
    "pow",
    "rpow",
    "divmod",
    "and",
    "or",
    "xor",
    "hash",
    "iter",
    "len",
    "getitem",
    "contains",
    "call",
]:
    setattr(UnknownValue, f"__{_name}__", _refuse)


class ReadsOfValues(TorchFunctionMode):
    """
    Lets `tensor.item()` pass on fake tensors, as an `UnknownValue`.

    Attributes:
        reads: how often a value was read; each one makes the host wait for the device in a real run.
    """

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is not Tensor.item:
            return func(*args, **(kwargs or {}))
        try:
            return func(*args, **(kwargs or {}))
        except DataDependentOutputException as error:
            self.reads += 1
            return UnknownValue(error)


def tolerant_metrics(module: nn.Module, notes: list[str]) -> None:
    """
    Let metrics that look at values (torchmetrics validates its inputs) be skipped where they cannot run.

    Their result is then a zero; it is logged and never trained on. What was skipped is added to `notes`.
    """
    named = cast("Iterable[tuple[str, nn.Module]]", module.named_modules())
    for name, member in named:
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
            note = f"the metric {name} looks at values: its work is only partly counted"
            if note not in notes:
                notes.append(note)
            return torch.zeros(())

    return run
