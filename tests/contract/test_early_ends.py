"""However training ends, torch's modes, hooks and stance and the Trainer's profiler are restored."""

from __future__ import annotations

import signal
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback
from pytorch_lightning.callbacks import EarlyStopping
from pytorch_lightning.profilers import SimpleProfiler

from builders import contract
from builders.contract import NO_MODES, Outcome, Tiny


class Skips(Tiny):
    """Ends its epoch at one batch by returning -1 from on_train_batch_start."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> int | None:
        return -1 if batch_idx == self.at else None


def in_step(at: int, act: Callable[[Any], None]) -> Callable[[], Tiny]:
    def before(module: Any, batch_idx: int) -> None:
        if len(module.losses) == at:
            act(module)

    return lambda: Tiny(before)


def fail(module: Any) -> None:
    raise ValueError("mine")


def ctrl_c(module: Any) -> None:
    signal.raise_signal(signal.SIGINT)


def stop(module: Any) -> None:
    module.trainer.should_stop = True


class FailsIn(Tiny):
    """Raises in another of the module's hooks."""

    def __init__(self, hook: str, at: int) -> None:
        super().__init__()

        def raising(*_: Any, **__: Any) -> None:
            if len(self.losses) == at:
                raise ValueError("mine")

        setattr(self, hook, raising)


MODULES = {
    **{f"skips_{at}": lambda at=at: Skips(at) for at in (0, 1, 2, 7)},
    **{f"raises_{at}": in_step(at, fail) for at in (0, 1, 2, 7)},
    **{f"ctrl_c_{at}": in_step(at, ctrl_c) for at in (0, 1, 2, 7)},
    **{f"stops_{at}": in_step(at, stop) for at in (0, 1, 2, 7)},
    **{
        f"{hook}_{at}": lambda hook=hook, at=at: FailsIn(hook, at)
        for hook in (
            "on_before_backward",
            "on_after_backward",
            "on_before_optimizer_step",
            "on_train_batch_end",
        )
        for at in (1, 2, 3)
    },
    "validation": lambda: FailsIn("on_validation_batch_start", 8),
}


class MetricStops(EarlyStopping):
    """Stops when the metric does not improve in one validation."""

    def __init__(self) -> None:
        super().__init__("val", patience=1)


TRAINERS: dict[str, dict[str, Any]] = {
    "max_time_now": {"max_time": timedelta(seconds=0), "max_epochs": -1},
    "max_steps_1": {"max_steps": 1, "max_epochs": -1},
    "max_steps_2": {"max_steps": 2, "max_epochs": -1},
    "no_steps": {"max_steps": 0, "max_epochs": -1},
    "no_epochs": {"max_epochs": 0},
    "no_batches": {"limit_train_batches": 0},
    "one_batch": {"limit_train_batches": 1},
    "fast_dev_run": {"fast_dev_run": True},
    "sanity": {"num_sanity_val_steps": 2},
    "validation_in_between": {"val_check_interval": 2},
    "accumulate": {"accumulate_grad_batches": 3},
    "overfit": {"overfit_batches": 2},
    "inference_off": {"inference_mode": False},
    "anomaly": {"detect_anomaly": True},
}


class ModeRecorder(Callback):
    """Runs after FareMeter and records torch's modes after each batch and in validation."""

    def __init__(self) -> None:
        self.in_validation: list[Any] = []
        self.after_batch: list[Any] = []
        self.traced_batches = 0

    def on_train_batch_start(self, *_: Any) -> None:
        self.traced_batches += bool(contract.torch_modes()["dispatch"])

    def on_train_batch_end(self, *_: Any) -> None:
        self.after_batch.append(contract.torch_modes())

    def on_validation_batch_start(self, *_: Any) -> None:
        self.in_validation.append(contract.torch_modes())


def both(make: Callable[[], Any], **options: Any) -> tuple[Outcome, Outcome, ModeRecorder]:
    """Run without and with FareMeter; return both results and the recorder of the metered run."""
    recorder = ModeRecorder()
    plain = contract.fit([ModeRecorder()], make, **options)
    return plain, contract.fit([contract.meter(), recorder], make, **options), recorder


@pytest.mark.parametrize("end", MODULES)
def test_a_run_ended_by_the_module(end: str, record_property: Callable[[str, object], None]) -> None:
    """A skipped epoch, an exception, Ctrl-C or a stop, before, in and after the traced step: all is restored."""
    plain, metered, recorder = both(MODULES[end])
    assert (plain.error is None) == end.startswith(("skips", "stops"))
    assert metered.comparable == plain.comparable
    assert metered.modes == NO_MODES
    assert metered.warned == ()
    seen = [*recorder.after_batch, *recorder.in_validation]
    assert all(modes == NO_MODES for modes in seen)
    record_property("{} batches of runs that ended early, none with a mode of torch left on", len(seen))


@pytest.mark.parametrize("options", TRAINERS)
def test_a_run_ended_by_the_trainer(options: str, record_property: Callable[[str, object], None]) -> None:
    """Time limits, step limits and runs without steps: all is restored, with no warning but for fast_dev_run."""
    plain, metered, recorder = both(Tiny, **TRAINERS[options])
    assert metered.comparable == plain.comparable
    assert metered.modes == NO_MODES
    assert len(metered.warned) == (1 if options == "fast_dev_run" else 0)
    seen = [*recorder.after_batch, *recorder.in_validation]
    assert all(modes == NO_MODES for modes in seen)
    record_property("{} batches of runs that ended early, none with a mode of torch left on", len(seen))


@pytest.mark.parametrize("options", ["max_steps_1", "no_steps", "no_epochs", "no_batches", "one_batch"])
def test_a_run_too_short_prints_the_steps_needed(
    options: str, record_property: Callable[[str, object], None]
) -> None:
    """The output states how many steps there were and how many are needed."""
    lines: list[str] = []
    contract.fit([contract.meter(contract.fake_services(say=lines.append))], Tiny, **TRAINERS[options])
    said = [line for line in lines if "not enough steps (have " in line]
    assert len(said) == 1, lines
    record_property("{} runs too short to be measured that say how many steps they lack", len(said))


@pytest.mark.parametrize("at", [1, 2, 7])
def test_another_step_is_traced_after_a_batch_that_was_cut_off(at: int) -> None:
    """The trace of a batch without an end is discarded; the profile has the operations of a whole one."""
    profiles: list[Any] = []
    services = contract.fake_services(
        write_profile=lambda profile, folder: profiles.append(profile) or folder
    )
    contract.fit([contract.meter(services)], lambda: Skips(at), max_epochs=12 // at + 2)
    whole: list[Any] = []
    services = contract.fake_services(write_profile=lambda profile, folder: whole.append(profile) or folder)
    contract.fit([contract.meter(services)])
    assert profiles[0].operations == whole[0].operations


def test_two_batches_are_traced() -> None:
    """Exactly two consecutive batches run under a dispatch mode: they show whether steps differ."""
    recorder = ModeRecorder()
    contract.fit([contract.meter(), recorder])
    assert recorder.traced_batches == 2


def test_a_run_ended_by_early_stopping() -> None:
    """After a stop by Lightning's EarlyStopping all is restored."""

    class Flat(Tiny):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log("val", torch.tensor(1.0))

    plain = contract.fit([MetricStops()], Flat, max_epochs=6)
    metered = contract.fit([MetricStops(), contract.meter()], Flat, max_epochs=6)
    assert plain.steps < 6 * contract.BATCHES
    assert metered.comparable == plain.comparable
    assert metered.modes == NO_MODES


def test_the_users_profiler_gets_every_action(tmp_path: Any) -> None:
    """The user's profiler gets each action as often as without FareMeter, and is the Trainer's at the end."""

    def actions(callbacks: list[Any]) -> dict[str, int]:
        profiler = SimpleProfiler(dirpath=tmp_path, filename="profile")
        outcome = contract.fit(callbacks, profiler=profiler)
        assert outcome.profiler == "the user's"
        counts = {name: len(times) for name, times in profiler.recorded_durations.items()}
        return {name: count for name, count in counts.items() if "FareMeter" not in name}

    assert actions([contract.meter()]) == actions([])


def test_a_profiler_that_wraps_ours_is_kept() -> None:
    """A profiler that another callback puts around ours stays in the Trainer; ours then only forwards."""

    class Wrapper:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

    class Wraps(Callback):
        def on_train_start(self, trainer: Any, module: Any) -> None:
            trainer.profiler = self.mine = Wrapper(trainer.profiler)

        def teardown(self, trainer: Any, module: Any, stage: str) -> None:
            self.kept = trainer.__dict__["profiler"] is self.mine

    wraps = Wraps()
    outcome = contract.fit([contract.meter(), wraps])
    assert wraps.kept
    assert object.__getattribute__(wraps.mine.inner, "_listen") is None
    assert outcome.warned == ()
    assert outcome.losses == contract.fit([Wraps()]).losses


def test_a_dispatch_mode_of_the_user_is_kept() -> None:
    """A dispatch mode that is active during the whole training is neither left nor moved."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class UsersMode(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            return func(*args, **(kwargs or {}))

    with UsersMode():
        plain, metered, _ = both(Tiny)
        assert metered.modes == {**NO_MODES, "dispatch": ["UsersMode"]}
    assert metered.comparable == plain.comparable


def test_a_second_fit_of_the_same_objects_is_metered_again() -> None:
    """The callback can be used for several runs, also after one that ended early."""
    profiles: list[Any] = []
    callback = contract.meter(
        contract.fake_services(write_profile=lambda profile, folder: profiles.append(profile) or folder)
    )
    contract.fit([callback], in_step(9, fail))
    contract.fit([callback])
    contract.fit([callback])
    assert [profile.measured.steps for profile in profiles] == [3, 3, 3]
    assert profiles[1].operations == profiles[2].operations
