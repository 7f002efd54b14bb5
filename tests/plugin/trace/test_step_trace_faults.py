"""A fault in any handler of a trace ends the recording, and the step is the same; torch is put back exactly."""

from __future__ import annotations

import contextlib
from dataclasses import fields
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from builders.contract import assert_unchanged  # type: ignore[import-not-found]
from trainfare.trace import StepTrace
from trainfare.trace.memory import MemoryWatch
from trainfare.trace.module_work import ModuleWatch
from trainfare.trace.recorder import Recorder
from trainfare.trace.user_classes import spare_classes

HANDLERS = [
    *(field.name for field in fields(Recorder) if not field.name.startswith("_")),
    "record",
    "close_region",
]


class Block(nn.Module):
    """Attention, which is one fused call, and a part that is run again in backward."""

    def __init__(self) -> None:
        super().__init__()
        self.project, self.mix = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        heads = self.project(x)[:, None]
        x = x + F.scaled_dot_product_attention(heads, heads, heads)[:, 0]
        return checkpoint(lambda tensor: F.relu(self.mix(tensor)), x, use_reentrant=False)  # type: ignore[no-any-return]


class Odd(nn.Module):
    """Cannot be looked up in a dict."""

    __hash__ = None  # type: ignore[assignment]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.square().mean()


class FaultyRecorder(Recorder):
    """Raises where a handler reads or sets one of its attributes, once it is told which."""

    fails = ""

    def __getattribute__(self, name: str) -> Any:
        if name == FaultyRecorder.fails:
            raise ValueError(f"fault in {name}")
        return super().__getattribute__(name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == FaultyRecorder.fails:
            raise ValueError(f"fault in {name}")
        super().__setattr__(name, value)


def train(trace: StepTrace | None = None, fails: str = "", loss: Any = None) -> list[Any]:
    torch.manual_seed(3)
    model = nn.Sequential(Block(), Block())
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=2)
    clip, batch = torch.nn.utils.clip_grad_norm_, torch.randn(2, 4, 8)
    losses = []

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        value = (loss or Odd())(model(batch))
        value.backward()
        losses.append(value.item())
        return value  # type: ignore[no-any-return]

    with trace or contextlib.nullcontext():
        FaultyRecorder.fails = fails
        try:
            closure()
            clip(model.parameters(), 1.0)
            optimizer.step(closure)  # type: ignore[no-untyped-call]
        finally:
            FaultyRecorder.fails = ""
    return [losses, [parameter.tolist() for parameter in model.parameters()]]


@pytest.mark.parametrize("name", HANDLERS)
def test_a_fault_in_a_handler_ends_the_recording_alone(name: str) -> None:
    """Whatever attribute of the recorder a handler fails on, losses and weights are those of a step without a trace."""
    plain = train()
    trace = StepTrace(nn.Sequential(Block(), Block()), make_recorder=FaultyRecorder)
    with assert_unchanged():
        assert train(trace, name, loss=lambda out: out.square().mean()) == plain
    unread = {"ledger", "notes", "real", "close_region"}  # not by a handler itself
    assert name in unread or f"fault in {name}" in trace.notes[-1]


def test_a_module_that_cannot_be_looked_up_is_called_all_the_same() -> None:
    """The step is the same, and the trace says that it is incomplete."""
    trace = StepTrace(nn.Sequential(Block(), Block()))
    assert train(trace) == train()
    assert "unhashable" in trace.notes[-1]


def test_the_start_of_a_trace_of_a_module_with_faults_changes_nothing() -> None:
    """A recorder that cannot be made leaves no hook and no mode."""

    def refuse(_memory: MemoryWatch, _modules: ModuleWatch) -> Recorder:
        raise ValueError("no recorder")

    with assert_unchanged(), pytest.raises(ValueError, match="no recorder"):
        StepTrace(nn.Linear(2, 2), make_recorder=refuse).start()


class Labelled(torch.Tensor):
    """Has a label."""

    label: str


class ForwardingMode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Changes nothing, but gives every result a Python object."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


class Calls(TorchFunctionMode):
    """Changes nothing."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


def make_labelled() -> Labelled:
    with ForwardingMode():  # type: ignore[no-untyped-call]
        return torch.Tensor.__new__(Labelled, torch.ones(2) * 2)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_constructors_are_put_back_whatever_order_two_contexts_end_in(order: tuple[int, int]) -> None:
    """`Tensor.__new__`, and the entries of modes, are torch's own again after the last of them, and work before."""
    before = [dict(vars(owner)) for owner in (TorchDispatchMode, TorchFunctionMode)]
    contexts = [spare_classes(), spare_classes()]
    for context in contexts:
        context.__enter__()
    for index in order:
        assert type(make_labelled()) is Labelled
        contexts[index].__exit__(None, None, None)
    assert not {"__new__", "as_subclass"} & vars(torch.Tensor).keys()
    assert [dict(vars(owner)) for owner in (TorchDispatchMode, TorchFunctionMode)] == before
    assert type(torch.Tensor([1.0])) is torch.Tensor
    with pytest.raises(RuntimeError, match="Creating a new Tensor subclass"):
        make_labelled()


def test_a_trace_inside_another_leaves_it_as_it_was() -> None:
    """The outer one records what follows; after it, torch is as before."""
    model, call = nn.Linear(2, 2), nn.Module.__call__
    with assert_unchanged(), StepTrace(model, vetted_only=True) as outer:
        with StepTrace(model) as inner:
            pass
        model(torch.ones(1, 2))
        assert type(torch.Tensor.__new__(Labelled, torch.ones(2) * 2)) is Labelled
    assert (inner.fault, outer.fault) == (None, None)
    assert outer.operations()
    assert nn.Module.__call__ is call


def test_torch_is_put_back_after_an_exception() -> None:
    """Also where a step raises inside a mode of the user's."""
    with (
        assert_unchanged(),
        pytest.raises(KeyError),
        StepTrace(nn.Linear(2, 2), vetted_only=True) as trace,
        Calls(),
    ):
        raise KeyError
    assert "__new__" not in vars(torch.Tensor)
    assert "runs under the torch mode Calls (test_step_trace_faults.py:" in trace.notes[-1]


@pytest.mark.parametrize(
    "arguments", [([1.0, 2.0],), (3,), (2, 3), (), (torch.ones(2),), (torch.ones(2, requires_grad=True),)]
)
def test_a_subclass_is_made_as_without_a_mode(arguments: tuple[Any, ...]) -> None:
    """Torch's old constructor takes lists, sizes and tensors; a result of an operation has a Python object already."""
    plain = torch.Tensor.__new__(Labelled, *arguments)
    with StepTrace(nn.Linear(2, 2)) as trace:
        made = torch.Tensor.__new__(Labelled, *arguments)
    assert (type(made), made.shape, made.dtype) == (type(plain), plain.shape, plain.dtype)
    assert (made.requires_grad, type(made.grad_fn)) == (plain.requires_grad, type(plain.grad_fn))
    assert trace.fault is None


def test_what_a_library_put_over_ours_stays() -> None:
    """A library that replaces `Tensor.__new__` in the middle of a step is not undone."""

    def new(cls: Any, *args: Any) -> Any:
        return torch.Tensor.as_subclass(args[0], cls)

    try:
        with spare_classes():
            torch.Tensor.__new__ = staticmethod(new)  # type: ignore[method-assign]
        assert vars(torch.Tensor)["__new__"].__func__ is new
    finally:
        del torch.Tensor.__new__
