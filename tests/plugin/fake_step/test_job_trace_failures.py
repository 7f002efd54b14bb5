"""An error of a trace names the operation, the line of the user's file, and what to do; state is restored."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from builders.jobs import Cnn, Tiny, job, tiny_batch, with_step
from trainfare.fake_step import trace_job
from trainfare.fake_step.user_errors import FakeTraceError, user_errors
from trainfare_core.errors import TraceError

_HERE = Path(__file__).name


def _needs_item(self: Any, batch: Tensor, batch_idx: int) -> Tensor:
    return self.layer(batch).mean() * self.layer(batch).sum().item()


def _branches(self: Any, batch: Tensor, batch_idx: int) -> Tensor:
    loss: Tensor = self.layer(batch).mean()
    return loss * 2 if loss > 0 else loss


def _needs_nonzero(self: Any, batch: Tensor, batch_idx: int) -> Tensor:
    return self.layer(batch[self.layer(batch).sum(1) > 0]).mean()


def _needs_numpy(self: Any, batch: Tensor, batch_idx: int) -> Tensor:
    return self.layer(batch).mean() * float(self.layer(batch).detach().numpy().sum())


def _needs_list(self: Any, batch: Tensor, batch_idx: int) -> Tensor:
    return self.layer(batch).mean() * sum(self.layer(batch)[0].tolist())


@torch.library.custom_op("trainfare_test::no_fake_kernel", mutates_args=())
def _no_fake_kernel(x: Tensor) -> Tensor:
    return x.clone()


def _custom_kernel(self: Any, batch: Tensor, batch_idx: int) -> Tensor:
    return self.layer(_no_fake_kernel(batch)).mean()


@pytest.mark.parametrize(
    ("step", "operation"),
    [
        (_needs_item, "_local_scalar_dense"),
        (_branches, "_local_scalar_dense"),
        (_needs_nonzero, "nonzero"),
        (_needs_numpy, "numpy"),
        (_needs_list, "_local_scalar_dense"),
        (_custom_kernel, "trainfare_test"),
    ],
)
def test_an_untraceable_step_names_operation_line_and_remedy(
    step: Callable[..., Any], operation: str
) -> None:
    """The error is a sentence: the operation, the file and line of the user's code, and FareMeter."""
    with pytest.raises(TraceError) as caught:
        trace_job(job(with_step(step)), real=None)
    message = str(caught.value)
    assert operation in message
    assert (
        f"{_HERE}:{step.__code__.co_firstlineno + 1}" in message
        or f"{_HERE}:{step.__code__.co_firstlineno + 2}" in message
    )
    assert "Measure one step with FareMeter" in message
    assert "Traceback" not in message
    assert caught.value.exit_code == 3


def test_a_value_that_is_only_logged_can_be_traced() -> None:
    """`self.log("loss", loss.item())` and an f-string need no value; the profile notes that each read makes the host wait."""

    def step(self: Any, batch: Tensor, batch_idx: int) -> Tensor:
        loss: Tensor = self.layer(batch).mean()
        self.log("loss", loss.item())
        self.print(f"{loss.item():.3f}")
        return loss

    profile = trace_job(job(with_step(step)))
    assert any("reads 2 value(s) with item()" in note for note in profile.notes)


def test_a_mean_of_unknown_values_may_be_kept_and_printed() -> None:
    """As TRL's DPO logs the mean logit of a token: a sum that is read, over a count that is known."""

    def step(self: Any, batch: Tensor, batch_idx: int) -> Tensor:
        loss: Tensor = self.layer(batch).mean()
        self.print(f"{(1 - 0.9) * loss.item() / 3 + loss.item() - 1:.3f}")
        return loss

    profile = trace_job(job(with_step(step)))
    assert profile.source.how == "fake"


def test_the_optimizers_own_counters_are_no_values_that_the_step_reads() -> None:
    """On real tensors, AdamW reads a counter of each parameter, on the host: one read is the step's."""

    def step(self: Any, batch: Tensor, batch_idx: int) -> Tensor:
        loss: Tensor = self.layer(batch).mean()
        return loss * 2 if loss.item() > 1e6 else loss

    module = with_step(step)
    module.configure_optimizers = lambda self: torch.optim.AdamW(self.parameters())  # type: ignore[attr-defined]
    profile = trace_job(job(module))
    assert any("reads 1 value(s) with item()" in note for note in profile.notes)


def test_a_reason_without_a_line_of_the_user_has_the_message() -> None:
    """As of a module with weight norm, which torch cannot copy: its class alone would say nothing."""
    source = (
        "with user_errors('copying the module'):\n    raise RuntimeError('Only leaves support deepcopy')\n"
    )
    code = compile(source, "/opt/site-packages/torch/nn/module.py", "exec")
    with pytest.raises(FakeTraceError) as caught:
        exec(code, {"user_errors": user_errors})
    assert caught.value.because == "copying the module raised RuntimeError: Only leaves support deepcopy"


@pytest.mark.parametrize("built", [False, True])
def test_a_lazy_layer_is_named(built: bool) -> None:
    """It has no shapes before its first batch."""

    class Lazy(Tiny):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.LazyLinear(2)  # type: ignore[assignment]

    with pytest.raises(TraceError, match=r"has a lazy layer.*run one batch through the module"):
        trace_job(job(Lazy() if built else Lazy))


def test_any_use_of_an_unknown_value_is_refused_where_it_is_used() -> None:
    """Comparing, converting, a tensor with it: no computation of the step may use a value that a trace does not have."""
    uses: list[Callable[[Any], Any]] = [
        bool,
        float,
        int,
        round,
        lambda x: x > 1,
        lambda x: x == 1,
        lambda x: 2 * x > 1,
        lambda x: float(x + 1),
        lambda x: torch.ones(2) * x,
        lambda x: torch.ones(2) * (x / 3),
        lambda x: range(x),
        lambda x: {x: 1},
    ]
    for use in uses:
        step = with_step(
            lambda self, batch, batch_idx, use=use: (
                use(self.layer(batch).sum().item()),
                self.layer(batch).mean(),
            )[1]
        )
        with pytest.raises(TraceError, match=r"item\(\)"):
            trace_job(job(step), real=None)


class Bare(pl.LightningModule):
    """A module whose layers are made in `setup`."""

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return batch.mean()


def _raises(*_: Any, **__: Any) -> Any:
    raise LookupError("no such key")


@pytest.mark.parametrize(
    ("changes", "doing"),
    [
        ({"module": _raises}, "building the module"),
        ({"batch": _raises}, "making the batch"),
        ({"module": with_step(_raises)}, "training_step"),
        ({"module": lambda: Tiny(_raises)}, "configure_optimizers"),
        ({"module": type("Setup", (Bare,), {"setup": _raises})}, "setup"),
        ({"module": type("Start", (Tiny,), {"on_train_start": _raises})}, "on_train_start"),
    ],
)
def test_an_exception_of_the_users_code_is_reported_with_its_line(
    changes: dict[str, Any], doing: str
) -> None:
    """The message has the exception, the hook that ran, and the user's line."""
    line = _raises.__code__.co_firstlineno + 1
    with pytest.raises(TraceError, match=rf"{doing} raised LookupError: no such key at .*{_HERE}:{line}"):
        trace_job(job(**changes))


def test_a_trainer_attribute_without_a_value_is_named() -> None:
    """An attribute that the stub does not have is named in the error, and not guessed."""
    step = with_step(lambda self, batch, batch_idx: self.trainer.world_peace)
    with pytest.raises(TraceError, match=r"trainer\.world_peace"):
        trace_job(job(step))


@pytest.mark.parametrize("step", [_needs_item, _raises, None])
def test_global_state_is_restored(step: Callable[..., Any] | None) -> None:
    """Random states, the default dtype, grad mode and dispatch modes are as before, after success and failure."""
    import numpy as np

    states = [lambda: torch.get_rng_state().tolist(), random.getstate, lambda: repr(np.random.get_state())]
    before = [state() for state in states]
    module = Tiny if step is None else with_step(step)

    def noisy_batch() -> Tensor:
        random.random()
        np.random.rand()
        return torch.rand(4, 8)

    try:
        trace_job(job(module, noisy_batch, precision="bf16-true"))
    except TraceError:
        assert step is not None
    assert [state() for state in states] == before
    assert torch.get_default_dtype() == torch.float32
    assert torch.is_grad_enabled()
    assert _get_current_dispatch_mode_stack() == []
    assert torch.nn.Module._apply.__qualname__ == "Module._apply"
    assert torch.nn.init._no_grad_trunc_normal_.__qualname__ == "_no_grad_trunc_normal_"


def test_the_users_module_is_bitwise_untouched() -> None:
    """Weights, buffers, gradients, hooks, mode, trainer and attributes of a live module are the same objects afterwards."""
    module = Cnn()
    batch = Cnn.batch()
    seen: list[Any] = []
    module.net[0].register_forward_hook(lambda *args: seen.append(args))
    module.net[0].weight.grad = torch.ones_like(module.net[0].weight)
    tensors = dict(module.state_dict(keep_vars=True))
    copies = {name: value.detach().clone() for name, value in tensors.items()}
    grads = {name: value.grad for name, value in tensors.items()}
    attributes = {id(member): dict(member.__dict__) for member in module.modules()}
    profile = trace_job(job(module, batch))
    after = module.state_dict(keep_vars=True)
    assert all(after[name] is value for name, value in tensors.items())
    assert all(torch.equal(after[name], copies[name]) for name in copies)
    assert all(after[name].grad is grads[name] for name in grads)
    assert all(member.__dict__ == attributes[id(member)] for member in module.modules())
    assert seen == []
    assert any("hooks" in note for note in profile.notes)


def test_a_function_bound_to_the_original_module_is_caught() -> None:
    """A closure would train the user's own weights; it is refused and the gradients are restored."""

    class Closed(Tiny):
        def __init__(self) -> None:
            super().__init__()
            self.run = lambda x: self.layer(x)

        def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
            return self.run(batch).mean()

    module = Closed()
    with pytest.raises(TraceError, match=r"bound to the original module.*function that builds"):
        trace_job(job(module, tiny_batch), real=None)
    assert all(parameter.grad is None for parameter in module.parameters())
    assert trace_job(job(Closed)).step_flops > 0
