"""A step that reads what only real tensors have is traced on them: the same profile, within limits, and nothing is changed."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_sequence

from builders.jobs import BATCH, WIDTH, Cnn, Lstm, Tiny, Transformer, job, tiny_batch, with_step
from builders.lightning_modules import lightning_module
from trainfare.fake_step import trace_job
from trainfare.fake_step.real_tensors import RealTensors, restore_after
from trainfare.job import RealLimits, TrainingJob
from trainfare_core.errors import TraceError
from trainfare_core.job_profile import JobProfile

_HERE = Path(__file__).name
LINEAR = 2 * 2 * WIDTH * WIDTH * BATCH


def _reading(base: type[Any]) -> type[Any]:
    """Return the module with a step that turns its loss into a number."""

    def training_step(self: Any, *given: Any) -> Any:
        output = base.training_step(self, *given)
        float((output["loss"] if isinstance(output, dict) else output).detach())
        return output

    training_step.__signature__ = inspect.signature(base.training_step)  # type: ignore[attr-defined]
    return type(base.__name__, (base,), {"training_step": training_step})


def _comparable(profile: JobProfile) -> Any:
    facts = profile.model_dump(exclude={"source", "notes", "memory", "operations", "modules"})
    facts["modules"] = [module.model_dump(exclude={"bytes_moved"}) for module in profile.modules]
    sizes = {"bytes_read", "bytes_written", "bytes_fixed", "fused_bytes_share"}
    facts["operations"] = sorted(
        repr(operation.model_dump(exclude=sizes)) for operation in profile.operations
    )
    return facts


@pytest.mark.parametrize(
    "precision", ["32-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true", "64-true"]
)
@pytest.mark.parametrize("model", [Tiny, Cnn, Transformer, Lstm])
def test_real_and_fake_tensors_give_one_profile(model: type[Any], precision: str) -> None:
    """Operation by operation, in every precision: a CPU's half precision is recorded as what a GPU would run."""
    batch = tiny_batch if model is Tiny else model.batch
    fake = trace_job(job(model, batch, precision=precision))
    real = trace_job(job(_reading(model), batch, precision=precision))
    assert (fake.source.how, real.source.how) == ("fake", "real")
    assert _comparable(real) == _comparable(fake)
    # The CPU keeps the statistics of an fp16 batch norm in fp32, as CUDA does; a fake tensor does not.
    for size in ("saved_activation_bytes", "gradient_bytes", "input_bytes", "largest_temporary_bytes"):
        assert getattr(real.memory, size) == pytest.approx(getattr(fake.memory, size), rel=0.002)
    moved = [sum(operation.bytes_moved for operation in profile.operations) for profile in (real, fake)]
    assert moved[0] == pytest.approx(moved[1], rel=0.002)
    left = [
        sum(operation.bytes_moved * operation.left_where_fused for operation in profile.operations)
        for profile in (real, fake)
    ]
    assert left[0] == pytest.approx(left[1], rel=0.005)


def _branches(self: Any, batch: Tensor, batch_idx: int) -> Tensor:
    loss: Tensor = self.layer(batch).mean()
    return loss * 2 if loss > 0 else loss


def test_the_profile_names_the_line_that_reads() -> None:
    """The note says that the tensors are real, and why."""
    profile = trace_job(job(with_step(_branches)))
    line = _branches.__code__.co_firstlineno + 2
    (note,) = [note for note in profile.notes if note.startswith("traced on real tensors")]
    assert f"{_HERE}:{line} in _branches reads a value" in note
    assert profile.step_flops == LINEAR


def test_it_can_be_forbidden() -> None:
    """Without real tensors the error says what needs a value, as before."""
    with pytest.raises(TraceError, match=r"needs the values of a tensor.*Measure one step") as caught:
        trace_job(job(with_step(_branches)), real=None)
    assert type(caught.value) is TraceError


def _detection(self: Any, batch: Tensor, batch_idx: int) -> Tensor:
    scores = self.layer(batch)
    kept = scores[scores > scores.median()]
    return kept.sum()


def _numpy(self: Any, batch: Tensor, batch_idx: int) -> Tensor:
    out: Tensor = self.layer(batch)
    return out.mean() * float(out.detach().numpy().sum() * 0 + 1)


@torch.library.custom_op("trainfare_test::real_only", mutates_args=())
def _real_only(x: Tensor) -> Tensor:
    return x.clone()


def _custom_kernel(self: Any, batch: Tensor, batch_idx: int) -> Tensor:
    return self.layer(_real_only(batch)).mean()


def _bound() -> Tiny:
    module = Tiny()
    module.run = lambda x: module.layer(x)
    module.training_step = lambda batch, batch_idx: module.run(batch).mean()  # type: ignore[method-assign]
    return module


@pytest.mark.parametrize("step", [_branches, _detection, _numpy, _custom_kernel])
def test_what_fake_tensors_cannot_do(step: Callable[..., Any]) -> None:
    """Branches on a loss, shapes that depend on the weights, NumPy, and a kernel without a fake one."""
    profile = trace_job(job(with_step(step)))
    assert profile.source.how == "real"
    assert profile.step_flops == LINEAR


def test_a_live_module_that_only_works_on_itself_is_traced_and_put_back() -> None:
    """A function of the module that refers to the module; its weights and gradients stay."""
    module = _bound()
    weight = module.layer.weight.detach().clone()
    assert trace_job(job(module, tiny_batch)).step_flops == LINEAR
    assert torch.equal(module.layer.weight, weight)
    assert module.layer.weight.grad is None


def test_lbfgs_runs_as_often_as_it_does() -> None:
    """An optimizer that runs the step again until it has converged is traced on real tensors."""
    configure = lambda self: torch.optim.LBFGS(self.parameters(), max_iter=3)  # noqa: E731
    without_end = {"training_step": lambda self, batch, batch_idx: self.layer(batch).mean()}
    module = type("Lbfgs", (Tiny,), without_end)
    profile = trace_job(job(lambda: module(configure), lambda: torch.ones(BATCH, WIDTH)))
    assert profile.source.how == "real"
    forwards = [o for o in profile.operations if o.kind == "matmul" and o.phase == "forward"]
    assert sum(o.launches for o in forwards) > 1


def test_packed_sequences() -> None:
    """An LSTM over packed rows counts the rows that are there."""
    Packed = lightning_module(lambda self, batch, index: self.rnn(batch)[0].data.mean(), base=Lstm)

    rows = Lstm().rnn.input_size if hasattr(Lstm(), "rnn") else 0
    assert rows
    batch = pack_sequence([torch.ones(length, rows) for length in (5, 3, 2)])
    profile = trace_job(job(Packed, batch, batch_size=3))
    (forward,) = [o for o in profile.operations if o.kind == "recurrent" and o.phase == "forward"]
    assert forward.flops > 0
    assert profile.memory.input_bytes >= 10 * rows * 4


class _Counting(Cnn):
    """Batch norm, a buffer, a list, a counter and a parameter group of its own: everything that a step may change."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[float] = []
        self.counts: dict[str, int] = {}
        self.steps = 0
        self.register_buffer("mean", torch.zeros(()))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss: Tensor = super().training_step(batch, batch_idx)
        self.seen.append(float(loss.detach()))
        self.counts["steps"] = self.steps = self.steps + 1
        self.mean.add_(loss.detach())
        self.net.eval()
        return loss


def test_a_live_module_is_bitwise_as_before() -> None:
    """Weights, buffers, gradients, attributes, mode and random states; the batch too."""
    module, batch = _Counting(), Cnn.batch()
    module.net[0].weight.grad = torch.ones_like(module.net[0].weight)
    module.net[5].bias.requires_grad_(requires_grad=False)
    states = dict(module.state_dict(keep_vars=True))
    values = {name: value.detach().clone() for name, value in states.items()}
    grads = {name: value.grad for name, value in states.items()}
    attributes = {id(member): dict(vars(member)) for member in module.modules()}
    random_states = torch.get_rng_state().tolist(), random.getstate()
    profile = trace_job(job(module, batch, precision="bf16-true"))
    assert profile.source.how == "real"
    after = module.state_dict(keep_vars=True)
    assert all(after[name] is value for name, value in states.items())
    assert all(
        torch.equal(after[name], value) and after[name].dtype == value.dtype for name, value in values.items()
    )
    assert all(after[name].grad is grads[name] for name in grads)
    assert torch.equal(module.net[0].weight.grad, torch.ones_like(module.net[0].weight))
    assert not module.net[5].bias.requires_grad
    assert all(vars(member) == attributes[id(member)] for member in module.modules())
    assert (module.seen, module.counts, module.net.training) == ([], {}, True)
    assert (torch.get_rng_state().tolist(), random.getstate()) == random_states
    assert torch.equal(batch[0], Cnn.batch()[0])


# ---- limits


def test_a_module_that_would_not_fit_is_refused_before_it_is_built() -> None:
    """16 bytes a weight with AdamW against the limit; the message keeps the user's line and says how to allow more."""
    built: list[int] = []

    class Large(_reading(Tiny)):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            built.append(1)
            self.layer = nn.Linear(WIDTH, 2**15)

    limits = RealLimits(memory_gib=0.001)
    message = r"test_real_tensors\.py:\d+ .*would take 0\.0 GiB, above the limit of 0\.001 GiB.*--real-gib"
    with pytest.raises(TraceError, match=message):
        trace_job(job(Large), real=limits)
    assert built == [1]


def test_time_and_memory_are_limited_while_it_runs() -> None:
    """The clock and the memory are looked at after every operation that could have taken much of them."""
    seconds = iter([0.0, 1.0, 11.0])
    with RealTensors(RealLimits(cpu_s=10), clock=lambda: next(seconds)):
        torch.ones(1)
        with pytest.raises(TraceError, match=r"more than 10 s of CPU time.*--real-cpu-seconds"):
            torch.ones(1)
    used = iter([2**30, 2**31])
    with RealTensors(RealLimits(memory_gib=0.5), memory=lambda: next(used)):
        torch.ones(8)
        with pytest.raises(TraceError, match=r"more than 0\.5 GiB"):
            torch.ones(2**19)


def test_where_neither_does_both_reasons_are_told() -> None:
    """The line that reads a value, and what happened with real tensors."""

    def step(self: Any, batch: Tensor, batch_idx: int) -> Tensor:
        loss: Tensor = self.layer(batch).mean()
        float(loss.detach())
        raise LookupError("no such key")

    with pytest.raises(
        TraceError, match=r"needs the values.*On real tensors: training_step raised LookupError"
    ):
        trace_job(job(with_step(step)))


# ---- setup


def test_a_setup_that_raises_is_left_out_where_the_module_has_its_parameters() -> None:
    """No data here: the note says so; a module that gets its layers in setup needs it."""

    def missing(self: Any, stage: str) -> None:
        raise FileNotFoundError("train.csv")

    profile = trace_job(job(type("NoData", (Tiny,), {"setup": missing})))
    assert "setup was left out: it raised FileNotFoundError: train.csv" in profile.notes
    assert profile.step_flops == LINEAR


def test_a_setup_that_works_on_real_tensors_only() -> None:
    """Data sets are prepared with NumPy: setup runs again on real tensors, the step stays on fake ones."""

    class Prepared(Tiny):
        def setup(self, stage: str) -> None:
            self.scale = float(torch.ones(2**15).numpy().mean())
            self.layer = nn.Linear(WIDTH, 2 * WIDTH)

        def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
            return (self.layer(batch) * self.scale).mean()  # type: ignore[no-any-return]

    profile = trace_job(job(Prepared))
    assert profile.source.how == "fake"
    assert profile.step_flops == 2 * LINEAR


def test_reading_a_loss_shows_no_warning_of_ours() -> None:
    """Torch warns of a number made of a tensor with a gradient, once, and would name our line in a trace."""
    always = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    try:
        trace_job(job(with_step(_branches_on_a_number)))
    finally:
        torch.set_warn_always(always)


def _branches_on_a_number(self: Any, batch: Tensor, batch_idx: int) -> Tensor:
    loss: Tensor = self.layer(batch).mean()
    return loss * 2 if float(loss) > 0 else loss


class Labelled(Tensor):
    """Is made by torch's old constructor, which refuses the result of an operation under a dispatch mode."""

    @staticmethod
    def __new__(cls, x: Any) -> Any:
        return super().__new__(cls, x)


def test_a_subclass_of_torchs_old_constructor_is_traced() -> None:
    """In the module's `__init__` and in the step, as without a trace; torch's own constructor is put back."""

    def build() -> Any:
        return lightning_module(
            lambda self, batch, index: self.net(Labelled(batch * self.scale.as_subclass(Tensor))).sum(),
            layers=lambda: {"net": nn.Linear(4, 2), "scale": Labelled(torch.ones(4) * 2)},
        )()

    profile = trace_job(TrainingJob(module=build, batch=lambda: torch.ones(8, 4), batch_size=8, max_steps=10))
    assert profile.source.how == "real"
    assert profile.step_flops == 2 * (2 * 8 * 4 * 2)
    assert "__new__" not in vars(Tensor)


class _Refusing(nn.Parameter):
    """A parameter with a `detach` and a `__torch_function__` of its own, as those of hyperbolic layers have."""

    def detach(self) -> Any:
        return "the point itself"

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in ("clone", "copy_", "numel"):
            raise TypeError(f"{func.__name__} is not of this manifold")
        return super().__torch_function__(func, types, args, kwargs or {})


def test_a_live_module_whose_parameters_refuse_to_be_copied_is_put_back() -> None:
    """What is kept of them is read by torch's own methods."""
    module = Tiny()
    module.weight = _Refusing(torch.ones(3))
    with restore_after(module), torch.no_grad():
        module.weight.mul_(2.0)
    assert module.weight.tolist() == [1.0, 1.0, 1.0]
