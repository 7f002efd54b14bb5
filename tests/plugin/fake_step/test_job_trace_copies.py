"""Fake copies of modules as users write them."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from builders.jobs import BATCH, WIDTH, Cnn, Gan, Lstm, Tiny, Transformer, job, tiny_batch
from trainfare.fake_step import trace_job
from trainfare_core.errors import TraceError
from trainfare_core.job_profile import JobProfile


def _parameters(profile: JobProfile) -> dict[tuple[str, bool], int]:
    return {(group.dtype, group.trainable): group.count for group in profile.parameters}


class _ReadsConstants(Tiny):
    def __init__(self) -> None:
        super().__init__()
        rates = [rate.item() for rate in torch.linspace(0, 0.5, 4)]
        self.blocks = nn.Sequential(*[nn.Dropout(rate) for rate in rates])
        assert rates == pytest.approx([0, 1 / 6, 1 / 3, 0.5])
        assert torch.arange(3).tolist() == [0, 1, 2]


class _Moves(Tiny):
    def __init__(self) -> None:
        super().__init__()
        self.layer.to(torch.float64)
        self.big = nn.Linear(300, 300).double()
        self.tied = nn.Linear(300, 300, bias=False)
        self.tied.weight = self.big.weight
        self.float()


class _TruncatedInit(Tiny):
    def __init__(self) -> None:
        super().__init__()
        self.big = nn.Linear(300, 300)
        nn.init.trunc_normal_(self.big.weight, std=0.02)
        nn.init.trunc_normal_(self.layer.weight, std=0.02)

    def training_step(self, batch: Tensor, batch_idx: int) -> Any:
        torch._assert(batch.shape[0] == BATCH, "vision transformers check their input like this")
        return self.layer(batch).unflatten(1, (2, -1)).mean()


class _OnMeta(Tiny):
    def __init__(self) -> None:
        super().__init__()
        with torch.device("meta"):
            self.layer = nn.Linear(WIDTH, WIDTH)


class _HiddenTeacher(Tiny):
    def __init__(self) -> None:
        super().__init__()
        self.hidden = [nn.Linear(WIDTH, WIDTH)]

    def training_step(self, batch: Tensor, batch_idx: int) -> Any:
        with torch.no_grad():
            target = self.hidden[0](batch)
        return (self.layer(batch) - target).square().mean()


class _BoundMethod(Tiny):
    def __init__(self) -> None:
        super().__init__()
        self.run = self._run

    def _run(self, x: Tensor) -> Tensor:
        return self.layer(x)

    def training_step(self, batch: Tensor, batch_idx: int) -> Any:
        return self.run(batch).mean()


class _Uncopyable(Tiny):
    def __init__(self) -> None:
        super().__init__()
        self.stream = (item for item in range(3))
        self.generator = torch.Generator()
        self.nested = {"generator": torch.Generator()}


class _Metric(Tiny):
    def __init__(self) -> None:
        super().__init__()
        from torchmetrics import MeanMetric

        self.metric = MeanMetric()

    def training_step(self, batch: Tensor, batch_idx: int) -> Any:
        loss = self.layer(batch).mean()
        self.metric.update(loss.detach())
        return loss


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize(
    "model", [_ReadsConstants, _TruncatedInit, _HiddenTeacher, _BoundMethod, _Uncopyable, _Metric, Gan, Lstm]
)
def test_common_module_idioms_can_be_traced(model: Any, live: bool) -> None:
    """Constants read while building, hidden teachers, bound methods, generators and metrics can be traced."""
    batch = model.batch if hasattr(model, "batch") else tiny_batch
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        profile = trace_job(job(model() if live else model, batch))
    assert profile.step_flops > 0


def test_moving_a_module_while_it_is_built_keeps_shared_weights_shared() -> None:
    """`.double()`, `.float()` and `.to()` work on fake parameters, and tied weights are counted once."""
    assert _parameters(trace_job(job(_Moves))) == {("fp32", True): 72 + 300 * 300 + 300}


def test_a_module_on_the_meta_device_is_traced_on_the_cpu() -> None:
    """Models built under torch.device('meta') have shapes, which is all a trace needs."""
    assert _parameters(trace_job(job(_OnMeta))) == {("fp32", True): 72}
    assert _parameters(trace_job(job(_OnMeta()))) == {("fp32", True): 72}


def test_a_value_taken_from_a_large_tensor_is_not_read() -> None:
    """A small constant that was filled from a fake tensor would be a wrong value: it is refused instead."""

    class Stale(Tiny):
        def __init__(self) -> None:
            super().__init__()
            scale = torch.zeros(1)
            scale.copy_(torch.ones(40_000).sum())
            self.scale = scale.item()

    with pytest.raises(TraceError, match=r"item\(\)"):
        trace_job(job(Stale), real=None)


def test_frozen_weights_attributes_and_ties_survive_a_copy() -> None:
    """requires_grad, attributes on parameters and sharing are the same in the fake copy."""
    module = Transformer()
    module.block.requires_grad_(requires_grad=False)
    module.tokens.weight.no_decay = True  # type: ignore[attr-defined]
    seen: list[Any] = []
    module.configure_optimizers = lambda: None  # type: ignore[method-assign]
    profile = trace_job(job(module, Transformer.batch))
    block = sum(parameter.numel() for parameter in module.block.parameters())
    assert _parameters(profile) == {("fp32", False): block, ("fp32", True): 50 * 16}

    class Peek(Transformer):
        def on_train_start(self) -> None:
            seen.append(
                (self.head.weight is self.tokens.weight, self.tokens.weight.no_decay, type(self.head.weight))
            )

    peek = Peek()
    peek.tokens.weight.no_decay = True  # type: ignore[attr-defined]
    trace_job(job(peek, Transformer.batch, precision="bf16-true"))
    assert seen == [(True, True, FakeTensor)]


def _hand_compiled(module: Cnn) -> Cnn:
    module.net = torch.compile(module.net)  # type: ignore[assignment]
    return module


def _own_call_compiled(module: Cnn) -> Cnn:
    module.net.compile()
    return module


def _step_compiled(module: Cnn) -> Cnn:
    return torch.compile(module)  # type: ignore[return-value]


@pytest.mark.parametrize("compile_part", [_hand_compiled, _own_call_compiled, _step_compiled])
def test_a_compiled_module_is_traced_uncompiled(compile_part: Any) -> None:
    """The copy is not compiled, whichever way the original is."""
    with warnings.catch_warnings():
        # torch's own compiler package warns when it is first imported.
        warnings.simplefilter("ignore")
        module = compile_part(Cnn())
    profile, expected = trace_job(job(module, Cnn.batch)), trace_job(job(Cnn, Cnn.batch))
    assert (profile.source.compiled, expected.source.compiled) == (True, False)
    assert profile.operations == expected.operations
    assert profile.optimizer == expected.optimizer


def test_user_hooks_of_a_live_module_do_not_see_fake_tensors() -> None:
    """A user's hook is not called in the trace of a module that exists, and that is said."""
    module, seen = Cnn(), []
    module.net[0].register_forward_hook(lambda mod, args, out: seen.append(type(out)))
    profile = trace_job(job(module, Cnn.batch))
    assert seen == []
    assert any("1 module hooks" in note and note.endswith(".<lambda>") for note in profile.notes)
