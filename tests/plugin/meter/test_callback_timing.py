"""Measured times: end to end for each optimizer step, without validation and checkpoint saving."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl

from builders.lightning_modules import (
    NAMESPACES,
    Clock,
    MeterHarness,
    Tiny,
    loader,
    module_class,
    quiet,
    trainer,
)
from trainfare_core.prediction.input_pipeline import input_pipeline

pytestmark = quiet
STEP_S = 0.036
"""20 ms loading (4 rows of 5 ms), 3 transfer, 7 forward, 4 backward, 2 optimizer."""


class StartToEnd(pl.Callback):
    """A naive timer, from on_train_batch_start to on_train_batch_end."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.times: list[float] = []

    def on_train_batch_start(self, *_: Any) -> None:
        self.since = self.clock()

    def on_train_batch_end(self, *_: Any) -> None:
        self.times.append(self.clock() - self.since)


def run(
    folder: Path, module: dict[str, Any] | None = None, meter: dict[str, Any] | None = None, **options: Any
) -> Any:
    """Train by the fake clock and return the measured step."""
    clock = Clock()
    harness = MeterHarness(clock)
    fit = trainer(folder, harness.meter(folder, **(meter or {})), max_epochs=2, **options)
    data = loader(128, clock=clock, load_s=0.005)
    fit.fit(Tiny(clock, **(module or {})), data, loader(8) if options.get("limit_val_batches") else None)
    assert harness.profile.measured is not None
    return harness.profile.measured


def test_a_step_is_timed_from_end_to_end(tmp_path: Path) -> None:
    """Loading and transfer are included: 36 ms, where a timer between Lightning's two hooks measures 13 ms."""
    clock = Clock()
    harness, naive = MeterHarness(clock), StartToEnd(clock)
    fit = trainer(
        tmp_path, naive, harness.meter(tmp_path), max_epochs=2, val_check_interval=2, limit_val_batches=2
    )
    fit.fit(Tiny(clock), loader(128, clock=clock, load_s=0.005), loader(8))
    measured = harness.profile.measured
    assert measured is not None
    assert measured.steps == 10
    assert measured.step.median_s == pytest.approx(STEP_S)
    assert (measured.step.p10_s, measured.step.p90_s) == pytest.approx((STEP_S, STEP_S))
    assert naive.times[10] == pytest.approx(0.013)


def test_each_phase_has_its_own_time(tmp_path: Path) -> None:
    """Forward and backward, which Lightning runs inside optimizer.step, are not counted as optimizer time."""
    measured = run(tmp_path)
    phases = (measured.data_wait, measured.transfer, measured.forward, measured.backward, measured.optimizer)
    assert [phase.median_s for phase in phases] == pytest.approx([0.020, 0.003, 0.007, 0.004, 0.002])


def test_validation_is_not_part_of_a_step(tmp_path: Path) -> None:
    """Validation after every second batch does not lengthen the step; its batches have a time of their own."""
    measured = run(tmp_path, val_check_interval=2, limit_val_batches=2)
    assert measured.step.p90_s == pytest.approx(STEP_S)
    assert measured.validation_batch.median_s == pytest.approx(0.050)


def test_the_sanity_check_is_not_validation(tmp_path: Path) -> None:
    """Lightning's sanity check before training is not timed."""
    measured = run(tmp_path, num_sanity_val_steps=2, limit_val_batches=2, check_val_every_n_epoch=5)
    assert measured.validation_batch is None
    assert measured.step.p90_s == pytest.approx(STEP_S)


@pytest.mark.parametrize("accumulate", [2, 4])
def test_accumulation_is_timed_per_optimizer_step(tmp_path: Path, accumulate: int) -> None:
    """With accumulation k a step is k batches, and the optimizer runs in the last of them only."""
    measured = run(tmp_path, meter={"measure_steps": 3}, accumulate_grad_batches=accumulate)
    assert measured.steps == 3
    assert measured.step.median_s == pytest.approx(accumulate * 0.034 + 0.002)
    assert measured.optimizer.median_s == pytest.approx(0.002)
    assert measured.backward.median_s == pytest.approx(accumulate * 0.004)


def test_manual_optimization_with_two_optimizers(tmp_path: Path) -> None:
    """Two optimizers that step in every batch are one step: global_step counts both."""
    measured = run(tmp_path, {"manual": True, "optimizers": 2})
    assert measured.steps == 10
    assert measured.step.median_s == pytest.approx(STEP_S + 0.002)
    assert measured.forward.median_s == pytest.approx(0.007)
    assert measured.optimizer.median_s == pytest.approx(0.004)


def test_manual_optimization_that_accumulates(tmp_path: Path) -> None:
    """Under manual optimization a step reaches from one stepping batch to the next."""
    measured = run(tmp_path, {"manual": True, "step_every": 2})
    assert measured.step.median_s == pytest.approx(2 * 0.034 + 0.002)


class SlowCheckpoint(pl.Callback):
    """Saves after every batch; writing takes 500 ms by the fake clock."""

    def __init__(self, clock: Clock, path: Path) -> None:
        self.clock = clock
        self.path = path

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        trainer.save_checkpoint(self.path)

    def on_save_checkpoint(self, *_: Any) -> None:
        self.clock.advance(0.5)


def test_saving_a_checkpoint_is_not_part_of_a_step(tmp_path: Path) -> None:
    """Checkpoints are a separate term of the cost, so the step time excludes them."""
    clock = Clock()
    harness = MeterHarness(clock)
    saver = SlowCheckpoint(clock, tmp_path / "x.ckpt")
    fit = trainer(tmp_path, harness.meter(tmp_path), saver, max_epochs=1)
    fit.fit(Tiny(clock), loader(128, clock=clock, load_s=0.005))
    assert harness.profile.measured is not None
    assert harness.profile.measured.step.p90_s == pytest.approx(STEP_S)


class SlowStart(pl.Callback):
    """Each of the first `steps` batches takes one second more."""

    def __init__(self, clock: Clock, steps: int) -> None:
        self.clock = clock
        self.steps = steps

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step < self.steps:
            self.clock.advance(1.0)


@pytest.mark.parametrize(("warmup", "slow"), [(3, 4), (0, 2), (5, 6)])
def test_warm_up_and_the_traced_step_are_left_out(tmp_path: Path, warmup: int, slow: int) -> None:
    """The window excludes the warm-up, in any case the first step, and the traced step."""
    clock = Clock()
    harness = MeterHarness(clock)
    fit = trainer(
        tmp_path, SlowStart(clock, slow), harness.meter(tmp_path, warmup_steps=warmup), max_epochs=1
    )
    fit.fit(Tiny(clock), loader(128, clock=clock, load_s=0.005))
    assert harness.profile.measured is not None
    assert harness.profile.measured.step.p90_s == pytest.approx(STEP_S)


def test_an_epoch_shorter_than_the_warm_up(tmp_path: Path) -> None:
    """Warm-up and window can extend over several epochs."""
    clock = Clock()
    harness = MeterHarness(clock)
    fit = trainer(tmp_path, harness.meter(tmp_path), max_epochs=20)
    fit.fit(Tiny(clock), loader(8, clock=clock, load_s=0.005))
    assert harness.profile.measured is not None
    assert harness.profile.measured.steps == 10
    assert harness.profile.measured.step.median_s == pytest.approx(STEP_S)
    assert harness.profile.plan.optimizer_steps == 40


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_both_namespaces_give_the_same_times(tmp_path: Path, namespace: str) -> None:
    """Trainers of pytorch_lightning and lightning.pytorch give the same step time."""
    clock = Clock()
    harness = MeterHarness(clock)
    fit = trainer(tmp_path, harness.meter(tmp_path), namespace=namespace, max_epochs=1)
    fit.fit(module_class(namespace)(clock), loader(128, clock=clock, load_s=0.005))
    assert harness.profile.measured is not None
    assert harness.profile.measured.step.median_s == pytest.approx(STEP_S)
    assert namespace in harness.profile.measured.software
    assert (tmp_path / "trainfare-report.html").is_file()


def test_the_users_profiler_keeps_working(tmp_path: Path) -> None:
    """The user's profiler records the same number of actions with and without FareMeter."""
    from pytorch_lightning.profilers import SimpleProfiler

    actions: dict[bool, int] = {}
    for metered in (False, True):
        profiler = SimpleProfiler(dirpath=tmp_path, filename=f"p{metered}")
        callbacks = [MeterHarness().meter(tmp_path)] if metered else []
        fit = trainer(tmp_path, *callbacks, profiler=profiler, max_epochs=2)
        fit.fit(Tiny(), loader(64))
        assert fit.profiler is profiler
        ours = ("FareMeter",)
        actions[metered] = sum(
            len(times)
            for name, times in profiler.recorded_durations.items()
            if not any(o in name for o in ours)
        )
    assert actions[True] == actions[False]


@pytest.mark.parametrize("machine", [None, "gcp:g2-standard-12@us-central1"])
def test_a_measured_loader_knows_its_host(tmp_path: Path, machine: str | None) -> None:
    """The machine where that is stated, else its processor; and what the loader makes samples of."""
    clock = Clock()
    harness = MeterHarness(clock, processor=lambda: "AMD EPYC 7R13 Processor", usd_per_hour=lambda *_: 1.0)
    fit = trainer(tmp_path, harness.meter(tmp_path, machine=machine), max_epochs=2)
    fit.fit(Tiny(clock), loader(128, clock=clock, load_s=0.005))
    profile = harness.profile
    assert profile.measured is not None
    assert profile.measured.machine == (machine or "AMD EPYC 7R13 Processor")
    host = input_pipeline(profile).host
    assert host is not None
    assert host.thread_score == (512 if machine else 774)
