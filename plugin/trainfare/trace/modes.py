"""The two torch modes of a trace, and a way to leave them at any depth of the mode stack."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from types import FunctionType
from typing import Any, Final, cast

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from trainfare.trace import torch_private
from trainfare.trace.storages import tensors_in
from trainfare.trace.user_classes import is_known_mode

_CHECKS: Final = frozenset({
    "has_torch_function", "has_torch_function_unary", "has_torch_function_variadic"
})  # fmt: skip
"""Functions by which torch's Python code asks whether a mode is on."""
_PLAIN: Final = (torch.Tensor, torch.nn.Parameter, FakeTensor)
left_later: list[OperationMode] = []
"""Modes that were to be left under `inference_mode`; they record nothing any more."""


class EagerMode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A dispatch mode for a step that is not compiled (stance "force_eager"), without torch's check for a compiler."""

    def __init__(self) -> None:
        cast("Any", super()).__init__()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if torch_private.asks_device(func, args):
            return args[0].device
        if any(torch_private.is_wrapper_subclass(kind) for kind in types):
            return NotImplemented
        return self.run_operation(func, args, kwargs or {})

    def run_operation(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run an operation on tensors that wrap no others."""
        return func(*args, **kwargs)


class OperationMode(EagerMode):  # type: ignore[no-untyped-call]
    """
    Runs every dispatched operation unchanged, then calls `on_operation(func, args, kwargs, out)`.

    Operations that `records(classes)` declines are passed on. Those on a tensor that wraps others (DTensor, a nested
    tensor) are not reported: torch dispatches again with the local tensors inside, so sharded work is recorded at its
    size on one device and not at its global size.
    """

    supports_higher_order_operators = True

    def __init__(
        self,
        on_operation: Callable[[Any, Sequence[Any], dict[str, Any], Any], None],
        records: Callable[[Sequence[Any]], bool] = lambda _: True,
    ) -> None:
        super().__init__()
        torch_private.enable_higher_order_operators(OperationMode, _run_operator)
        self._on_operation = on_operation
        self.records = records
        self.running = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch_private.asks_device(func, args):
            return args[0].device
        recorded = self.records(types)
        if not recorded and _runs_itself(types):
            return NotImplemented  # torch asks the class next, as it does without a mode
        if any(torch_private.is_wrapper_subclass(kind) for kind in types):
            return NotImplemented
        return self.run(func, args, kwargs or {}, recorded=recorded)

    def run(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any], *, recorded: bool = True) -> Any:
        """Run an operation, then report it."""
        # Called from Python, it asks the classes and modes of the user's, which backward does not.
        asks = any(type(tensor) not in _PLAIN for tensor in tensors_in(args)) or (
            not recorded and not all(is_known_mode(type(mode)) for mode in torch_private.function_modes())
        )
        outer, self.running = self.running, True
        try:
            with torch_private.without_torch_functions() if asks else nullcontext():
                out = func(*args, **kwargs)
        finally:
            self.running = outer
        with torch_private.without_torch_functions():
            self._on_operation(func, args, kwargs, out)
        return out


def _runs_itself(kinds: Sequence[Any]) -> bool:
    default = cast("Any", torch.Tensor).__torch_dispatch__
    return any(kind.__torch_dispatch__ is not default and not issubclass(kind, FakeTensor) for kind in kinds)


def _run_operator(operator: Any, mode: OperationMode, *args: Any, **kwargs: Any) -> Any:
    return mode.run(operator, args, kwargs)


class CallMode(TorchFunctionMode):
    """
    Passes every call of a torch function that is not Python code to `call(func, args, kwargs)`, which runs it.

    A Python function of torch passes a mode the whole call and none of the calls inside it. This mode runs a copy
    of the function without that check, so that the calls inside it are passed on one by one. Calls that a
    dispatched operation makes itself are not passed on.
    """

    def __init__(
        self, call: Callable[[Any, Sequence[Any], dict[str, Any]], Any], operations: OperationMode
    ) -> None:
        super().__init__()
        self._call = call
        self._operations = operations
        self._bodies: dict[FunctionType, FunctionType | None] = {}
        self._running: list[FunctionType] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self._operations.running or not self._operations.records(types):
            return func(*args, **kwargs)
        body = self._body(func) if isinstance(func, FunctionType) and not _overrides(types) else None
        if body is None:
            return self._call(func, args, kwargs)
        self._running.append(func)
        cast("Any", self).__enter__()
        try:
            return body(*args, **kwargs)
        finally:
            leave(self)
            self._running.pop()

    def _body(self, func: FunctionType) -> FunctionType | None:
        # A method that calls the C function of the same name (Tensor.split) would come back here without end, and
        # so would torch._assert, whose check for modes is not among `_CHECKS`.
        if func is cast("Any", torch.Tensor).__format__:
            return None  # a fake tensor has no value to format: another mode may answer the whole call
        if self._running and self._running[-1] is func and func.__module__ in ("torch._tensor", "torch"):
            return None
        if func not in self._bodies:
            self._bodies[func] = _without_checks(func)
        return self._bodies[func]


def _without_checks(func: FunctionType) -> FunctionType | None:
    """
    Return a copy of a function without its checks for modes; None where it has none that can be left out.

    A check by its whole name, as `torch.overrides.has_torch_function` in `torch.nn.init`, would stay in the copy,
    which would then pass itself on without end.
    """
    if func.__module__.partition(".")[0] != "torch":
        return None  # the copy has globals of its own, which a function of the user's may assign to
    if not _CHECKS & set(func.__code__.co_names) & func.__globals__.keys():
        return None
    scope = {**func.__globals__, **dict.fromkeys(_CHECKS, _never)}
    body = FunctionType(func.__code__, scope, func.__name__, func.__defaults__, func.__closure__)
    body.__kwdefaults__ = func.__kwdefaults__
    return body


def _never(*_: object) -> bool:
    return False


def _overrides(kinds: Sequence[Any]) -> bool:
    """Return whether a tensor class defines `__torch_function__`, which must get the whole call."""
    default = cast("Any", torch.Tensor).__torch_function__.__func__
    return any(getattr(kind.__torch_function__, "__func__", None) is not default for kind in kinds)


def leave(mode: OperationMode | CallMode) -> None:
    """
    Leave a mode at any depth of this thread's stack; do nothing where it is not on the stack.

    Modes above it are left and entered again with torch's own methods: each remembers the mode below it and would
    restore this one on its own exit. Under `torch.inference_mode`, whose end brings back the dispatch keys of its
    beginning, a dispatch mode stays until `leave_rest`: else torch dispatches to Python where no mode is left.
    """
    if isinstance(mode, OperationMode) and torch.is_inference_mode_enabled():
        left_later.append(mode)
        return
    stack = torch_private.dispatch_modes if isinstance(mode, OperationMode) else torch_private.function_modes
    base = cast("Any", TorchDispatchMode if isinstance(mode, OperationMode) else TorchFunctionMode)
    if not any(other is mode for other in stack()):
        return
    above: list[Any] = []
    while stack()[-1] is not mode:
        above.append(stack()[-1])
        base.__exit__(above[-1], None, None, None)
    base.__exit__(mode, None, None, None)
    for other in reversed(above):
        base.__enter__(other)


def leave_rest() -> None:
    """Leave the modes that could not be left under `torch.inference_mode`, once that has ended."""
    if not left_later or torch.is_inference_mode_enabled():
        return
    stack = torch_private.dispatch_modes()
    for mode in [mode for mode in left_later if any(other is mode for other in stack)]:  # of this thread
        left_later.remove(mode)
        leave(mode)
