"""`FareMeter.loop`: what it measures and traces of a loop of the user's own, and that the training is as without it."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack
from torch.utils.data import DataLoader

from builders.lightning_modules import (
    Clock,
    ClockedSGD,
    MeterHarness,
    Rows,
    fare_meter_warnings,
    lightning_module,
    trainer,
    update_by,
)
from builders.lightning_modules import loader as rows
from builders.lightning_modules import quiet as lightning_quiet
from trainfare import FareMeter
from trainfare.meter.end_of_run import make_profile
from trainfare_core.errors import InputError
from trainfare_core.job_profile import JobProfile

pytestmark = [*lightning_quiet]


def make_model() -> nn.Module:
    """Return a small network with dropout, which draws random numbers."""
    return nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 2))


def make_optimizer(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=1e-3)


def find_loss(model: nn.Module, batch: Tensor) -> Tensor:
    return functional.mse_loss(model(batch), torch.zeros(len(batch), 2))


def door(harness: MeterHarness) -> type[FareMeter]:
    """Return a FareMeter with the services of a test."""
    return type("FareMeter", (FareMeter,), {"services": harness.services})


def train(
    folder: Path,
    harness: MeterHarness,
    *,
    model: nn.Module | None = None,
    epochs: int = 4,
    accumulate: int = 1,
    backward: Callable[[Tensor], object] = Tensor.backward,
    inside: Callable[[Any, int], object] = lambda *_: None,
    **settings: Any,
) -> nn.Module:
    """Train in a loop over epochs of 16 batches of 4 samples."""
    model = model or make_model()
    optimizer, number = make_optimizer(model), 0
    given = {"warmup_steps": 1, "measure_steps": 3, "report_dir": str(folder), **settings}
    with door(harness).loop(model, optimizer, **given) as meter:
        for _ in range(epochs):
            for batch in meter.steps(rows()):
                number += 1
                backward(find_loss(model, batch) / accumulate)
                inside(meter, number)
                if number % accumulate == 0:
                    optimizer.step()
                    optimizer.zero_grad()
    return model


def count_flops(profile: JobProfile) -> dict[tuple[str, str], float]:
    flops: dict[tuple[str, str], float] = {}
    for group in profile.operations:
        key = group.phase, group.kind
        flops[key] = flops.get(key, 0.0) + group.flops
    return {key: value for key, value in flops.items() if value}


def measure_in_lightning(folder: Path, accumulate: int, **options: Any) -> JobProfile:
    """Return the profile of the same model in Lightning."""
    harness = MeterHarness()
    module = lightning_module(
        lambda self, batch, _: find_loss(self.model, batch),
        update_by(torch.optim.AdamW, lr=1e-3),
        lambda: {"model": make_model()},
    )
    meter = harness.meter(folder, warmup_steps=1, measure_steps=3)
    trainer(folder, meter, max_epochs=4, accumulate_grad_batches=accumulate, **options).fit(module(), rows())
    return harness.profile


@pytest.mark.parametrize("accumulate", [1, 4])
def test_the_step_is_that_of_the_same_model_in_lightning(tmp_path: Path, accumulate: int) -> None:
    """FLOPs to the digit by phase and kind, weights, optimizer and activations; accumulation is found."""
    harness = MeterHarness()
    train(tmp_path, harness, accumulate=accumulate, total_steps=64 // accumulate)
    ours, theirs = harness.profile, measure_in_lightning(tmp_path, accumulate)
    assert count_flops(ours) == count_flops(theirs)
    assert sum(count_flops(ours).values()) > 0
    assert ours.parameters == theirs.parameters
    assert ours.optimizer == theirs.optimizer
    assert ours.memory.saved_activation_bytes == theirs.memory.saved_activation_bytes
    assert (ours.batch.scales, theirs.batch.scales) == (None, "fixed")  # nothing shares the work of the loop
    assert ours.batch == theirs.batch.model_copy(update={"scales": None})
    assert (ours.precision, ours.parallel) == (theirs.precision, theirs.parallel)
    assert ours.plan.optimizer_steps == theirs.plan.optimizer_steps == 64 // accumulate
    assert ours.plan.epochs == theirs.plan.epochs == 4
    assert ours.measured is not None
    assert ours.measured.steps == 3


def test_times_are_from_end_to_end_less_what_is_between_passes(tmp_path: Path) -> None:
    """By the clock: 2 batches of 4 samples of 1 ms, forward and backward 11, one update of 2; validation and pauses 50."""
    clock = Clock()
    harness, model = MeterHarness(clock), nn.Linear(8, 2)
    optimizer = ClockedSGD(model.parameters(), lr=0.01)
    optimizer.clock = clock
    data = DataLoader(Rows(24, clock, 0.001), batch_size=4)
    number = 0
    with door(harness).loop(
        model, optimizer, total_steps=30, warmup_steps=1, measure_steps=9, report_dir=str(tmp_path)
    ) as meter:
        for _ in range(10):
            for batch in meter.steps(data):
                number += 1
                find_loss(model, batch).backward()
                clock.advance(0.011)
                if number % 2 == 0:
                    optimizer.step()
                if number % 5 == 0:
                    with meter.pause():
                        clock.advance(0.05)
            clock.advance(0.05)
    measured = harness.profile.measured
    assert measured is not None
    assert measured.steps == 9
    assert [
        time.median_s for time in (measured.step, measured.data_wait, measured.optimizer)
    ] == pytest.approx([0.032, 0.008, 0.002])
    assert [measured.step.p10_s, measured.step.p90_s] == pytest.approx([0.032, 0.032])
    assert (measured.forward, measured.backward) == (None, None)
    plan = harness.profile.plan
    assert (plan.optimizer_steps, plan.epochs) == (30, 10.0)
    assert any("left out of the cost" in note for note in harness.profile.notes)


def test_a_profile_for_the_utilisation_leaves_no_note_for_that_at_the_end(tmp_path: Path) -> None:
    """As on a GPU once the steps are measured; every third optimizer step has two batches, 7 of the 21."""
    harness, model = MeterHarness(), make_model()
    optimizer = make_optimizer(model)
    given: dict[str, Any] = {"warmup_steps": 1, "measure_steps": 3, "report_dir": str(tmp_path)}
    with door(harness).loop(model, optimizer, **given) as meter:
        for number, batch in enumerate(meter.steps(rows(112))):
            find_loss(model, batch).backward()
            if number % 4 != 2:
                optimizer.step()
                optimizer.zero_grad()
            if number > 20:
                make_profile(meter._meter._run, ())
    assert any("from 1 to 2 batches: the mean, 1.33, is priced" in note for note in harness.profile.notes)


def test_a_loop_without_a_loader_marks_its_batches(tmp_path: Path) -> None:
    """`meter.step()`: the same FLOPs; samples are those that were given; the run's length is what it ran."""
    harness, model = MeterHarness(), make_model()
    optimizer = make_optimizer(model)
    with door(harness).loop(
        model, optimizer, warmup_steps=1, measure_steps=3, batch_size=4, report_dir=str(tmp_path)
    ) as meter:
        for number in range(48):
            find_loss(model, torch.ones(4, 8)).backward()
            if number % 4 == 0:  # so that the first step has one batch and the others four
                optimizer.step()
                optimizer.zero_grad()
            meter.step()
    profile = harness.profile
    assert count_flops(profile) == count_flops(measure_in_lightning(tmp_path, 4))
    assert (profile.batch.micro_batch_size, profile.batch.samples_per_step) == (4, 16)
    assert (profile.plan.optimizer_steps, profile.plan.steps_note) == (
        12,
        "that this run took; nothing gave its length before",
    )
    assert not any("took" in note for note in profile.notes)


def test_the_training_is_bitwise_the_same(tmp_path: Path) -> None:
    """Weights, random states, order and number of samples; nothing of the user's runs once more."""
    results = []
    for metered in (False, True):
        for seed in (torch.manual_seed, random.seed, np.random.seed):
            seed(0)
        calls: list[int] = []
        model = make_model()
        model.register_forward_hook(lambda *_, calls=calls: calls.append(0))
        if metered:
            harness = MeterHarness()
            train(tmp_path, harness, model=model, accumulate=2)
            assert harness.profile.operations
        else:
            optimizer, number = make_optimizer(model), 0
            for _ in range(4):
                for batch in rows():
                    number += 1
                    (find_loss(model, batch) / 2).backward()
                    if number % 2 == 0:
                        optimizer.step()
                        optimizer.zero_grad()
        weights = [value.numpy().tobytes() for value in model.state_dict().values()]
        states = (
            torch.get_rng_state().numpy().tobytes(),
            random.getstate(),
            np.random.get_state()[1].tobytes(),
        )
        results.append((weights, states, len(calls)))
    assert results[0] == results[1]


def list_changes() -> tuple[object, ...]:
    return (
        _get_current_dispatch_mode_stack(),
        len(_global_optimizer_pre_hooks),
        len(_global_optimizer_post_hooks),
    )


@pytest.mark.parametrize("at", [1, 4, 20])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_exception_of_the_loop_is_passed_on(tmp_path: Path, at: int, error: type[BaseException]) -> None:
    """Before the measurement, inside a traced batch and after it; hooks and modes are gone, the next loop is measured."""
    harness, before, raised = MeterHarness(), list_changes(), error("the user's")

    def fail(_: object, number: int) -> None:
        if number == at:
            raise raised

    with pytest.raises(error) as caught:
        train(tmp_path, harness, inside=fail)
    assert caught.value is raised
    assert list_changes() == before
    traced = "FareMeter was tracing this batch" in " ".join(getattr(raised, "__notes__", ()))
    assert traced == (at == 4 and error is ValueError)
    train(tmp_path, harness)
    assert harness.profiles[-1].operations


def test_a_loop_may_be_left_by_break(tmp_path: Path) -> None:
    """Before or after the optimizer's step; the hooks are gone, and what was measured is reported."""
    harness, before = MeterHarness(), list_changes()
    model = make_model()
    optimizer = make_optimizer(model)
    with door(harness).loop(
        model, optimizer, total_steps=40, warmup_steps=1, measure_steps=3, report_dir=str(tmp_path)
    ) as meter:
        for epoch in range(6):
            for number, batch in enumerate(meter.steps(rows())):
                find_loss(model, batch).backward()
                if number == 3 and epoch % 2:
                    break
                optimizer.step()
                if number == 4:
                    break
            assert not _get_current_dispatch_mode_stack() or epoch % 2
    assert list_changes() == before
    profile = harness.profile
    assert profile.plan.steps_note == "stopped at step 24 of at most 40: priced to the last"
    assert profile.measured is not None
    flops = count_flops(
        measure_in_lightning(tmp_path, 1)
    )  # two steps also do the work of a batch that was left
    assert count_flops(profile) == {key: pytest.approx(each * 26 / 24, abs=1) for key, each in flops.items()}


def test_a_loop_inside_another_is_not_measured(tmp_path: Path) -> None:
    """One warning; the outer one is measured as without it, by its own optimizer's steps."""
    harness, inner = MeterHarness(), MeterHarness()

    def train_inner(_: object, number: int) -> None:
        if number == 8:
            train(tmp_path, inner, epochs=1)

    with pytest.warns(UserWarning, match="FareMeter measures neither a loop inside another one"):
        train(tmp_path, harness, inside=train_inner, total_steps=64)
    assert not inner.profiles
    assert harness.profile.plan.steps_note is None
    assert harness.profile.parallel.accumulate_grad_batches == 1


def test_a_fault_costs_one_warning(tmp_path: Path) -> None:
    """And the loop goes on to its end."""

    def fail(*_: object) -> Any:
        raise RuntimeError("a fault of ours")

    before, seen = list_changes(), []
    for service in ("step_trace", "prepare", "recommend", "write_profile"):
        harness = MeterHarness(**{service: fail})
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            train(tmp_path, harness, inside=lambda _, number: seen.append(number))
        assert len(fare_meter_warnings(caught)) <= 1, service
        assert list_changes() == before
    assert seen == [*range(1, 65)] * 4


def test_two_optimizers_step_as_they_like(tmp_path: Path) -> None:
    """A critic in every batch and a generator in every fifth: FLOPs of the mean batch, counted by hand."""
    harness = MeterHarness()
    critic, generator = nn.Linear(8, 8), nn.Linear(8, 8)
    optimizers = [torch.optim.Adam(part.parameters()) for part in (generator, critic)]
    with door(harness).loop(
        [critic, generator], optimizers, warmup_steps=1, measure_steps=5, report_dir=str(tmp_path)
    ) as meter:
        for _ in range(5):
            for number, batch in enumerate(meter.steps(rows(80))):  # 20 batches of 4
                for part, optimizer in zip((generator, critic), optimizers, strict=True):
                    if part is critic or number % 5 == 0:
                        optimizer.zero_grad()
                        part(batch).square().mean().backward()
                        optimizer.step()
    # A pass of one of them: forward and the gradient of its weights, 2 * 4 * 8 * 8 each; there is none of the input.
    assert sum(count_flops(harness.profile).values()) == pytest.approx(2 * 2 * 4 * 8 * 8 * 1.2, abs=1)
    assert harness.profile.plan.optimizer_steps in (99, 100)  # 120 steps of both, by 1.2 a batch


class Sharp(torch.optim.Optimizer):
    """An optimizer of the kind of SAM: it has no `step` of its own that is called, and hands its parameters to SGD."""

    def __init__(self, parameters: Iterator[nn.Parameter]) -> None:
        super().__init__(parameters, {})
        self.base = torch.optim.SGD(self.param_groups, lr=0.1)


def test_an_inner_optimizer_counts_for_its_outer_one(tmp_path: Path) -> None:
    """And one that steps other parameters counts for none."""
    harness, model, other = MeterHarness(), make_model(), nn.Linear(8, 2)
    sharp, strange = Sharp(model.parameters()), make_optimizer(other)
    with door(harness).loop(model, sharp, warmup_steps=1, measure_steps=3, report_dir=str(tmp_path)) as meter:
        for number, batch in enumerate(meter.steps(rows())):
            find_loss(other, batch).backward()
            strange.step()
            find_loss(model, batch).backward()
            if number % 2:
                sharp.base.step()
    assert harness.profile.plan.optimizer_steps == 8
    assert harness.profile.parallel.accumulate_grad_batches == 2


class Twice(torch.optim.SGD):
    """Its `step` calls that of its base, which torch tells of too once an SGD was made."""

    def step(self, closure: Any = None) -> Any:
        return super().step(closure)


def test_a_derived_optimizer_steps_once(tmp_path: Path) -> None:
    """Also after a step that has raised."""
    torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1)
    harness, model = MeterHarness(), make_model()
    optimizer = Twice(model.parameters(), lr=0.1)
    with door(harness).loop(
        model, optimizer, warmup_steps=1, measure_steps=3, report_dir=str(tmp_path)
    ) as meter:
        for number, batch in enumerate(meter.steps(rows())):
            loss = find_loss(model, batch)
            loss.backward()
            if number == 2:
                with pytest.raises(ZeroDivisionError):
                    optimizer.step(lambda: 1 / 0)
            else:
                optimizer.step()
    assert harness.profile.plan.optimizer_steps == 15
    assert harness.profile.parallel.accumulate_grad_batches == 1


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated")
def test_a_compiled_step_is_compiled_as_often_as_without(tmp_path: Path) -> None:
    """Forward, backward and update in one compiled function: equal graphs and weights, and its steps are not seen."""
    results: list[Any] = []
    for metered in (False, True):
        torch.compiler.reset()
        torch.manual_seed(0)
        graphs: list[int] = []
        model = nn.Linear(8, 2)
        optimizer = make_optimizer(model)

        def count_graph(module: Any, _: object, graphs: list[int] = graphs) -> Any:
            graphs.append(len(module.graph.nodes))
            return module.forward

        @torch.compile(backend=count_graph)
        def step(batch: Tensor, model: Any = model, optimizer: Any = optimizer) -> None:
            find_loss(model, batch).backward()
            optimizer.step()
            optimizer.zero_grad()

        harness = MeterHarness()
        settings = {"warmup_steps": 1, "measure_steps": 3, "report_dir": str(tmp_path)}
        with door(harness).loop(model, optimizer, **settings) if metered else nullcontext() as meter:
            for batch in meter.steps(rows()) if meter is not None else rows():
                step(batch)
        results.append((graphs, [value.numpy().tobytes() for value in model.state_dict().values()]))
    assert results[0] == results[1]
    assert results[0][0]
    assert [line.partition(" batches no step of the optimizer")[0] for line in harness.lines] == [
        "trainfare: in 16"
    ]


def test_compiled_code_is_timed_and_not_traced(tmp_path: Path) -> None:
    """Times are measured, and the reason for no trace is told."""
    harness, model = MeterHarness(), make_model()
    compiled = torch.compile(model, backend="eager")
    train(tmp_path, harness, model=compiled)  # type: ignore[arg-type]
    assert not harness.profiles
    why = "trainfare: no ranking: the step was not traced, because the step runs under torch.compile: trace it before"
    assert harness.lines[-1].startswith(why)
    written = JobProfile.from_json((tmp_path / "trainfare-profile.json").read_text())
    assert written.measured is not None
    assert written.name == "Sequential"
    assert any("autocast shows in a traced step alone" in note for note in written.notes)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "bf16-true"])
def test_fabric(tmp_path: Path, precision: Any) -> None:
    """Its wrappers are seen through, and the precision is found."""
    fabric = Fabric(accelerator="cpu", devices=1, precision=precision)
    harness, plain = MeterHarness(), make_model()
    model, optimizer = fabric.setup(plain, make_optimizer(plain))
    data: Any = fabric.setup_dataloaders(rows())
    with door(harness).loop(
        model, optimizer, total_steps=32, warmup_steps=1, measure_steps=3, report_dir=str(tmp_path)
    ) as meter:
        for _ in range(2):
            for batch in meter.steps(data):
                fabric.backward(find_loss(model, batch))
                optimizer.step()
                optimizer.zero_grad()
    profile = harness.profile
    assert (profile.name, profile.precision) == ("Sequential", precision)
    assert any("mixed precision on a CPU" in note for note in profile.notes) == (precision == "bf16-mixed")
    assert (profile.batch.micro_batch_size, profile.plan.optimizer_steps) == (4, 32)
    assert sum(count_flops(profile).values()) == sum(count_flops(measure_in_lightning(tmp_path, 1)).values())


def test_accelerate(tmp_path: Path) -> None:
    """`accumulate` is found by the steps that its optimizer lets through."""
    accelerate: Any = pytest.importorskip("accelerate")
    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=4)
    harness, plain = MeterHarness(), make_model()
    model, optimizer, data = accelerator.prepare(plain, make_optimizer(plain), rows())
    with door(harness).loop(
        model, optimizer, total_steps=16, warmup_steps=1, measure_steps=3, report_dir=str(tmp_path)
    ) as meter:
        for _ in range(4):
            for batch in meter.steps(data):
                with accelerator.accumulate(model):
                    accelerator.backward(find_loss(model, batch))
                    optimizer.step()
                    optimizer.zero_grad()
    profile = harness.profile
    assert (profile.batch.micro_batch_size, profile.batch.samples_per_step) == (4, 16)
    assert (profile.plan.optimizer_steps, profile.parallel.accumulate_grad_batches) == (16, 4)
    assert count_flops(profile) == count_flops(measure_in_lightning(tmp_path, 4))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"model": 3}, "the model must be a torch.nn.Module"),
        ({"optimizer": []}, "the optimizer must be one of torch.optim"),
        ({"total_steps": 0}, "total_steps=...\\): it must be a whole number"),
        ({"pilot": "auto"}, "FareMeter.loop\\(pilot=...\\): it takes warmup_steps"),
        ({"measure_steps": 0}, "measure_steps=0"),
    ],
)
def test_a_bad_argument_is_named(arguments: dict[str, Any], told: str) -> None:
    model = nn.Linear(2, 2)
    with pytest.raises(InputError, match=told):
        FareMeter.loop(**{"model": model, "optimizer": make_optimizer(model), **arguments})


def test_too_few_steps_and_none_are_told(tmp_path: Path) -> None:
    """With the number that is needed: warm-up, one traced step, three measured ones."""
    harness = MeterHarness()
    train(tmp_path, harness, epochs=1, accumulate=16)
    train(tmp_path, harness, epochs=1, accumulate=17)
    few, none = harness.lines
    assert few == "trainfare: not enough steps (have 1, need 7)"
    assert none.startswith("trainfare: in 16 batches no step of the optimizer of FareMeter.loop was seen")
