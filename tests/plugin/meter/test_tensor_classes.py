"""Tensor subclasses and torch modes of the user's: the run is bitwise the same, and the trace is right or not made."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from pytorch_lightning import Callback
from torch import Tensor, nn
from torch.masked import masked_tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from builders import contract  # type: ignore[import-not-found]
from builders.lightning_modules import MeterHarness, lightning_module, quiet, trainer  # type: ignore[import-not-found]
from trainfare.trace import StepTrace
from trainfare_core.job_profile import JobProfile

pytestmark = [*quiet, pytest.mark.filterwarnings("ignore:The PyTorch API of (Masked|nested)")]
WIDTH = 8
STEPS = 8
Step = Callable[[Any, Any], Any]
"""The loss of a module and a batch."""


class Labelled(Tensor):
    """Has labels, and is made by torch's old constructor, as LabelTensor of PINA."""

    @staticmethod
    def __new__(cls, x: Any, labels: list[str]) -> Any:
        return super().__new__(cls, x)

    def __init__(self, x: Any, labels: list[str]) -> None:
        self.labels = labels


class Plain(Tensor):
    """Has nothing of its own."""


class Counting(Tensor):
    """Counts the calls of torch functions."""

    calls: list[str]

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        cls.calls.append(str(getattr(func, "__name__", func)))
        return super().__torch_function__(func, types, args, kwargs or {})  # type: ignore[no-untyped-call]


class Strict(Tensor):
    """Refuses the torch functions that it does not know."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func not in (torch.nn.functional.linear, torch._C._nn.linear, Tensor.sum, Tensor.mul):
            raise NotImplementedError(f"{func} is not supported")
        return super().__torch_function__(func, types, args, kwargs or {}).as_subclass(Tensor)  # type: ignore[no-untyped-call]


class Unwrapping(Tensor):
    """Runs torch functions on a tensor of its own."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        args, kwargs = tree_map_only(cls, lambda tensor: tensor.plain, (args, kwargs or {}))
        return func(*args, **kwargs)


class Sized(Tensor):
    """Has a layout of its own."""

    @property
    def layout(self) -> Any:  # type: ignore[override]
        raise ValueError("this layout is not for others")


class Viewed(Tensor):
    """Has a shape that is torch's, as the tensors of torchvision have."""

    @property
    def shape(self) -> Any:  # type: ignore[override]
        with torch._C.DisableTorchFunctionSubclass():
            return super().shape


class Wrapper(Tensor):
    """Wraps a tensor, as DTensor does."""

    inner: Tensor  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, inner: Tensor) -> Any:
        made = Tensor._make_wrapper_subclass(
            cls, inner.shape, dtype=inner.dtype, device=inner.device, requires_grad=inner.requires_grad
        )
        made.inner = inner
        return made

    def __init__(self, inner: Tensor) -> None: ...

    def __tensor_flatten__(self) -> Any:
        return ["inner"], None

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        plain = tree_map_only(cls, lambda tensor: tensor.inner, (args, kwargs or {}))
        return tree_map_only(Tensor, cls, func(*plain[0], **plain[1]))


class Two(Wrapper):
    """Runs each operation twice."""

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        super().__torch_dispatch__(func, types, args, kwargs)
        return super().__torch_dispatch__(func, types, args, kwargs)


class Quantized(Wrapper):
    """Keeps a weight in another form, and gives plain results, as the weights of torchao do."""

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        plain = tree_map_only(cls, lambda tensor: tensor.inner * 1.0, (args, kwargs or {}))
        out = func(*plain[0], **plain[1])
        return cls(out) if func is torch.ops.aten.detach.default else out


class DispatchMode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every operation."""

    calls: list[str]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls.append(str(func))
        return func(*args, **(kwargs or {}))


class FunctionMode(TorchFunctionMode):
    """Sees every call."""

    calls: list[str]

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls.append(str(getattr(func, "__name__", func)))
        return func(*args, **(kwargs or {}))


def loss_of(module: Any, x: Any) -> Any:
    return module.net(x).square().mean().as_subclass(Tensor)


def run_labelled(module: Any, x: Any) -> Any:
    first = Labelled(x * 1.0, ["a"])
    listed = Labelled([1.0], labels=["b"])
    assert (first.labels, listed.labels, type(first), type(listed)) == (["a"], ["b"], Labelled, Labelled)
    return loss_of(module, first * listed)


def strict(module: Any, x: Any) -> Any:
    return module.net((x * 1.0).as_subclass(Strict)).square().mean()


def run_unwrapping(module: Any, x: Any) -> Any:
    wrapped = torch.zeros(0).as_subclass(Unwrapping)
    object.__setattr__(wrapped, "plain", x)
    return loss_of(module, wrapped)


def make_wrapped_step(kind: Any) -> Step:
    def step(module: Any, x: Any) -> Any:
        return loss_of(module, x) + kind(x).sum().inner * 0.0

    return step


def run_quantized(module: Any, x: Any) -> Any:
    return loss_of(module, x) + (x @ module.weight).sum() * 0.0


def run_masked(module: Any, x: Any) -> Any:
    kept = masked_tensor(x, torch.ones(4, WIDTH, dtype=torch.bool))
    return loss_of(module, x) + kept.sum().get_data() * 0.0  # type: ignore[attr-defined]


def make_nested_step(layout: torch.layout) -> Step:
    def step(module: Any, x: Any) -> Any:
        rows = torch.nested.nested_tensor([x[:1], x[1:]], layout=layout)
        return torch.cat(module.net(rows).unbind()).square().mean()

    return step


def with_mode(make: Callable[[], Any]) -> Step:
    def step(module: Any, x: Any) -> Any:
        with make():
            return loss_of(module, x)

    return step


def pointwise_mode(make: Callable[[], Any]) -> Step:
    def step(module: Any, x: Any) -> Any:
        with make():
            x = x * 1.0
        return loss_of(module, x)

    return step


def with_device(module: Any, x: Any) -> Any:
    with torch.device("meta"):
        assert torch.ones(2).device.type == "meta"
    with torch.device("cpu"):
        return loss_of(module, x * torch.ones(1))


def run_differentiated(module: Any, x: Any) -> Any:
    slopes = torch.func.vmap(torch.func.grad(lambda row: row.square().sum()))(x)
    return loss_of(module, slopes / 2)


def kept_elsewhere(module: Any, x: Any) -> Any:
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor.clone(), lambda tensor: tensor):
        return loss_of(module, x)


def with_anomalies(module: Any, x: Any) -> Any:
    with torch.autograd.set_detect_anomaly(True):
        return loss_of(module, x)


def checkpointed(module: Any, x: Any) -> Any:
    return checkpoint(module.net, x.requires_grad_(), use_reentrant=False).square().mean()


class Case(NamedTuple):
    """A training_step, and the words by which a run says why it is not traced ("": it is)."""

    step: Step
    why: str = ""
    more: float = 0.0
    """FLOPs beyond those of a plain step, over those of its forward."""


CASES = {
    "Tensor.__new__": Case(run_labelled),
    "as_subclass": Case(lambda module, x: loss_of(module, x.as_subclass(Plain))),
    "_make_subclass": Case(lambda module, x: loss_of(module, Tensor._make_subclass(Plain, x))),
    "counting": Case(lambda module, x: loss_of(module, x.as_subclass(Counting))),
    "strict": Case(strict),
    "unwrapping": Case(run_unwrapping, "tensor subclass Unwrapping"),
    "own shape": Case(lambda module, x: loss_of(module, x.as_subclass(Viewed))),
    "own layout": Case(
        lambda module, x: loss_of(module, x.as_subclass(Sized)), "whose layout is not torch's"
    ),
    "wrapper": Case(make_wrapped_step(Wrapper), "tensor subclass Wrapper"),
    "two": Case(make_wrapped_step(Two), "tensor subclass Two"),
    "quantized": Case(run_quantized, "tensor subclass Quantized"),
    "masked": Case(run_masked, "tensor subclass MaskedTensor"),
    "nested": Case(make_nested_step(torch.strided), "trace is incomplete"),
    "jagged": Case(make_nested_step(torch.jagged)),
    "dispatch mode": Case(with_mode(DispatchMode), "torch mode DispatchMode"),
    "function mode": Case(with_mode(FunctionMode), "torch mode FunctionMode"),
    "dispatch mode for a part": Case(pointwise_mode(DispatchMode), "torch mode DispatchMode"),
    "function mode for a part": Case(pointwise_mode(FunctionMode), "torch mode FunctionMode"),
    "flop counter": Case(with_mode(lambda: FlopCounterMode(display=False)), "torch mode _FlopCounterMode"),
    "device": Case(with_device),
    "torch.func": Case(run_differentiated),
    "saved tensors": Case(kept_elsewhere),
    "anomalies": Case(with_anomalies),
    "checkpoint": Case(checkpointed, more=1.0),
}


class Losses(Callback):
    """Keeps the losses, and the calls that a class or mode of the module counts until the training has ended."""

    def __init__(self, counted: list[str]) -> None:
        self.values: list[float] = []
        self.counted, self.calls = counted, 0

    def on_train_end(self, *_: Any) -> None:
        self.calls = len(self.counted)

    def on_train_batch_end(self, _trainer: Any, _module: Any, outputs: Any, *_: Any) -> None:
        self.values.append(outputs["loss"].item())


def train(
    folder: Path,
    step: Step,
    *callbacks: Callback,
    context: Any = None,
    **options: Any,
) -> tuple[Any, ...]:
    """Train some steps; return losses, weights and the calls that were counted."""
    Counting.calls = DispatchMode.calls = FunctionMode.calls = counted = list[str]()
    torch.manual_seed(1)
    make = lightning_module(
        lambda self, batch, _index: step(self, batch),
        layers=lambda: {
            "net": nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)),
            **(
                {"weight": nn.Parameter(Quantized(torch.ones(WIDTH, 1)), requires_grad=False)}
                if step is run_quantized
                else {}
            ),
        },
    )
    module, losses = make(), Losses(counted)
    rows = torch.randn(4 * STEPS, WIDTH, generator=torch.Generator().manual_seed(2))
    with context or contextlib.nullcontext():
        fit = trainer(folder, losses, *callbacks, max_epochs=1, **options)
        fit.fit(module, DataLoader(rows, batch_size=4))  # type: ignore[arg-type]
    assert fit.global_step == STEPS
    return losses.values, [p.tolist() for p in module.net.parameters()], counted[: losses.calls]


@pytest.mark.parametrize("name", CASES)
def test_the_run_is_the_same_and_the_trace_is_right_or_not_made(name: str, tmp_path: Path) -> None:
    """Losses, weights, calls counted and torch itself are as without FareMeter, which is right or says why not."""
    case, traces = CASES[name], list[StepTrace]()

    def step_trace(module: Any, optimizers: Any) -> StepTrace:
        traces.append(StepTrace(module, optimizers, vetted_only=True))
        return traces[-1]

    harness = MeterHarness(step_trace=step_trace)
    plain = train(tmp_path, case.step)
    with contract.assert_unchanged():
        metered = train(tmp_path, case.step, harness.meter(tmp_path, warmup_steps=1, measure_steps=2))
    assert metered == plain
    assert "__new__" not in vars(Tensor)
    if case.why:
        assert case.why in str(traces[0].notes)
        assert len(traces) == 1  # another batch would be the same
        return
    assert [trace.fault for trace in traces] == [None] * len(traces)
    assert harness.profile.source.how == "real"
    forward = (
        2 * 2 * 4 * WIDTH * WIDTH
    )  # of two layers; their backward has a product less, as the batch has no gradient
    assert harness.profile.step_flops == pytest.approx((2.5 + case.more) * forward)


def test_a_mode_around_the_whole_run_is_named(tmp_path: Path) -> None:
    """Where the step was not traced, the end of the run says which mode it was."""
    harness = MeterHarness()
    plain = train(tmp_path, loss_of, context=FunctionMode())
    metered = train(tmp_path, loss_of, harness.meter(tmp_path), context=FunctionMode())
    assert metered[:2] == plain[:2]  # the mode sees what FareMeter asks of tensors at the start and the end
    assert all(profile.source.how != "real" for profile in harness.profiles)


class Failing(Exception):
    """An error of the user's."""


def test_what_a_traced_step_raises_comes_through_with_a_note(tmp_path: Path) -> None:
    """The same exception, with how to turn the trace off; and the next run of the same meter is timed only."""
    traces: list[StepTrace] = []
    error = Failing("of the user's")

    def fail(module: Any, x: Any) -> Any:
        if traces and module.global_step >= 1:
            raise error
        return loss_of(module, x)

    def step_trace(module: Any, optimizers: Any) -> StepTrace:
        traces.append(StepTrace(module, optimizers, vetted_only=True))
        return traces[-1]

    harness = MeterHarness(step_trace=step_trace)
    meter = harness.meter(tmp_path, warmup_steps=1, measure_steps=2)
    with contract.assert_unchanged(), pytest.raises(Failing) as raised:
        train(tmp_path, fail, meter)
    assert raised.value is error
    assert len(traces) == 1
    notes = getattr(raised.value, "__notes__", [])
    if sys.version_info >= (3, 11):
        assert notes == [
            "FareMeter was tracing this batch. To train without the trace: FareMeter(trace=False)"
        ]
    train(tmp_path, loss_of, meter)
    assert len(traces) == 1


def test_what_another_step_raises_has_no_note(tmp_path: Path) -> None:
    """A batch that was not traced has nothing to do with FareMeter."""

    def fail(module: Any, x: Any) -> Any:
        if module.global_step == 6:
            raise Failing
        return loss_of(module, x)

    with pytest.raises(Failing) as raised:
        train(tmp_path, fail, MeterHarness().meter(tmp_path, warmup_steps=1, measure_steps=2))
    assert not getattr(raised.value, "__notes__", [])


class Refusing(nn.Parameter):
    """Refuses every torch function but those of a product, as the manifold parameters of hyperbolic layers."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (Tensor.numel, Tensor.element_size, Tensor.storage_offset, Tensor.untyped_storage):
            raise TypeError(f"{func} on a {cls.__name__}")
        return super().__torch_function__(func, types, args, kwargs or {})  # type: ignore[no-untyped-call]


Hyperbolic = lightning_module(
    lambda self, batch, index: nn.functional.linear(batch, self.weight).square().mean(),
    layers=lambda: {"weight": Refusing(torch.ones(WIDTH, WIDTH))},
)


def test_sizes_are_read_of_parameters_that_refuse_torch_functions(tmp_path: Path) -> None:
    """The meter stays on and the profile has their bytes; the trace before launch reads them as well."""
    harness = MeterHarness()
    trainer(tmp_path, harness.meter(tmp_path), max_steps=20, enable_model_summary=False).fit(
        Hyperbolic(),
        DataLoader(torch.ones(80, WIDTH), batch_size=4),  # type: ignore[arg-type]
    )
    (path,) = tmp_path.rglob("trainfare-profile.json")
    profile = JobProfile.model_validate_json(path.read_text())
    assert sum(group.parameter_bytes for group in profile.parameters) == 4 * WIDTH * WIDTH
    assert profile.measured is not None
    module = Hyperbolic()
    optimizer = module.configure_optimizers()
    with StepTrace(module, [optimizer]) as trace:
        module.training_step(torch.ones(4, WIDTH), 0).backward()
        optimizer.step()
    assert trace.fault is None
    assert sum(group.count for group in trace.parameters()) == WIDTH * WIDTH
    assert trace.memory().gradient_bytes == 4 * WIDTH * WIDTH
