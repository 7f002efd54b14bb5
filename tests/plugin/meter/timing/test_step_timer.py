"""The stopwatch: what it books, what it leaves out, and that it never waits for a device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from builders.lightning_modules import Clock
from trainfare.meter.timing.cuda_clock import CudaClock
from trainfare.meter.timing.profiler_tap import Action, TeeProfiler, action_of
from trainfare.meter.timing.step_timer import MAX_MARKS, HostClock, PhaseKind, StepTimer, quantiles


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50))
def test_quantiles_are_those_of_numpy(seconds: list[float]) -> None:
    """Median, p10 and p90 are interpolated linearly, as everybody expects."""
    ours = quantiles(seconds)
    theirs = np.quantile(seconds, [0.5, 0.1, 0.9])
    assert (ours.median_s, ours.p10_s, ours.p90_s) == pytest.approx(tuple(theirs), abs=1e-9)


def timer(steps: int = 2) -> tuple[StepTimer, Clock]:
    clock = Clock()
    return StepTimer(HostClock(clock), steps), clock


def spend(watch: StepTimer, clock: Clock, kind: PhaseKind, seconds: float) -> None:
    watch.start(kind)
    clock.advance(seconds)
    watch.stop(kind)


def test_a_nested_phase_is_booked_once() -> None:
    """The optimizer phase is what is left of it without forward and backward inside."""
    watch, clock = timer(1)
    watch.begin()
    watch.start(PhaseKind.OPTIMIZER)
    spend(watch, clock, PhaseKind.FORWARD, 3.0)
    spend(watch, clock, PhaseKind.BACKWARD, 5.0)
    clock.advance(2.0)
    watch.stop(PhaseKind.OPTIMIZER)
    watch.batch_end(stepped=True)
    times = watch.times()
    assert times is not None
    assert times.optimizer is not None
    assert times.forward is not None
    assert (times.step.median_s, times.optimizer.median_s, times.forward.median_s) == (10.0, 2.0, 3.0)
    assert times.data_wait is None


@pytest.mark.parametrize("depth", [1, 2])
def test_a_pause_is_no_part_of_step_or_phase(depth: int) -> None:
    """A pause inside a phase, or a pause in a pause, is taken out of both exactly once."""
    watch, clock = timer(1)
    watch.begin()
    watch.start(PhaseKind.FORWARD)
    clock.advance(1.0)
    for _ in range(depth):
        watch.start(PhaseKind.PAUSE)
        clock.advance(10.0)
    spend(watch, clock, PhaseKind.TRANSFER, 7.0)
    for _ in range(depth):
        watch.stop(PhaseKind.PAUSE)
    clock.advance(1.0)
    watch.stop(PhaseKind.FORWARD)
    watch.batch_end(stepped=True)
    times = watch.times()
    assert times is not None
    assert times.forward is not None
    assert (times.step.median_s, times.forward.median_s, times.transfer) == (2.0, 2.0, None)


def test_a_pause_left_open_ends_with_the_batch() -> None:
    """Validation that never said it ended does not swallow the steps after it."""
    watch, clock = timer(2)
    watch.begin()
    watch.start(PhaseKind.PAUSE)
    clock.advance(5.0)
    watch.batch_end(stepped=True)
    clock.advance(1.0)
    watch.batch_end(stepped=True)
    times = watch.times()
    assert times is not None
    assert (times.step.p10_s, times.step.p90_s) == pytest.approx((0.1, 0.9))


def test_a_phase_without_an_end_is_forgotten() -> None:
    """An exception between start and stop costs that phase, not the step; a stop alone is ignored."""
    watch, clock = timer(2)
    watch.begin()
    watch.start(PhaseKind.FORWARD)
    clock.advance(1.0)
    watch.batch_end(stepped=True)
    watch.stop(PhaseKind.FORWARD)
    watch.stop(PhaseKind.PAUSE)
    clock.advance(1.0)
    watch.batch_end(stepped=True)
    times = watch.times()
    assert times is not None
    assert (times.step.median_s, times.forward) == (1.0, None)


def test_batches_without_a_step_add_up() -> None:
    """Three batches and one step: the step is as long as the three."""
    watch, clock = timer(1)
    watch.begin()
    for stepped in (False, False, True):
        spend(watch, clock, PhaseKind.DATA_WAIT, 1.0)
        watch.batch_end(stepped=stepped)
    times = watch.times()
    assert times is not None
    assert (times.step.median_s, times.batches, times.data_wait_share) == (3.0, 3, 1.0)


def test_nothing_is_recorded_before_or_after_the_window() -> None:
    """A window is closed by its last step; before it begins no moment is asked for."""
    asked: list[float] = []

    def now() -> float:
        asked.append(0.0)
        return float(len(asked))

    watch = StepTimer(HostClock(now), 1)
    watch.start(PhaseKind.FORWARD)
    watch.batch_end(stepped=True)
    assert not asked
    assert watch.times() is None
    watch.begin()
    watch.batch_end(stepped=True)
    count = len(asked)
    watch.start(PhaseKind.FORWARD)
    watch.batch_end(stepped=True)
    assert (watch.full, len(asked)) == (True, count)


def test_a_run_that_never_steps_does_not_grow() -> None:
    """Without optimizer steps the marks come to an end."""
    watch, _ = timer(5)
    watch.begin()
    for _ in range(MAX_MARKS):
        watch.batch_end(stepped=False)
        if watch.full:
            break
    assert watch.full
    assert watch.times() is None


class Event:
    """A CUDA event: ready or not, at a time in milliseconds."""

    def __init__(self, at_ms: float, *, done: bool) -> None:
        self.at_ms = at_ms
        self.done = done

    def query(self) -> bool:
        return self.done

    def elapsed_time(self, other: Event) -> float:
        return other.at_ms - self.at_ms


@pytest.mark.parametrize("done", [True, False])
def test_a_device_is_waited_for_at_most_once_a_window(done: bool) -> None:
    """Events are read together after the window; only a device that is still behind is waited for."""
    waits: list[int] = []
    at_ms = 0.0

    def record() -> Any:
        nonlocal at_ms
        at_ms += 5.0
        return Event(at_ms, done=done)

    clock = CudaClock(torch.device("cpu"), record=record, synchronize=lambda: waits.append(1))
    watch = StepTimer(clock, 20)
    watch.begin()
    for _ in range(20):
        watch.start(PhaseKind.FORWARD)
        watch.stop(PhaseKind.FORWARD)
        watch.batch_end(stepped=True)
    assert (waits, watch.ready) == ([], done)
    times = watch.times()
    assert times is not None
    assert times.forward is not None
    assert (times.step.median_s, times.forward.median_s) == pytest.approx((0.015, 0.005))
    assert waits == ([] if done else [1])


class Profiler:
    """A user's profiler that writes down what it is told."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []

    def start(self, action_name: str) -> None:
        self.calls.append(("start", action_name))

    def stop(self, action_name: str) -> None:
        self.calls.append(("stop", action_name))

    def profile(self, action_name: str) -> Any:
        return torch.autograd.profiler.record_function(action_name)


def test_the_tee_passes_everything_on() -> None:
    """Start, stop, attributes and isinstance reach the user's profiler."""
    inner = Profiler()
    heard: list[tuple[Action, bool]] = []
    tee: Any = TeeProfiler(inner, lambda action, starting: heard.append((action, starting)), pytest.fail)
    tee.start("[Strategy]DDPStrategy.training_step")
    tee.stop("[Strategy]DDPStrategy.training_step")
    tee.start("whatever")
    tee.mine = 3
    with tee.profile("save_checkpoint"):
        pass
    assert [call[0] for call in inner.calls] == ["start", "stop", "start"]
    assert [(action.opens, starting) for action, starting in heard] == [
        (PhaseKind.FORWARD, True),
        (PhaseKind.FORWARD, False),
        (PhaseKind.PAUSE, True),
        (PhaseKind.PAUSE, False),
    ]
    assert isinstance(tee, Profiler)
    assert inner.mine == 3  # type: ignore[attr-defined]


def test_a_fault_of_the_listener_stays_inside() -> None:
    """An error of ours silences the tee, is told once, and the user's profiler hears every call."""
    inner = Profiler()
    faults: list[Exception] = []

    def listen(*_: Any) -> None:
        raise ValueError("ours")

    tee = TeeProfiler(inner, listen, faults.append)
    for _ in range(3):
        tee.start("save_checkpoint")
        tee.stop("save_checkpoint")
    assert len(inner.calls) == 6
    assert [str(fault) for fault in faults] == ["ours"]


def test_a_fault_of_the_user_s_profiler_passes_through() -> None:
    """What the user's profiler raises is the user's."""

    class Broken(Profiler):
        def start(self, action_name: str) -> None:
            raise RuntimeError("theirs")

    tee = TeeProfiler(Broken(), lambda *_: None, pytest.fail)
    with pytest.raises(RuntimeError, match="theirs"):
        tee.start("x")


@pytest.mark.parametrize(
    ("name", "opens"),
    [
        ("[_TrainingEpochLoop].train_dataloader_next", PhaseKind.DATA_WAIT),
        ("[Strategy]SingleDeviceStrategy.batch_to_device", PhaseKind.TRANSFER),
        ("[LightningModule]M.optimizer_step", PhaseKind.OPTIMIZER),
        ("optimizer_step", PhaseKind.OPTIMIZER),
        ("save_checkpoint", PhaseKind.PAUSE),
        ("[Callback]training_step", None),
        ("[Callback]Mine.optimizer_step", None),
        ("run_training_batch", None),
        ("[_EvaluationLoop].val_next", None),
    ],
)
def test_what_lightning_s_names_mean(name: str, opens: PhaseKind | None) -> None:
    """Only Lightning's own phases are taken for phases."""
    action = action_of(name)
    assert (None if action is None else action.opens) == opens
