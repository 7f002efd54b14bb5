"""The `FareMeter` of Keras on the torch backend: what it measures, and that the training is as without it."""

from __future__ import annotations

import random
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.optim.optimizer import _global_optimizer_pre_hooks
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from builders.call_counter import CallCounter
from builders.keras import TimedLayer, fit, keras, make_meter, make_model, pairs, quiet
from builders.lightning_modules import Clock, MeterHarness, fare_meter_warnings
from trainfare.keras import FareMeter
from trainfare.plain_loop import FareMeter as PlainMeter
from trainfare_core.errors import InputError
from trainfare_core.job_profile import JobProfile

pytestmark = quiet


def measure(
    folder: Path, model: Any, *callbacks: Any, harness: MeterHarness | None = None, **given: Any
) -> JobProfile:
    """Fit a model with a FareMeter, and return the profile."""
    harness = harness or MeterHarness()
    fit(model, *callbacks, make_meter(harness, folder), **{"epochs": 2, **given})
    return harness.profile


def count_flops(profile: JobProfile) -> dict[tuple[str, str], float]:
    flops: dict[tuple[str, str], float] = {}
    for group in profile.operations:
        key = group.phase, group.kind
        flops[key] = flops.get(key, 0.0) + group.flops
    return {key: value for key, value in flops.items() if value}


def make_module() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))


def test_flops_are_those_of_the_same_module_in_a_plain_loop(tmp_path: Path) -> None:
    """To the digit; by hand 2 FLOPs for each weight and sample, twice in backward but for the first layer's inputs."""
    layer = keras.layers.TorchModuleWrapper(make_module(), output_shape=(None, 2))
    ours = measure(tmp_path, make_model(layer))
    module, harness = make_module(), MeterHarness()
    optimizer = torch.optim.Adam(module.parameters())
    door = type("FareMeter", (PlainMeter,), {"services": harness.services})
    with door.loop(module, optimizer, warmup_steps=1, measure_steps=3, report_dir=str(tmp_path)) as meter:
        for values, targets in meter.steps(pairs()):
            optimizer.zero_grad()
            functional.mse_loss(module(values), targets).backward()
            optimizer.step()
    theirs = harness.profile
    forward = 2 * 4 * (8 * 16 + 16 * 2)
    assert count_flops(ours) == {
        ("forward", "matmul"): forward,
        ("backward", "matmul"): 2 * forward - 2 * 4 * 8 * 16,
    }
    assert count_flops(theirs) == count_flops(ours)
    assert ours.parameters == theirs.parameters
    # Two moments of each weight; Keras has one count of steps and the learning rate beside them.
    weights_bytes = sum(group.parameter_bytes for group in ours.parameters)
    assert ours.optimizer.state_bytes == 2 * weights_bytes + 8
    assert ours.source.loop == "keras"


def test_times_are_from_end_to_end_less_evaluation_and_epoch_ends(tmp_path: Path) -> None:
    """By the clock: 4 samples of 1 ms, forward 7, backward 4, update 2; between epochs validation and a callback."""
    clock = Clock()

    class Update(keras.optimizers.SGD):  # type: ignore[misc]
        def apply(self, *args: Any, **kwargs: Any) -> None:
            super().apply(*args, **kwargs)
            clock.advance(0.002)

    class Slow(keras.callbacks.Callback):  # type: ignore[misc]
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            clock.advance(0.300)

    profile = measure(
        tmp_path,
        make_model(TimedLayer(clock), optimizer=Update(0.01)),
        Slow(),
        harness=MeterHarness(clock),
        x=pairs(12, clock=clock, load_s=0.001),
        epochs=4,
        validation_data=pairs(8),
    )
    measured = profile.measured
    assert measured is not None
    assert measured.steps == 3
    times = (measured.step, measured.data_wait, measured.optimizer)
    assert [time.median_s for time in times if time is not None] == pytest.approx([0.017, 0.004, 0.002])
    assert measured.step.p90_s == pytest.approx(0.017)
    assert measured.validation_batch is not None
    assert measured.validation_batch.median_s == pytest.approx(0.050)


def test_the_plan_is_that_of_fit(tmp_path: Path) -> None:
    """16 batches, 4 a step, 3 epochs; validation of 2 batches after the second; each epoch a checkpoint, 20 of 24 bytes."""
    accumulated = keras.optimizers.Adam(gradient_accumulation_steps=4)
    saves = keras.callbacks.ModelCheckpoint(str(tmp_path / "w.weights.h5"), save_weights_only=True)
    validation = {"validation_data": pairs(8), "validation_freq": 2}
    profile = measure(tmp_path, make_model(optimizer=accumulated), saves, epochs=3, **validation)
    plan, batch = profile.plan, profile.batch
    assert (plan.optimizer_steps, plan.epochs, plan.validation_batches) == (12, 3.0, 2)
    assert (plan.checkpoint_every_n_steps, profile.parallel.accumulate_grad_batches) == (4, 4)
    assert (batch.micro_batch_size, batch.samples_per_step, batch.batch_norm) == (4, 16, True)
    assert profile.measured is not None
    assert (profile.measured.steps, profile.measured.data_wait is None) == (3, False)
    # Moving mean and variance of 8 channels are buffers, as in torch.
    assert profile.memory.buffer_bytes == 2 * 8 * 4
    assert all(group.trainable for group in profile.parameters)
    updates = [group for group in profile.operations if group.phase == "optimizer"]
    trained = sum(group.count for group in profile.parameters if group.trainable)
    assert {group.shape for group in updates} == {(trained,)}


def test_a_resumed_call_and_one_that_may_end_early(tmp_path: Path) -> None:
    """`initial_epoch` counts as done, and EarlyStopping makes the length an upper bound."""
    stop = keras.callbacks.EarlyStopping(monitor="loss", patience=0, min_delta=100.0)
    plan = measure(tmp_path, make_model(), stop, epochs=5, initial_epoch=1).plan
    assert plan.optimizer_steps == 5 * 16
    assert "stopped at step 48 of at most 80" in str(plan.steps_note)


class Counting(CallCounter, keras.callbacks.Callback):  # type: ignore[misc]
    """Counts the calls of a callback of the user's."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: dict[str, int] = {}


class OwnStep(keras.Sequential):  # type: ignore[misc]
    """A model with a step of its own, which is counted."""

    steps = 0

    def train_step(self, data: Any) -> Any:
        type(self).steps += 1
        return super().train_step(data)


def fit_seeded(folder: Path, *, metered: bool, optimizer: Any) -> dict[str, Any]:
    """Fit, and return each result of the training, and how often the user's code was called."""
    random.seed(3)
    keras.utils.set_random_seed(3)
    kinds = keras.layers
    hidden = (kinds.Dense(8), kinds.BatchNormalization(), kinds.Dropout(0.5), kinds.Dropout(0.1, seed=1))
    model = OwnStep([keras.Input((8,)), *hidden, kinds.Dense(2)])
    model.compile(optimizer=keras.optimizers.deserialize(optimizer), loss="mse", metrics=["mae"])
    data, counting, OwnStep.steps = pairs(60), Counting(), 0
    meters = [make_meter(MeterHarness(), folder)] if metered else []
    history = fit(model, counting, *meters, x=data, epochs=3, validation_data=pairs(8)).history
    assert not _get_current_dispatch_mode_stack()
    variables = [*model.variables, *model.optimizer.variables]
    return {
        "weights": [variable.value.detach().numpy().tobytes() for variable in variables],
        "random": (torch.get_rng_state().numpy().tobytes(), random.getstate(), repr(np.random.get_state())),
        "history": history,
        "calls": (vars(data.dataset)["calls"], counting.calls, OwnStep.steps),
        "attributes": (set(vars(model)), set(vars(model.optimizer)), model.train_function.__qualname__),
        "hooks": len(_global_optimizer_pre_hooks),
    }


@pytest.mark.parametrize(
    "optimizer",
    [
        {"class_name": "adamw", "config": {"gradient_accumulation_steps": 4, "clipnorm": 0.5}},
        {"class_name": "sgd", "config": {"momentum": 0.9, "use_ema": True}},
    ],
    ids=lambda given: given["class_name"],
)
def test_the_training_is_bitwise_that_without_it(tmp_path: Path, optimizer: dict[str, Any]) -> None:
    """Weights, optimizer, random states, losses, and the calls of data sets, callbacks and `train_step` are equal."""
    plain = fit_seeded(tmp_path, metered=False, optimizer=optimizer)
    assert plain == fit_seeded(tmp_path, metered=True, optimizer=optimizer)
    assert plain["calls"][2] == 45


def test_an_exception_is_the_users_own_and_leaves_nothing(tmp_path: Path) -> None:
    """It reaches the caller while a step is traced; what was replaced is put back, and the next run is measured."""

    class Failing(keras.layers.Dense):  # type: ignore[misc]
        fails = True

        def call(self, inputs: Any, training: bool = False) -> Any:
            if self.fails and _get_current_dispatch_mode_stack():
                raise ValueError("the user's")
            return super().call(inputs)

    layer, harness = Failing(2), MeterHarness()
    model, meter = make_model(layer), make_meter(harness, tmp_path)
    with pytest.raises(ValueError, match="the user's"):
        fit(model, meter)
    assert not _get_current_dispatch_mode_stack()
    assert "apply" not in vars(model.optimizer)
    assert "FareMeter" not in model.train_function.__qualname__
    layer.fails = False
    fit(model, meter)
    assert "a step raised ValueError while it was traced" in "".join(harness.lines)


def test_an_exception_between_two_steps_leaves_a_model_that_can_be_fitted(tmp_path: Path) -> None:
    """Keras tells no callback of it; the next call is measured once."""

    class Broken(keras.callbacks.Callback):  # type: ignore[misc]
        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            if batch == 2:
                raise ValueError("the user's")

    harness, model = MeterHarness(), make_model()
    meter = make_meter(harness, tmp_path)
    with pytest.raises(ValueError, match="the user's"):
        fit(model, Broken(), meter)
    assert not _get_current_dispatch_mode_stack()
    fit(model, meter)
    assert harness.profile.plan.optimizer_steps == 16
    assert "FareMeter" not in model.train_function.__qualname__


def test_a_fault_inside_costs_one_warning(tmp_path: Path) -> None:
    """The training goes on to its end."""
    calls: list[int] = []

    def fail() -> float:
        calls.append(0)
        if len(calls) > 9:
            raise RuntimeError("a broken clock")
        return 0.0

    model = make_model()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(model, make_meter(MeterHarness(fail), tmp_path))
    told = fare_meter_warnings(caught)
    assert len(told) == 1
    assert "a broken clock" in told[0]
    assert int(model.optimizer.iterations.value) == 16


def test_a_compiled_step_is_timed_and_not_traced(tmp_path: Path) -> None:
    """The reason is said, the measured time is in the profile, and nothing of ours is in the compiled step."""
    harness, model = MeterHarness(), make_model(jit_compile=True)
    with torch.compiler.set_stance("force_eager"):
        fit(model, make_meter(harness, tmp_path))
    assert "the step was not traced, because the step runs under torch.compile" in "".join(harness.lines)
    profile = JobProfile.from_json((tmp_path / "trainfare-profile.json").read_text(), where="the profile")
    assert profile.measured is not None
    assert (profile.measured.steps, profile.source.compiled) == (3, True)
    assert profile.measured.optimizer is None


@pytest.mark.parametrize(
    "given",
    [
        {"pilot": "auto"},
        {"noise_scale": True},
        {"on_budget": "checkpoint_and_stop", "budget_usd": 1.0, "usd_per_hour": 1.0},
    ],
)
def test_an_argument_that_cannot_be_used_is_named(given: dict[str, Any]) -> None:
    """Among them a stop at the budget: this meter saves no checkpoint of a fit, and would not end it."""
    with pytest.raises(
        InputError, match=rf"FareMeter\({next(iter(given))}=...\): with Keras it takes warmup_steps"
    ):
        FareMeter(**given)


def test_the_block_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it stands, with the length that stands in it: 2 epochs of 320 samples by 32."""
    page = Path(__file__).resolve().parents[3] / "docs" / "keras.md"
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    harness = MeterHarness(usd_per_hour=lambda *_: 1.0)
    monkeypatch.setattr(FareMeter, "services", harness.services)
    exec(compile(blocks[0], "keras.md", "exec"), {})
    assert len(blocks) == 1
    assert harness.profile.plan.optimizer_steps == 20
    assert harness.profile.measured is not None
