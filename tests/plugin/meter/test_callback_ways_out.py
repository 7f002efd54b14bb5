"""Ends of a run: FareMeter restores the Trainer and torch, and reports what was measured."""

from __future__ import annotations

import signal
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from builders.lightning_modules import (
    MeterHarness,
    Tiny,
    fare_meter_warnings,
    is_restored,
    loader,
    quiet,
    stream,
    trainer,
)
from trainfare.lightning.loop import LightningLoop
from trainfare.meter.other_rank_meter import OtherRankMeter
from trainfare.meter.settings import MeterSettings
from trainfare.recommendation import recommend
from trainfare_core.errors import CannotTellError
from trainfare_core.job_profile import JobProfile

pytestmark = quiet
FILES = ("trainfare-profile.json", "trainfare-report.html", "trainfare-report.json")


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("trainfare-*"))


@pytest.fixture(autouse=True)
def _interrupts() -> Any:
    """Restore the handler of SIGINT, which Lightning ignores after a Ctrl-C."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


class TraceRecorder(pl.Callback):
    """Records for each step whether it runs under a dispatch mode, that is, whether it is traced."""

    def __init__(self) -> None:
        self.traced: list[bool] = []

    def on_before_optimizer_step(self, *_: Any) -> None:
        from torch.utils._python_dispatch import _get_current_dispatch_mode_stack as stack

        self.traced.append(bool(stack()))


def test_three_steps_are_traced_of_an_optimizer_that_is_not_of_torch(tmp_path: Path) -> None:
    """The first ones after the warm-up, and no other."""
    recorder = TraceRecorder()
    fit = trainer(tmp_path, MeterHarness().meter(tmp_path), recorder, max_epochs=2)
    fit.fit(Tiny(), loader())
    assert [index for index, traced in enumerate(recorder.traced) if traced] == [3, 4, 5]
    assert is_restored(fit)


class Stop(pl.Callback):
    """Ends the run by `should_stop` or by `max_time` within step 4, the traced one."""

    def __init__(self, how: str) -> None:
        self.how = how

    def on_before_optimizer_step(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == 3:
            if self.how == "early_stop":
                trainer.should_stop = True
            elif self.how == "time":
                trainer.callbacks[-1]._duration = 0.0


@pytest.mark.parametrize("how", ["early_stop", "time"])
def test_early_stopping_and_max_time(tmp_path: Path, how: str) -> None:
    """A stop within the traced step: the report is written, and Trainer and torch are restored."""
    harness = MeterHarness()
    options = {"max_time": timedelta(hours=1)} if how == "time" else {}
    fit = trainer(tmp_path, harness.meter(tmp_path), Stop(how), max_epochs=2, **options)
    fit.fit(Tiny(), loader())
    assert is_restored(fit)
    assert files(tmp_path) == list(FILES)
    assert any("not enough steps (have 4, need 14)" in line for line in harness.lines)


class UserError(RuntimeError):
    """An error in the user's code."""


@pytest.mark.parametrize("error", [UserError("broken"), KeyboardInterrupt(), SystemExit(7)], ids=repr)
@pytest.mark.parametrize("step", [0, 3, 9, 20])
def test_the_users_exceptions_pass_through(tmp_path: Path, error: BaseException, step: int) -> None:
    """
    The exception object is unchanged, before, in and after the traced step.

    What was measured is saved, in one line before the traceback; after a Ctrl-C, which has none, it is reported.
    """
    harness = MeterHarness()
    fit = trainer(tmp_path, harness.meter(tmp_path), max_epochs=2)
    with pytest.raises((type(error), SystemExit)) as caught:
        fit.fit(Tiny(raise_at=step, error=error), loader())
    if not isinstance(error, KeyboardInterrupt):
        assert caught.value is error
    assert fit.global_step == step
    assert is_restored(fit)
    ctrl_c = isinstance(error, KeyboardInterrupt)
    saved = FILES if ctrl_c and step > 3 else FILES[:1] if step > 3 else ()
    assert files(tmp_path) == list(saved)
    if saved:
        profile = JobProfile.from_json((tmp_path / FILES[0]).read_bytes())
        assert any("ended early" in note for note in profile.notes)
    if not ctrl_c:
        assert harness.shown == 0
        assert sum("\n" not in line for line in harness.lines) <= 3
        assert any("trainfare recommend" in line for line in harness.lines) == bool(saved)
    if step < 14:
        assert any("not enough steps" in line for line in harness.lines) == (step <= 4)


@pytest.mark.parametrize("batch", [0, 3, 9])
def test_an_epoch_that_the_user_cuts_short(tmp_path: Path, batch: int) -> None:
    """on_train_batch_start returning -1 skips on_train_batch_end: a later step is traced instead."""
    harness = MeterHarness()
    fit = trainer(tmp_path, harness.meter(tmp_path), max_epochs=8)
    fit.fit(Tiny(skip_at=batch), loader())
    assert is_restored(fit)
    assert files(tmp_path) == (list(FILES) if batch else [])
    if batch:
        assert harness.profile.source.how == "real"


def test_fast_dev_run_writes_nothing(tmp_path: Path) -> None:
    """fast_dev_run gives one warning, no file and no output."""
    harness = MeterHarness()
    fit = trainer(tmp_path, harness.meter(tmp_path), fast_dev_run=20)
    with pytest.warns(UserWarning, match="fast_dev_run") as warned:
        fit.fit(Tiny(), loader())
    assert len(fare_meter_warnings(warned)) == 1
    assert files(tmp_path) == []
    assert harness.lines == []


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
def test_a_run_with_too_few_steps(tmp_path: Path, options: dict[str, Any], have: int) -> None:
    """The output states the steps it had and needs; a traced step is still ranked, without measured times."""
    harness = MeterHarness()
    fit = trainer(tmp_path, harness.meter(tmp_path), **options)
    fit.fit(Tiny(), loader())
    assert f"trainfare: not enough steps (have {have}, need 14)" in harness.lines
    assert is_restored(fit)
    assert files(tmp_path) == (list(FILES) if have else [])
    if have:
        assert harness.profile.measured is None
        assert harness.profile.source.how == "real"
        assert harness.profile.step_flops > 0
        assert any(f"have {have}, need 14" in note for note in harness.profile.notes)


def test_an_incomplete_window_is_used(tmp_path: Path) -> None:
    """A run that ends within the window is measured by the steps it had, with a note."""
    harness = MeterHarness()
    trainer(tmp_path, harness.meter(tmp_path), max_steps=7).fit(Tiny(), loader())
    assert harness.profile.measured is not None
    assert harness.profile.measured.steps == 3
    assert any("3 of 10 steps" in note for note in harness.profile.notes)


def test_a_second_fit_is_measured_again(tmp_path: Path) -> None:
    """The same callback in two runs makes a profile of each."""
    harness = MeterHarness()
    meter = harness.meter(tmp_path)
    for _ in range(2):
        trainer(tmp_path, meter, max_steps=16).fit(Tiny(), loader())
    assert [profile.measured is not None for profile in harness.profiles] == [True, True]


def test_validate_is_not_metered(tmp_path: Path) -> None:
    """Only fit is metered."""
    harness = MeterHarness()
    fit = trainer(tmp_path, harness.meter(tmp_path))
    fit.validate(Tiny(), loader(8), verbose=False)
    assert (files(tmp_path), harness.lines) == ([], [])


def test_a_training_set_without_a_length(tmp_path: Path) -> None:
    """At the end of a run its length is known: the steps it took, or what follows from total_samples."""
    harness = MeterHarness()
    trainer(tmp_path, harness.meter(tmp_path), max_epochs=1).fit(Tiny(), stream())
    plan = harness.profile.plan
    assert (plan.optimizer_steps, plan.unknown_because) == (16, None)
    assert "that this run took" in str(plan.steps_note)
    with_samples = MeterHarness()
    trainer(tmp_path, with_samples.meter(tmp_path, total_samples=640), max_epochs=1).fit(Tiny(), stream())
    assert with_samples.profile.plan.optimizer_steps == 160


def test_a_price_source_that_fails_gives_one_warning(tmp_path: Path) -> None:
    """The profile is saved before prices are read; the warning has the reason."""

    def fail(*_: Any) -> Any:
        raise ConnectionError("no route")

    fit = trainer(tmp_path, MeterHarness(recommend=fail).meter(tmp_path), max_steps=16)
    with pytest.warns(
        UserWarning,
        match="no ranking: ConnectionError: no route. The profile is saved: rank it with `trainfare rec",
    ) as warned:
        fit.fit(Tiny(), loader())
    assert len(fare_meter_warnings(warned)) == 1
    assert files(tmp_path) == ["trainfare-profile.json"]


def test_a_price_source_that_hangs_is_abandoned(tmp_path: Path) -> None:
    """Pricing ends with a warning after `pricing_limit_s`."""
    import threading

    never = threading.Event()
    harness = MeterHarness(recommend=lambda *_: never.wait(), pricing_limit_s=0.05)
    with pytest.warns(UserWarning, match="no ranking: no answer within 0.05 s"):
        trainer(tmp_path, harness.meter(tmp_path), max_steps=16).fit(Tiny(), loader())
    never.set()
    assert files(tmp_path) == ["trainfare-profile.json"]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """A report folder that cannot be made gives one warning; the run goes on to its end."""
    (tmp_path / "file").write_text("")
    fit = trainer(tmp_path, MeterHarness().meter(tmp_path / "file"), max_steps=16)
    with pytest.warns(UserWarning, match="FareMeter had a fault") as warned:
        fit.fit(Tiny(), loader())
    assert len(fare_meter_warnings(warned)) == 1
    assert fit.global_step == 16


def test_report_false_writes_and_prints_nothing(tmp_path: Path) -> None:
    """With report=False there is no file, no output and no ranking."""
    harness = MeterHarness()
    trainer(tmp_path, harness.meter(tmp_path, report=False), max_steps=16).fit(Tiny(), loader())
    assert (files(tmp_path), harness.lines, harness.profiles) == ([], [], [])


def test_trace_false_measures_without_a_ranking(tmp_path: Path) -> None:
    """Without a trace the step times are printed, and there is no profile and no ranking."""
    harness = MeterHarness()
    recorder = TraceRecorder()
    trainer(tmp_path, harness.meter(tmp_path, trace=False), recorder, max_steps=16).fit(Tiny(), loader())
    assert not any(recorder.traced)
    assert files(tmp_path) == []
    assert harness.profiles == []
    assert any("a step" in line for line in harness.lines)


def test_a_step_that_cannot_be_traced_keeps_its_measured_times(tmp_path: Path) -> None:
    """After a fault of the trace no step is run again: the output has the reason, and the profile the measured part."""
    from trainfare.trace import StepTrace

    def faulty(module: Any, optimizers: Any) -> StepTrace:
        trace = StepTrace(module, optimizers)
        trace.fault = ValueError("lost")
        return trace

    harness = MeterHarness(step_trace=faulty)
    trainer(tmp_path, harness.meter(tmp_path), max_steps=25).fit(Tiny(), loader(128))
    assert files(tmp_path) == ["trainfare-profile.json"]
    profile = JobProfile.from_json((tmp_path / FILES[0]).read_bytes())
    assert profile.measured is not None
    assert (profile.measured.steps, profile.operations) == (10, ())
    assert profile.optimizer.names == ("ClockedSGD",)
    reason = "the step was not traced, because the trace is incomplete: ValueError: lost: trace it before launch with"
    assert sum(reason in line for line in harness.lines) == 1
    with pytest.raises(
        CannotTellError, match=r"no operations.*: the step was not traced, because the trace is incomplete"
    ):
        recommend(profile)


def test_no_mode_is_left_when_an_epoch_ends(tmp_path: Path) -> None:
    """The trace of a batch that the user cuts off ends with the epoch, before other callbacks see its end."""
    modes: list[int] = []

    class Watch(pl.Callback):
        def on_train_epoch_end(self, *_: Any) -> None:
            modes.append(len(_get_current_dispatch_mode_stack()))

    fit = trainer(tmp_path, MeterHarness().meter(tmp_path), Watch(), max_epochs=3)
    fit.fit(Tiny(skip_at=3), loader())
    assert modes == [0, 0, 0]


def test_another_rank_puts_the_profiler_back_at_the_end_of_training(tmp_path: Path) -> None:
    """Before other callbacks see the end, as on rank 0."""
    meter = OtherRankMeter(MeterSettings(), MeterHarness().services, lambda _: None)

    class Elsewhere(pl.Callback):
        restored = False

        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            meter.prepare(1)
            meter.start(LightningLoop(trainer, pl_module, self))
            assert not is_restored(trainer)

        def on_train_end(self, trainer: Any, pl_module: Any) -> None:
            meter.end()
            self.restored = is_restored(trainer)

    watch = Elsewhere()
    trainer(tmp_path, watch, max_steps=2).fit(Tiny(), loader())
    assert watch.restored
