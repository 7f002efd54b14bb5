"""Steps, validation batches and checkpoints of a run, from the settings of its Trainer."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, GradientAccumulationScheduler, ModelCheckpoint

from builders.lightning_modules import MeterHarness, Tiny, loader, quiet, stream, trainer
from builders.versions import is_before
from trainfare.job.run_plan import (
    CheckpointTrigger,
    LoopLength,
    PlannedRun,
    RunEnd,
    RunPlanner,
    StepComposition,
)
from trainfare.lightning.run_length import read_trainer
from trainfare.report.facts import job_facts
from trainfare_core.ranking.options.assumptions import job_summary

pytestmark = quiet

FACTS = LoopLength(
    batches_per_epoch=100,
    estimated_steps=1000,
    max_epochs=10,
    max_steps=None,
    max_time_s=None,
    time_is_up=False,
    accumulate_grad_batches=1,
    accumulation=(),
    automatic=True,
    optimizers=1,
    replicas=1,
    calls_done=0,
    validates=False,
    validation_batches=None,
    validate_every_n_batches=None,
    validate_by_time=False,
    validate_every_n_epochs=1,
    checkpoints=(),
)


class Reader(pl.Callback):
    """Reads the plan in the hook in which FareMeter reads it."""

    facts: LoopLength
    plan: PlannedRun
    ran: int = 0

    def __init__(self, **arguments: Any) -> None:
        self.arguments = arguments

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.facts = read_trainer(trainer)
        trainer.should_stop = trainer.max_epochs == trainer.max_steps == -1
        self.plan = RunPlanner(self.facts, **self.arguments).plan()

    def on_validation_batch_end(self, trainer: Any, *_: Any) -> None:
        self.ran += not trainer.sanity_checking


def read(
    folder: Path, data: Any, *, reader: Reader | None = None, module: Any = None, **options: Any
) -> Reader:
    reader = reader or Reader()
    callbacks = [reader, *options.pop("callbacks", [])]
    val = loader(16) if options.get("limit_val_batches", 0) else None
    trainer(folder, *callbacks, **options).fit(module or Tiny(), data, val)
    return reader


# Every epoch has 16 batches, unless limited.
SCHEDULES: dict[str, tuple[Any, dict[str, Any], int | None]] = {
    "epochs": (loader, {"max_epochs": 3}, 48),
    "steps": (loader, {"max_epochs": -1, "max_steps": 20}, 20),
    "steps before epochs": (loader, {"max_epochs": 3, "max_steps": 20}, 20),
    "epochs before steps": (loader, {"max_epochs": 2, "max_steps": 1000}, 32),
    "limit_train_batches": (loader, {"max_epochs": 3, "limit_train_batches": 5}, 15),
    "limit_train_batches as a share": (loader, {"max_epochs": 3, "limit_train_batches": 0.5}, 24),
    "accumulation with a short last step": (loader, {"max_epochs": 2, "accumulate_grad_batches": 3}, 12),
    "overfit_batches": (loader, {"max_epochs": 2, "overfit_batches": 2}, 4),
    "no length, steps": (stream, {"max_epochs": -1, "max_steps": 20}, 20),
    "no length, limit": (stream, {"max_epochs": 2, "limit_train_batches": 5}, 10),
    "no length, epochs": (stream, {"max_epochs": 2}, None),
    "time only": (loader, {"max_epochs": -1, "max_time": timedelta(hours=1)}, None),
}


@pytest.mark.parametrize("case", SCHEDULES)
def test_steps_of_the_whole_run(tmp_path: Path, case: str) -> None:
    """The planned steps equal those that the Trainer runs, or are unknown with a reason."""
    data, options, steps = SCHEDULES[case]
    reader = Reader()
    fit = trainer(tmp_path, reader, **options)
    fit.fit(Tiny(), data())
    assert reader.plan.steps == steps
    assert bool(reader.plan.unknown_because) == (steps is None)
    if steps is not None:
        assert fit.global_step == steps


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"max_epochs": 2}, "no length"),
        ({"max_epochs": -1, "max_time": timedelta(hours=1)}, "only max_time"),
    ],
)
def test_an_unknown_length_has_a_reason(tmp_path: Path, options: dict[str, Any], reason: str) -> None:
    """The reason names the missing length or limit."""
    plan = read(tmp_path, stream(), **options).plan
    assert plan.unknown_because is not None
    assert reason in plan.unknown_because


def test_max_time_is_read(tmp_path: Path) -> None:
    """The Trainer's own time limit is part of the plan, in seconds."""
    plan = read(tmp_path, loader(), max_epochs=1, max_time="00:01:00:00").plan
    assert plan.max_time_s == pytest.approx(3600.0, abs=1.0)
    assert plan.steps == 16


def test_total_samples_replaces_a_missing_length(tmp_path: Path) -> None:
    """The batches of an epoch follow from total_samples over all devices, rounded up."""
    reader = Reader(total_samples=62, micro_batch_size=4)
    assert read(tmp_path, stream(), reader=reader, max_epochs=3).plan.steps == 48
    two = replace(FACTS, batches_per_epoch=None, estimated_steps=None, replicas=2)
    assert RunPlanner(two, total_samples=62, micro_batch_size=4).plan().steps == 10 * 8
    unknown = RunPlanner(two, total_samples=62).plan()
    assert unknown.steps is None
    assert any("batch_size" in note for note in unknown.notes)


@pytest.mark.parametrize(
    ("scheduling", "options"),
    [
        ({0: 1, 1: 4}, {"max_epochs": 3}),
        ({0: 3, 2: 5}, {"max_epochs": 4}),
        ({1: 2}, {"max_epochs": 6, "max_steps": 30}),
        ({0: 4, 2: 1}, {"max_epochs": -1, "max_steps": 22}),
    ],
    ids=str,
)
def test_accumulation_that_changes_is_summed_over_its_schedule(
    tmp_path: Path, scheduling: dict[int, int], options: dict[str, Any]
) -> None:
    """The steps of a GradientAccumulationScheduler's run are those that the Trainer runs."""
    reader = Reader()
    fit = trainer(tmp_path, reader, GradientAccumulationScheduler(scheduling=scheduling), **options)
    fit.fit(Tiny(), loader())
    assert (reader.plan.steps, reader.plan.unknown_because) == (fit.global_step, None)


def test_a_resumed_run_plans_the_whole_run(tmp_path: Path) -> None:
    """Resumed in the middle of an epoch, the plan has the steps of the whole run, those done and those left."""
    saver = ModelCheckpoint(tmp_path, "half", every_n_train_steps=5)
    trainer(tmp_path, saver, enable_checkpointing=True, max_steps=5).fit(Tiny(), loader(32))
    reader = Reader()
    fit = trainer(tmp_path, reader, max_epochs=2)
    fit.fit(Tiny(), loader(32), ckpt_path=str(tmp_path / "half.ckpt"))
    assert (reader.plan.steps, reader.plan.steps_done_before, reader.plan.steps_left) == (16, 5, 11)
    # Lightning before 2.5 runs the batch once more at which it was left.
    assert fit.global_step == 16 + is_before("pytorch_lightning", "2.5")


@pytest.mark.parametrize(
    ("behaviour", "composition", "options", "steps"),
    [
        ({"optimizers": 2}, StepComposition(1, 2), {"max_epochs": 2}, 32),
        ({"optimizers": 2}, None, {"max_epochs": -1, "max_steps": 10}, 5),
        ({"optimizers": 1, "step_every": 4}, StepComposition(4, 1), {"max_epochs": 2}, 8),
        ({"optimizers": 2, "step_every": 4}, StepComposition(4, 2), {"max_epochs": -1, "max_steps": 8}, 4),
    ],
)
def test_steps_under_manual_optimization(
    tmp_path: Path,
    behaviour: dict[str, Any],
    composition: StepComposition | None,
    options: dict[str, Any],
    steps: int,
) -> None:
    """max_steps counts each optimizer's steps; one planned step is the batches up to one in which any steps."""
    module = Tiny(manual=True, **behaviour)
    plan = read(tmp_path, loader(), reader=Reader(composition=composition), module=module, **options).plan
    assert plan.steps == steps


@pytest.mark.parametrize(
    "options",
    [
        {"max_epochs": 2},
        {"max_epochs": 4, "check_val_every_n_epoch": 2},
        {"max_epochs": 2, "val_check_interval": 5},
        {"max_epochs": 2, "val_check_interval": 0.25},
        {"max_epochs": 3, "val_check_interval": 10, "check_val_every_n_epoch": None},
        {"max_epochs": -1, "max_steps": 20, "val_check_interval": 3},
        {"max_epochs": 2, "accumulate_grad_batches": 3, "val_check_interval": 4},
    ],
    ids=str,
)
def test_validation_batches_are_those_that_run(tmp_path: Path, options: dict[str, Any]) -> None:
    """The planned validation batches equal those that the Trainer runs, without the sanity check."""
    reader = read(tmp_path, loader(), limit_val_batches=3, num_sanity_val_steps=1, **options)
    assert reader.ran > 0
    assert reader.plan.validation_batches == reader.ran


@pytest.mark.parametrize(
    ("changes", "batches", "noted"),
    [
        ({"validates": False}, 0, False),
        ({"validation_batches": None}, 0, True),
        ({"validate_by_time": True}, 0, True),
        ({"batches_per_epoch": None, "validate_every_n_batches": None}, 0, True),
        ({"batches_per_epoch": None, "validate_every_n_batches": 250}, 4 * 7, False),
        ({"validate_every_n_batches": None}, 10 * 7, False),
    ],
)
def test_validation_that_cannot_be_counted_is_noted(
    changes: dict[str, Any], batches: int, noted: bool
) -> None:
    """Validation whose number of batches is not known is left out of the cost, with a note."""
    facts = replace(
        FACTS, **{"validates": True, "validation_batches": 7, "validate_every_n_batches": 100, **changes}
    )
    plan = RunPlanner(facts).plan()
    assert plan.validation_batches == batches
    assert any("validation is left out" in note for note in plan.notes) == noted


@pytest.mark.parametrize(
    ("planned", "ended", "steps", "note"),
    [
        (
            {},
            RunEnd(48, 4, 0, by_time=False),
            1000,
            "stopped at step 48 of at most 1,000: priced to the last",
        ),
        ({}, RunEnd(48, 4, 0, by_time=True), 1000, None),
        ({}, RunEnd(1000, 10, 0, by_time=False), 1000, None),
        (
            {"estimated_steps": None, "batches_per_epoch": None},
            RunEnd(40, 2, 0, by_time=False),
            40,
            "this run took",
        ),
        ({"estimated_steps": None, "max_epochs": None}, RunEnd(7, 0, 0, by_time=True), 7, "max_time"),
    ],
)
def test_the_length_of_a_run_that_has_ended_is_known(
    planned: dict[str, Any], ended: RunEnd, steps: int, note: str | None
) -> None:
    """Steps really taken where nothing gave the length before; both numbers where the run stopped before its end."""
    plan = RunPlanner(replace(FACTS, **planned), ended=ended).plan()
    assert (plan.steps, plan.unknown_because) == (steps, None)
    assert (plan.steps_note is None) if note is None else (note in str(plan.steps_note))
    assert plan.run_plan(weights_bytes=0, state_bytes=0).steps_note == plan.steps_note


def test_validation_that_ran_is_counted_where_nothing_gave_its_number(tmp_path: Path) -> None:
    """With check_val_every_n_epoch=2 and no sanity check, the number of batches is known after the first run."""
    harness = MeterHarness()
    fit = trainer(tmp_path, harness.meter(tmp_path), max_epochs=4, check_val_every_n_epoch=2)
    fit.fit(Tiny(), loader(), loader(12))
    assert harness.profile.plan.validation_batches == 2 * 3
    assert not any("validation is left out" in note for note in harness.profile.notes)


@pytest.mark.parametrize(
    ("data", "callback", "options", "steps", "note"),
    [
        (stream, GradientAccumulationScheduler({0: 1, 1: 4}), {"max_epochs": 2}, 20, "this run took"),
        (
            loader,
            EarlyStopping("flat", patience=2, check_on_train_epoch_end=True),
            {"max_epochs": 50},
            800,
            "step 48",
        ),
    ],
    ids=["iterable", "early stopping"],
)
def test_a_metered_run_says_how_far_it_came(
    tmp_path: Path, data: Any, callback: Any, options: dict[str, Any], steps: int, note: str
) -> None:
    """The profile and the line of the job in the report have the number and what it is, beside each other."""
    harness = MeterHarness()
    fit = trainer(tmp_path, harness.meter(tmp_path), callback, Flat(), **options)
    fit.fit(Tiny(), data())
    plan = harness.profile.plan
    assert (plan.optimizer_steps, plan.unknown_because) == (steps, None)
    assert note in str(plan.steps_note)
    facts = job_facts(job_summary(harness.profile))
    assert f"{steps} optimizer steps ({plan.steps_note})" in facts


class Flat(pl.Callback):
    """Logs a metric that never gets better."""

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        pl_module.log("flat", torch.tensor(1.0))


@pytest.mark.parametrize(
    ("callback", "every"),
    [
        (lambda folder: ModelCheckpoint(folder, every_n_train_steps=7), 7),
        (lambda folder: ModelCheckpoint(folder), 16),
        (lambda folder: ModelCheckpoint(folder, every_n_epochs=2), 32),
        (lambda folder: ModelCheckpoint(folder, save_top_k=0), None),
    ],
)
def test_checkpoints_are_counted_in_steps(tmp_path: Path, callback: Any, every: int | None) -> None:
    """The checkpoint interval is converted to optimizer steps."""
    options = {"enable_checkpointing": True, "callbacks": [callback(tmp_path)]}
    assert read(tmp_path, loader(), max_epochs=1, **options).plan.checkpoint_every_n_steps == every


def test_a_checkpoint_of_weights_alone_is_smaller() -> None:
    """save_weights_only leaves the optimizer's state out of a checkpoint's size."""
    trigger = CheckpointTrigger(every_n_steps=10, every_n_epochs=0, by_time=False, weights_only=True)
    whole = RunPlanner(replace(FACTS, checkpoints=(replace(trigger, weights_only=False),))).plan()
    small = RunPlanner(replace(FACTS, checkpoints=(trigger,))).plan()
    assert whole.run_plan(weights_bytes=4, state_bytes=8).checkpoint_bytes == 12
    assert small.run_plan(weights_bytes=4, state_bytes=8).checkpoint_bytes == 4
    timed = RunPlanner(
        replace(FACTS, checkpoints=(CheckpointTrigger(0, 0, by_time=True, weights_only=False),))
    ).plan()
    assert timed.checkpoint_every_n_steps is None
    assert any("by time" in note for note in timed.notes)
