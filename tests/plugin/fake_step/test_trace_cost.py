"""What a trace on fake tensors does not do, because it would change nothing and take a large part of its time."""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, cast

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from builders.lightning_modules import lightning_module, update_by
from trainfare import TrainingJob, trace_job
from trainfare.fake_step.fake_build import BuildMode
from trainfare.trace import StepTrace
from trainfare.trace.modes import OperationMode

pl = pytest.importorskip("lightning.pytorch")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class _Recurrent(pl.LightningModule):
    def __init__(self, *, both: bool = False, batch_first: bool = True) -> None:
        cast("Any", super()).__init__()
        self.layers = nn.LSTM(
            8, 16, num_layers=2, bidirectional=both, batch_first=batch_first, proj_size=0 if both else 4
        )

    def training_step(self, batch: torch.Tensor, _index: int) -> torch.Tensor:
        out, (hidden, cell) = self.layers(batch)
        return out.contiguous().square().sum() + hidden.sum() + cell.sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


_Layers = lightning_module(
    lambda self, batch, index: self.layers(batch).sum(),
    update_by(torch.optim.SGD, lr=0.1, momentum=0.9),
    lambda: {"layers": nn.Sequential(nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 64))},
    base=pl.LightningModule,
)


def _job(precision: str) -> TrainingJob:
    return TrainingJob(
        module=_Layers, batch=lambda: torch.zeros(8, 512), batch_size=8, precision=precision, max_steps=1
    )


def test_the_device_of_a_fake_tensor_is_answered_and_not_recorded() -> None:
    seen: list[Any] = []
    operations = OperationMode(lambda func, _args, _kwargs, _out: seen.append(func))
    with FakeTensorMode() as fake, operations:
        tensor = torch.empty(3)
        asked: Any = torch.ops.prim.device.default
        assert asked(tensor) == torch.device("cpu")
        fake.in_kernel_invocation = True
        inside = asked(tensor)
        fake.in_kernel_invocation = False
    assert inside == torch.device("meta")
    assert [str(func) for func in seen] == ["aten.empty.memory_format"]


def test_what_looks_at_an_operation_meets_no_torch_function() -> None:
    texts: list[str] = []

    class Asks(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            texts.append(func.__name__)
            return func(*args, **(kwargs or {}))

    operations = OperationMode(lambda _func, _args, _kwargs, out: out.stride())
    with Asks():
        operations.run(torch.ops.aten.exp.default, (torch.ones(3),), {})
    assert texts
    assert "stride" not in texts


def test_casts_of_weights_are_released_before_backward() -> None:
    # The last layer's cast is saved for backward; none is alive in the update.
    moments = trace_job(_job("bf16-mixed")).memory.moments
    assert [moment.fixed_bytes for moment in moments if moment.phase == "optimizer"] == [0]


def test_building_on_fake_tensors_draws_no_weights() -> None:
    drawn = Counter[str]()

    class Counts(FakeTensorMode):
        def dispatch(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            drawn[func.name()] += 1
            return super().dispatch(func, types, args, kwargs or {})

    with BuildMode(Counts()):
        layer = nn.Linear(512, 512)
        nn.init.normal_(layer.weight)
    assert isinstance(layer.weight, FakeTensor)
    assert layer.weight.requires_grad
    assert not {"aten::uniform_", "aten::normal_"} & drawn.keys()


def test_the_state_is_made_by_one_call_of_each_operation(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[Any] = []
    plain = cast("Any", torch.optim.SGD).step

    def step(self: Any, *args: Any, **kwargs: Any) -> Any:
        steps.append(self.param_groups[0]["foreach"])
        return plain(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.SGD, "step", step)
    from trainfare.fake_step import trace_changed

    profile = trace_changed(_job("32-true"), None, first_batch=False)
    assert steps == [True, None]
    assert profile.optimizer.state_bytes == 4 * sum(p.numel() for p in _Layers().parameters())


def _recurrent_job(steps: int, **options: bool) -> TrainingJob:
    return TrainingJob(
        module=lambda: _Recurrent(**options), batch=lambda: torch.zeros(4, steps, 8), batch_size=4, max_steps=1,
        precision="32-true",
    )  # fmt: skip


def test_a_recurrent_layer_dispatches_no_more_operations_for_more_time_steps() -> None:
    class Counts(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            ran.append(func)
            return func(*args, **(kwargs or {}))

    class Counted(_Recurrent):
        def training_step(self, batch: torch.Tensor, index: int) -> torch.Tensor:
            with (
                Counts() if index < 2 else nullcontext()
            ):  # how many later batches are compared depends on the size
                return super().training_step(batch, index)

    counts: list[int] = []
    for steps in (3, 60):
        ran: list[Any] = []
        trace_job(replace(_recurrent_job(steps), module=Counted))
        counts.append(len(ran))
    # The first has those besides by which torch finds the results of sizes that it meets for the first time.
    assert 0 < counts[1] <= counts[0]


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
def test_a_recurrent_layer_on_fake_tensors_is_that_on_real_ones(*, both: bool, batch_first: bool) -> None:
    job = _recurrent_job(30, both=both, batch_first=batch_first)
    fake = trace_job(job)
    module = _Recurrent(both=both, batch_first=batch_first)
    with StepTrace(module) as trace:
        module.training_step(torch.zeros(4, 30, 8), 0).backward()
    of_fake, of_real = (
        [
            (o.name, o.phase, o.shape, o.flops, o.launches, o.bytes_moved)
            for o in operations
            if o.kind == "recurrent" or o.name == "aten.clone"
        ]
        for operations in (fake.operations, trace.operations())
    )
    assert len(of_fake) == 2 + batch_first
    assert of_fake == of_real
    assert not [
        operation
        for operation in fake.operations
        if operation.phase == "backward" and operation.name == "aten.copy_"
    ]
