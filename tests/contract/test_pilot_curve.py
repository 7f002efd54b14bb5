"""FareMeter(pilot=...): the learning curve is recorded, bounded in size, and does not change the training."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from builders import contract
from builders.contract import Tiny
from trainfare.meter.curve_recorder import CurveRecorder
from trainfare.meter.fit_meter import FitMeter
from trainfare.meter.services import MeterServices
from trainfare_core.methods.curves import MOST_POINTS, LearningCurve


class Learning(Tiny):
    """Logs a validation metric; its first layer may be frozen."""

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.net(batch).square().mean())


def record_curve(folder: Path, pilot: str = "lora", **fit: Any) -> tuple[LearningCurve, contract.Outcome]:
    services = contract.fake_services(write_curve=MeterServices().write_curve)
    outcome = contract.fit([contract.meter(services, pilot=pilot, report_dir=str(folder))], Learning, **fit)
    return LearningCurve.from_json((folder / "trainfare-curve.json").read_text(encoding="utf-8")), outcome


def test_a_pilot_is_recorded_from_the_first_step_to_the_last(tmp_path: Path) -> None:
    """The curve has losses, validation metrics, learning rate, time, sizes and the length of the schedule."""
    curve, outcome = record_curve(tmp_path)
    assert outcome.error is None
    assert outcome.warned == ()
    assert (curve.strategy, curve.last_step, curve.planned_steps) == ("lora", outcome.steps, outcome.steps)
    assert curve.seen == 1.0
    assert not curve.ended_early
    assert [point.step for point in curve.points] == list(range(1, outcome.steps + 1))
    assert {"val_loss", "train_loss"} <= set(curve.metric_names())
    assert len(curve.series("val_loss")) >= 2
    assert all(point.learning_rate is not None for point in curve.points)
    assert curve.parameters >= curve.trainable_parameters > 0
    assert curve.train_samples == 2 * contract.BATCHES
    times = [point.elapsed_s for point in curve.points]
    assert times == sorted(times)


def test_training_is_bitwise_the_same(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    """Losses, weights and random states are equal with and without the recorder."""
    plain = contract.fit([], Learning)
    assert record_curve(tmp_path)[1].comparable == plain.comparable
    contract.record_compared(record_property, plain.compared)


def test_nothing_is_recorded_unless_asked(tmp_path: Path) -> None:
    """Without `pilot` no file is written."""
    services = contract.fake_services(write_curve=MeterServices().write_curve)
    outcome = contract.fit([contract.meter(services, report_dir=str(tmp_path))], Learning)
    assert outcome.warned == ()
    assert not (tmp_path / "trainfare-curve.json").exists()


def test_a_full_disk_only_loses_the_curve() -> None:
    """One warning; the training and the rest of the report are unchanged."""

    def full(*_: Any) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device")

    services = contract.fake_services(write_curve=full)
    outcome = contract.fit([contract.meter(services, pilot="lora")], Learning)
    assert outcome.comparable == contract.fit([], Learning).comparable
    assert len(outcome.warned) == 1
    assert "learning curve is lost" in outcome.warned[0]


@pytest.mark.parametrize("hook", ["start", "batch_end", "validation_end"])
def test_a_fault_while_recording_costs_one_warning(hook: str, tmp_path: Path) -> None:
    """FareMeter is disabled; the run is the same as without it."""

    class Faulty(CurveRecorder):
        def __getattribute__(self, name: str) -> Any:
            if name == hook:
                raise MemoryError
            return super().__getattribute__(name)

    class Broken(type(contract.meter())):  # type: ignore[misc]
        def make_meter(self) -> FitMeter:
            made = super().make_meter()
            made._curve = Faulty("lora", lambda: 0.0)
            return made

    outcome = contract.fit(
        [Broken(pilot="lora", report_dir=str(tmp_path), warmup_steps=1, measure_steps=3)], Learning
    )
    assert outcome.comparable == contract.fit([], Learning).comparable
    assert len(outcome.warned) == 1


def test_a_run_that_ended_early_is_marked(tmp_path: Path) -> None:
    """The curve of a run that raised is written, marked as ended early, with its planned steps."""

    class Failing(Learning):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            if self.trainer.global_step == 5:
                raise RuntimeError("mine")
            return super().training_step(batch, batch_idx)

    services = contract.fake_services(write_curve=MeterServices().write_curve)
    contract.fit([contract.meter(services, pilot="full_finetune", report_dir=str(tmp_path))], Failing)
    curve = LearningCurve.from_json((tmp_path / "trainfare-curve.json").read_text(encoding="utf-8"))
    assert curve.ended_early
    assert curve.last_step == 5
    assert curve.planned_steps > 5


class FakeLoop:
    """What the recorder reads of a loop."""

    def __init__(self, module: torch.nn.Module) -> None:
        self.module = module
        self.updates = 0
        self.newest: dict[str, Any] = {}
        self.optimizers = [torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.5)]

    def metrics(self) -> dict[str, Any]:
        return self.newest


def record(steps: int, *, validate_every: int = 10**9) -> tuple[CurveRecorder, FakeLoop]:
    loop, recorder = FakeLoop(torch.nn.Linear(2, 2)), CurveRecorder("lora", lambda: 0.0)
    recorder.start(loop)
    for step in range(1, steps + 1):
        loop.updates = step
        recorder.batch_end({"loss": torch.tensor(1.0 / step)})
        if step % validate_every == 0:
            loop.newest = {"val_loss": torch.tensor(2.0), "fare/step_s": torch.tensor(1.0)}
            recorder.validation_end()
    return recorder, loop


def read(recorder: CurveRecorder) -> LearningCurve:
    return recorder.curve(
        tool_version="0", planned_steps=None, samples_per_step=None, train_samples=None, peak_memory_bytes=None,
        ended_early=False,
    )  # fmt: skip


@pytest.mark.parametrize("validate_every", [10**9, 7, 1])
def test_a_long_run_stays_small(validate_every: int) -> None:
    """Fewer than MOST_POINTS points, spread over the run up to its newest steps, without `fare/*` metrics."""
    curve = read(record(20_000, validate_every=validate_every)[0])
    steps = [point.step for point in curve.points]
    assert MOST_POINTS / 8 < len(steps) < MOST_POINTS
    assert steps == sorted(set(steps))
    assert steps[-1] > 19_000
    assert steps[len(steps) // 2] < 15_000
    assert len(json.dumps(curve.to_json())) < 200_000
    assert not any("fare/" in name for name in curve.metric_names())


def test_no_value_is_read_while_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """No tensor value is read before the end, because that would make the host wait for the device."""

    def read_value(*_: Any) -> float:
        raise AssertionError("a value was read")

    with monkeypatch.context() as patched:
        patched.setattr(torch.Tensor, "item", read_value)
        patched.setattr(torch.Tensor, "__float__", read_value)
        recorder, _ = record(100, validate_every=10)
    assert read(recorder).points[0].train_loss == 1.0


def test_a_diverged_loss_is_left_out() -> None:
    """NaN, tensors that are not scalars, and outputs without a loss are left out of the curve."""
    loop, recorder = FakeLoop(torch.nn.Linear(2, 2)), CurveRecorder("lora", lambda: 0.0)
    recorder.start(loop)
    loop.updates = 1
    recorder.batch_end(torch.tensor(float("nan")))
    loop.newest = {"confusion": torch.zeros(3, 3), "val_loss": torch.tensor(1.0)}
    recorder.validation_end()
    point = read(recorder).points[0]
    assert point.train_loss is None
    assert [metric.name for metric in point.metrics] == ["val_loss"]
    recorder.batch_end(None)
    recorder.batch_end("nothing")


def module(*, trained: bool, adapters: bool = False, packed: bool = False) -> torch.nn.Module:
    sequential = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.Linear(64, 1))
    sequential[0].requires_grad_(trained)
    if adapters:
        sequential.lora_A = torch.nn.Linear(2, 2)
    if packed:
        sequential.weight = torch.nn.Parameter(torch.zeros(4, dtype=torch.uint8), requires_grad=False)
    return sequential


@pytest.mark.parametrize(
    ("made", "pilot", "expected"),
    [
        (module(trained=True), "auto", None),
        (module(trained=True), "scratch", "scratch"),
        (module(trained=False), "auto", "linear_probe"),
        (module(trained=False, adapters=True), "auto", "lora"),
        (module(trained=False, adapters=True, packed=True), "auto", "qlora"),
    ],
)
def test_the_strategy_is_given_or_inferred(made: torch.nn.Module, pilot: str, expected: str | None) -> None:
    """Full fine-tuning and scratch cannot be told apart: the strategy is unknown, with a note."""
    recorder = CurveRecorder(pilot, lambda: 0.0)
    recorder.start(FakeLoop(made))
    curve = read(recorder)
    assert curve.strategy == expected
    assert bool(curve.notes) == (expected is None)
