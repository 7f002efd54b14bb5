"""However a run ends, FareMeter leaves the Trainer and torch as they were, and says what it knows."""

from __future__ import annotations

import signal
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from builders.lightning_modules import (
    Tiny,
    World,
    loader,
    nothing_left_behind,
    of_ours,
    quiet,
    stream,
    trainer,
)

pytestmark = quiet
FILES = ("trainfare-profile.json", "trainfare-report.html", "trainfare-report.json")


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("trainfare-*"))


@pytest.fixture(autouse=True)
def _interrupts() -> Any:
    """Lightning ignores SIGINT after a Ctrl-C; the next test wants it back."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


class Spy(pl.Callback):
    """Sees whether a step is being watched while it runs."""

    def __init__(self) -> None:
        self.watched: list[bool] = []

    def on_before_optimizer_step(self, *_: Any) -> None:
        from torch.utils._python_dispatch import _get_current_dispatch_mode_stack as stack

        self.watched.append(bool(stack()))


def test_exactly_one_step_is_watched(tmp_path: Path) -> None:
    """After the warm-up one step is traced, and only that one."""
    spy = Spy()
    fit = trainer(tmp_path, World().meter(tmp_path), spy, max_epochs=2)
    fit.fit(Tiny(), loader())
    assert [index for index, watched in enumerate(spy.watched) if watched] == [3]
    assert nothing_left_behind(fit)


class Stop(pl.Callback):
    """Ends the run in one of Lightning's ways while step 4, the traced one, is at work."""

    def __init__(self, how: str) -> None:
        self.how = how

    def on_before_optimizer_step(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == 3:
            if self.how == "early_stop":
                trainer.should_stop = True
            elif self.how == "time":
                trainer.callbacks[-1]._duration = 0.0


@pytest.mark.parametrize("how", ["early_stop", "time"])
def test_a_run_that_stops_itself(tmp_path: Path, how: str) -> None:
    """Early stopping and max_time end inside the traced step: the report is there, nothing stays behind."""
    world = World()
    options = {"max_time": timedelta(hours=1)} if how == "time" else {}
    fit = trainer(tmp_path, world.meter(tmp_path), Stop(how), max_epochs=2, **options)
    fit.fit(Tiny(), loader())
    assert nothing_left_behind(fit)
    assert files(tmp_path) == list(FILES)
    assert any("not enough steps (have 4, need 14)" in line for line in world.lines)


class Ours(RuntimeError):
    """An error of the user's."""


@pytest.mark.parametrize("error", [Ours("broken"), KeyboardInterrupt(), SystemExit(7)], ids=repr)
@pytest.mark.parametrize("step", [0, 3, 9, 20])
def test_the_user_s_exceptions_pass_through(tmp_path: Path, error: BaseException, step: int) -> None:
    """An exception before, inside and after the traced step comes out as it went in, and what is known is written."""
    world = World()
    fit = trainer(tmp_path, world.meter(tmp_path), max_epochs=2)
    with pytest.raises((type(error), SystemExit)) as caught:
        fit.fit(Tiny(raise_at=step, error=error), loader())
    if not isinstance(error, KeyboardInterrupt):
        assert caught.value is error
    assert fit.global_step == step
    assert nothing_left_behind(fit)
    assert files(tmp_path) == (list(FILES) if step else [])
    if step:
        assert any("ended early" in note for note in world.profile.notes)
    if step < 14:
        assert any("not enough steps" in line for line in world.lines) == (step <= 4)


@pytest.mark.parametrize("batch", [0, 3, 9])
def test_an_epoch_that_the_user_cuts_short(tmp_path: Path, batch: int) -> None:
    """on_train_batch_start returning -1 skips on_train_batch_end: the watched step is dropped and tried again."""
    world = World()
    fit = trainer(tmp_path, world.meter(tmp_path), max_epochs=8)
    fit.fit(Tiny(skip_at=batch), loader())
    assert nothing_left_behind(fit)
    assert files(tmp_path) == (list(FILES) if batch else [])
    if batch:
        assert world.profile.source.how == "real"


def test_fast_dev_run_writes_nothing(tmp_path: Path) -> None:
    """fast_dev_run is a smoke test: one warning, no file, no line."""
    world = World()
    fit = trainer(tmp_path, world.meter(tmp_path), fast_dev_run=20)
    with pytest.warns(UserWarning, match="fast_dev_run") as warned:
        fit.fit(Tiny(), loader())
    assert len(of_ours(warned)) == 1
    assert files(tmp_path) == []
    assert world.lines == []


@pytest.mark.parametrize(
    ("options", "have"),
    [
        ({"max_steps": 1}, 1),
        ({"max_steps": 3}, 3),
        ({"max_epochs": 1, "limit_train_batches": 0}, 0),
        ({"max_epochs": 0}, 0),
    ],
    ids=str,
)
def test_too_few_steps_are_said_plainly(tmp_path: Path, options: dict[str, Any], have: int) -> None:
    """A run too short to measure says how many steps it had and needs; what was traced is still priced."""
    world = World()
    fit = trainer(tmp_path, world.meter(tmp_path), **options)
    fit.fit(Tiny(), loader())
    assert f"trainfare: not enough steps (have {have}, need 14)" in world.lines
    assert nothing_left_behind(fit)
    assert files(tmp_path) == (list(FILES) if have else [])
    if have:
        assert world.profile.measured is None
        assert world.profile.source.how == "real"
        assert world.profile.step_flops > 0
        assert any(f"have {have}, need 14" in note for note in world.profile.notes)


def test_part_of_a_window_is_used(tmp_path: Path) -> None:
    """A run that ends inside the window is measured with the steps that it had, and says so."""
    world = World()
    trainer(tmp_path, world.meter(tmp_path), max_steps=7).fit(Tiny(), loader())
    assert world.profile.measured is not None
    assert world.profile.measured.steps == 3
    assert any("3 of 10 steps" in note for note in world.profile.notes)


def test_a_second_fit_is_measured_afresh(tmp_path: Path) -> None:
    """The same callback in two runs writes one profile each."""
    world = World()
    meter = world.meter(tmp_path)
    for _ in range(2):
        trainer(tmp_path, meter, max_steps=16).fit(Tiny(), loader())
    assert [profile.measured is not None for profile in world.profiles] == [True, True]


def test_validate_and_test_are_none_of_its_business(tmp_path: Path) -> None:
    """Only fit is metered."""
    world = World()
    fit = trainer(tmp_path, world.meter(tmp_path))
    fit.validate(Tiny(), loader(8), verbose=False)
    assert (files(tmp_path), world.lines) == ([], [])


def test_a_training_set_without_a_length(tmp_path: Path) -> None:
    """The run's length stays unknown with a reason, or follows from total_samples."""
    world = World()
    trainer(tmp_path, world.meter(tmp_path), max_epochs=1).fit(Tiny(), stream())
    assert world.profile.plan.optimizer_steps is None
    assert "no length" in str(world.profile.plan.unknown_because)
    told = World()
    trainer(tmp_path, told.meter(tmp_path, total_samples=640), max_epochs=1).fit(Tiny(), stream())
    assert told.profile.plan.optimizer_steps == 160


def test_a_price_source_that_fails_costs_the_prices_alone(tmp_path: Path) -> None:
    """The profile is saved first; the reason is said once."""

    def broken(*_: Any) -> Any:
        raise ConnectionError("no route")

    fit = trainer(tmp_path, World(recommend=broken).meter(tmp_path), max_steps=16)
    with pytest.warns(UserWarning, match="prices unavailable: ConnectionError: no route") as warned:
        fit.fit(Tiny(), loader())
    assert len(of_ours(warned)) == 1
    assert files(tmp_path) == ["trainfare-profile.json"]


def test_a_price_source_that_hangs_is_left_behind(tmp_path: Path) -> None:
    """Pricing has its seconds and no more."""
    import threading

    never = threading.Event()
    world = World(recommend=lambda *_: never.wait(), pricing_limit_s=0.05)
    with pytest.warns(UserWarning, match="prices unavailable: no answer within 0.05 s"):
        trainer(tmp_path, world.meter(tmp_path), max_steps=16).fit(Tiny(), loader())
    never.set()
    assert files(tmp_path) == ["trainfare-profile.json"]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """A report that has no place to go is one warning, after a run that went on to its end."""
    (tmp_path / "file").write_text("")
    fit = trainer(tmp_path, World().meter(tmp_path / "file"), max_steps=16)
    with pytest.warns(UserWarning, match="FareMeter had a fault") as warned:
        fit.fit(Tiny(), loader())
    assert len(of_ours(warned)) == 1
    assert fit.global_step == 16


def test_report_false_writes_and_says_nothing(tmp_path: Path) -> None:
    """report=False leaves only metrics."""
    world = World()
    trainer(tmp_path, world.meter(tmp_path, report=False), max_steps=16).fit(Tiny(), loader())
    assert (files(tmp_path), world.lines, world.profiles) == ([], [], [])


def test_trace_false_measures_and_does_not_rank(tmp_path: Path) -> None:
    """Without a trace there are times and no ranking; nothing pretends that the step is free."""
    world = World()
    spy = Spy()
    trainer(tmp_path, world.meter(tmp_path, trace=False), spy, max_steps=16).fit(Tiny(), loader())
    assert not any(spy.watched)
    assert files(tmp_path) == []
    assert world.profiles == []
    assert any("a step" in line for line in world.lines)


def test_a_trace_with_a_fault_is_not_half_believed(tmp_path: Path) -> None:
    """An incomplete trace is thrown away and a fake copy is traced instead, and the profile says so."""
    from trainfare.trace.step_trace import StepTrace

    def faulty(module: Any, optimizers: Any) -> StepTrace:
        trace = StepTrace(module, optimizers)
        trace.fault = ValueError("lost")
        trace.notes.append("the trace is incomplete: lost")
        return trace

    world = World(watcher=faulty)
    trainer(tmp_path, world.meter(tmp_path), max_steps=25).fit(Tiny(), loader(128))
    assert world.profile.source.how == "fake"
    assert world.profile.step_flops > 0
    assert any("incomplete" in note for note in world.profile.notes)


def test_a_step_that_nobody_can_trace_is_unknown(tmp_path: Path) -> None:
    """Where neither watching nor a fake copy works, the answer is unknown, because; no profile without operations."""

    def broken(*_: Any) -> Any:
        raise ValueError("no copy")

    def watcher(*_: Any) -> Any:
        from trainfare.trace.step_trace import StepTrace

        trace = StepTrace(torch.nn.Linear(1, 1))
        trace.fault = ValueError("lost")
        return trace

    world = World(watcher=watcher, fake_copy=broken)
    trainer(tmp_path, world.meter(tmp_path), max_steps=25).fit(Tiny(), loader(128))
    assert files(tmp_path) == []
    assert any("unknown, because" in line and "no copy" in line for line in world.lines)
