"""Recording a step changes nothing: the same bits, the same graph, and no mode or hook left on any path."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.optim import optimizer as torch_optimizer
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack
from torch.utils._python_dispatch import (
    TorchDispatchMode,
    _get_current_dispatch_mode_stack,
    is_in_torch_dispatch_mode,
)

from builders.models import Gpt2, Llama, SmallCnn, SmallLstm
from builders.versions import needs_version
from trainfare.trace import StepTrace

IMAGES, TOKENS, ROWS = (4, 3, 8, 8), (2, 16), (4, 12, 64)


def tokens() -> torch.Tensor:
    return torch.randint(0, 32, TOKENS)


MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[[], torch.Tensor]]] = {
    "cnn": (SmallCnn, lambda: torch.randn(IMAGES)),
    "gpt": (lambda: Gpt2(2, 32, 4, 32, 16), tokens),
    "llama": (lambda: Llama(2, 32, 48, 4, 2, 32), tokens),
    "checkpoint": (lambda: Llama(2, 32, 48, 4, 2, 32, checkpointed="yes"), tokens),
    "reentrant": (lambda: Llama(2, 32, 48, 4, 2, 32, checkpointed="reentrant"), tokens),
    "lstm": (lambda: SmallLstm(layers=2, both=True), lambda: torch.randn(ROWS)),
    "encoder": (
        lambda: nn.Sequential(
            nn.Embedding(32, 16), nn.TransformerEncoderLayer(16, 2, 32, dropout=0.1, batch_first=True)
        ),
        tokens,
    ),
}


_TWO_BIASES = needs_version(
    "torch", "2.6", "fake kernels give two biases one gradient, which autograd copies"
)


def loss_of(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
    out = model(batch)
    classes = out.shape[-1]
    return F.cross_entropy(out.reshape(-1, classes), torch.zeros(out.numel() // classes, dtype=torch.long))


def train_module(
    name: str, *, watched: bool, steps: int = 3, **options: Any
) -> tuple[list[torch.Tensor], list[float]]:
    """Train a few steps from one seed; return every tensor that two runs could differ in, and the losses."""
    torch.manual_seed(7)
    build, make = MODELS[name]
    model = build()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, **options)
    losses = []
    for _ in range(steps):
        batch = make()
        trace = StepTrace(model, [optimizer])
        if watched:
            trace.start()
        loss = loss_of(model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        trace.stop()
        assert trace.fault is None
        losses.append(loss.item())
    state = [t for s in optimizer.state.values() for t in s.values()]
    return [*model.state_dict().values(), *state, torch.get_rng_state()], losses


@pytest.mark.parametrize("name", sorted(MODELS))
def test_a_recorded_run_is_bitwise_the_same(name: str) -> None:
    """Weights, statistics, optimizer state, losses and the random state, dropout included."""
    before, losses = train_module(name, watched=False)
    after, watched_losses = train_module(name, watched=True)
    assert losses == watched_losses
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("option", ["foreach", "fused"])
def test_every_optimizer_update_is_bitwise_the_same(option: str) -> None:
    """Multi-tensor and fused updates change their operands in place under the mode."""
    before, _ = train_module("cnn", watched=False, **{option: True})
    after, _ = train_module("cnn", watched=True, **{option: True})
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=_TWO_BIASES) if name == "lstm" else name for name in sorted(MODELS)]
)
def test_real_and_fake_agree_operation_by_operation(name: str) -> None:
    """The same groups, shapes, bytes, FLOPs, memory and optimizer facts on fake tensors."""
    real, fake = _second_step(name), None
    with FakeTensorMode():
        fake = _second_step(name)
    assert real.operations() == fake.operations()
    assert real.memory() == fake.memory()
    assert real.parameters() == fake.parameters()
    assert real.optimizer_facts() == fake.optimizer_facts()
    assert real.operations()


def _second_step(name: str) -> StepTrace:
    build, make = MODELS[name]
    model = build()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    # The first is traced as well: torch's fake kernels give both biases of a recurrent layer one gradient when they
    # first meet a size, and later two.
    for _ in range(2):
        batch = make()
        with StepTrace(model, [optimizer]) as trace:
            loss_of(model, batch).backward()
            optimizer.step()
            optimizer.zero_grad()
        assert trace.fault is None
    return trace


def stacks() -> tuple[int, int, int, int]:
    return (
        len(_get_current_dispatch_mode_stack()),
        len(_get_current_function_mode_stack()),
        len(torch_optimizer._global_optimizer_pre_hooks),
        len(torch_optimizer._global_optimizer_post_hooks),
    )


class Failing(nn.Module):
    """Raises in forward, or in backward through a hook."""

    def __init__(self, error: type[BaseException], where: str) -> None:
        super().__init__()
        self.layer, self.error, self.where = nn.Linear(4, 4), error, where

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.layer(x)
        if self.where == "forward":
            raise self.error
        y.register_hook(self._raise)
        return y

    def _raise(self, _: torch.Tensor) -> None:
        raise self.error


@pytest.mark.parametrize("where", ["forward", "backward"])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, torch.OutOfMemoryError])
def test_no_mode_or_hook_is_left_after_an_exception(where: str, error: type[BaseException]) -> None:
    """The user's exception passes unchanged, and both mode stacks and all hooks are as before."""
    model, before = Failing(error, where), stacks()
    with pytest.raises(error), StepTrace(model):
        model(torch.randn(2, 4)).sum().backward()
    assert stacks() == before == (0, 0, before[2], before[3])


def test_an_exception_inside_the_optimizer_leaves_no_mode_or_hook() -> None:
    """A closure that fails inside `step` keeps torch from calling the hook after it."""
    model, before = nn.Linear(2, 2), stacks()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def closure() -> float:
        raise ValueError

    with pytest.raises(ValueError), StepTrace(model, [optimizer]):
        optimizer.step(closure)
    assert stacks() == before


def test_stop_is_idempotent_and_start_is_not() -> None:
    """`stop` may be called any number of times; a second `start` raises and changes nothing."""
    trace, before = StepTrace(nn.Linear(2, 2)), stacks()
    trace.stop()
    trace.start()
    with pytest.raises(RuntimeError, match="watching already"):
        trace.start()
    assert stacks() != before
    trace.stop()
    trace.stop()
    assert stacks() == before


def test_stop_leaves_modes_that_others_entered_later() -> None:
    """The trace leaves from the middle of the stack; a mode above it stays where it was."""

    class Other(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            return func(*args, **(kwargs or {}))

    class OtherCalls(TorchFunctionMode):
        pass

    trace, before = StepTrace(nn.Linear(2, 2)), stacks()
    trace.start()
    with Other() as other, OtherCalls() as calls:
        trace.stop()
        assert _get_current_dispatch_mode_stack() == [other]
        assert _get_current_function_mode_stack() == [calls]
    assert stacks() == before
    assert not is_in_torch_dispatch_mode()  # what torch.compile asks before it compiles


def test_a_start_that_fails_half_way_is_undone() -> None:
    """A module whose parameters cannot be listed must not leave a hook behind."""

    class Odd(nn.Module):
        def parameters(self, recurse: bool = True) -> Any:
            return [object()]

    before = stacks()
    with pytest.raises(AttributeError):
        StepTrace(Odd()).start()
    assert stacks() == before


def test_a_fault_of_the_trace_is_noted_and_the_step_goes_on() -> None:
    """Recording ends, the step goes on, and the notes say that the trace is incomplete."""

    class Sized(torch.Tensor):
        @property
        def layout(self) -> Any:
            raise ValueError("no layout")

    model = nn.Linear(4, 4)
    x = torch.randn(2, 4).as_subclass(Sized)
    with StepTrace(model) as trace:
        out = model(x)
    assert out.shape == (2, 4)
    assert trace.fault is None or "incomplete" in trace.notes[-1]


def test_a_layer_made_in_the_step_gets_the_weights_that_it_gets_without_a_trace() -> None:
    """`torch.nn.init` asks for modes by a whole name, which a copy of its functions asks as well."""
    model, before = nn.Linear(4, 4), stacks()
    torch.manual_seed(0)
    alone = nn.Linear(4, 4).weight
    torch.manual_seed(0)
    with StepTrace(model) as trace:
        tensor = nn.Linear(4, 4).weight
    assert torch.equal(tensor, alone)
    assert trace.fault is None
    assert stacks() == before


def test_a_compiled_module_keeps_its_graphs() -> None:
    """After a traced step the compiled code runs again, and nothing is compiled a second time."""
    compiled = []

    def backend(graph: torch.fx.GraphModule, _: list[torch.Tensor]) -> Callable[..., Any]:
        compiled.append(graph)

        def run(*args: Any) -> Any:
            calls.append(1)
            return graph.forward(*args)

        return run

    calls: list[int] = []
    model = torch.compile(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), backend=backend)
    x = torch.randn(2, 4)
    model(x).sum().backward()
    assert (len(compiled), len(calls)) == (1, 1)
    with StepTrace(model) as trace:
        model(x).sum().backward()
    assert (len(compiled), len(calls)) == (1, 1), "the traced step must run uncompiled"
    assert sum(o.flops for o in trace.operations() if o.phase == "forward") == 2 * 2 * 4 * 4
    for _ in range(3):
        model(x).sum().backward()
    assert (len(compiled), len(calls)) == (1, 4), "the compiled code must be used again, as it was"


def test_functional_transforms_run_under_the_trace() -> None:
    """`torch.func` refuses to run under saved-tensor hooks, so none may be active around the whole step."""
    model, x = nn.Linear(4, 1), torch.randn(3, 4)
    weights = dict(model.named_parameters())

    def energy(row: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(model, weights, row).squeeze()

    plain = torch.func.vmap(torch.func.grad(energy))(x)
    with StepTrace(model) as trace:
        watched = torch.func.vmap(torch.func.grad(energy))(x)
    assert torch.equal(plain, watched)
    assert trace.fault is None


def test_the_users_own_saved_tensor_hooks_still_run() -> None:
    """Offloading by the user's hooks still happens, and tensors that they offload are not counted as kept."""
    model, x, packed = nn.Sequential(nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 8)), torch.randn(2, 8), []

    def pack(tensor: torch.Tensor) -> Any:
        packed.append(tensor)
        return tensor.numpy().copy()

    hooks = torch.autograd.graph.saved_tensors_hooks(pack, torch.from_numpy)
    with StepTrace(model) as trace, hooks:
        model(x).sum().backward()
    assert packed
    assert trace.memory().saved_activation_bytes == 0
    assert trace.fault is None


def test_a_tensor_class_with_its_own_torch_function_gets_its_calls() -> None:
    """A user's subclass gets the whole call of a Python function of torch, as without the trace."""
    seen = []

    class Named(torch.Tensor):
        @classmethod
        def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(func)
            return super().__torch_function__(func, types, args, kwargs or {})

    x = torch.randn(3, 3).as_subclass(Named)
    with StepTrace(nn.Linear(1, 1)):
        F.softmax(x, dim=-1)
    assert F.softmax in seen


def test_the_default_device_and_dtype_still_hold() -> None:
    """`torch.device(...)` as a context is a mode below ours and keeps its effect."""
    with StepTrace(nn.Linear(1, 1)), torch.device("meta"):
        assert torch.zeros(2).device.type == "meta"
