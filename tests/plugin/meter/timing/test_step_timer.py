"""The step timer: phases, pauses, the window, CUDA events, and the profiler that feeds it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from builders.lightning_modules import Clock
from trainfare.job.loop import Phase
from trainfare.lightning.profiler_tap import Action, TeeProfiler, action_of
from trainfare.meter.timing.cuda_clock import CudaClock
from trainfare.meter.timing.step_timer import MAX_MARKS, HostClock, StepTimer, quantiles


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50))
def test_quantiles_are_ordered(seconds: list[float]) -> None:
    """p10, median and p90 are in ascending order within the range of the values."""
    result = quantiles(seconds)
    assert min(seconds) <= result.p10_s <= result.median_s <= result.p90_s <= max(seconds)


def test_quantiles_are_interpolated_linearly() -> None:
    """Between the sorted values 1, 2, 3 and 4 the p10 lies at 1.3, the median at 2.5 and the p90 at 3.7."""
    result = quantiles([4.0, 2.0, 1.0, 3.0])
    assert (result.p10_s, result.median_s, result.p90_s) == pytest.approx((1.3, 2.5, 3.7))


def timer(steps: int = 2) -> tuple[StepTimer, Clock]:
    clock = Clock()
    return StepTimer(HostClock(clock), steps), clock


def spend(step_timer: StepTimer, clock: Clock, kind: Phase, seconds: float) -> None:
    step_timer.start(kind)
    clock.advance(seconds)
    step_timer.stop(kind)


def test_a_nested_phase_is_counted_once() -> None:
    """The time of the optimizer phase excludes forward and backward inside it."""
    step_timer, clock = timer(1)
    step_timer.begin()
    step_timer.start(Phase.OPTIMIZER)
    spend(step_timer, clock, Phase.FORWARD, 3.0)
    spend(step_timer, clock, Phase.BACKWARD, 5.0)
    clock.advance(2.0)
    step_timer.stop(Phase.OPTIMIZER)
    step_timer.batch_end(stepped=True)
    times = step_timer.times()
    assert times is not None
    assert times.optimizer is not None
    assert times.forward is not None
    assert (times.step.median_s, times.optimizer.median_s, times.forward.median_s) == (10.0, 2.0, 3.0)
    assert times.data_wait is None


@pytest.mark.parametrize("depth", [1, 2])
def test_a_pause_is_not_part_of_step_or_phase(depth: int) -> None:
    """A pause inside a phase, or inside another pause, is subtracted once from step and phase."""
    step_timer, clock = timer(1)
    step_timer.begin()
    step_timer.start(Phase.FORWARD)
    clock.advance(1.0)
    for _ in range(depth):
        step_timer.start(Phase.PAUSE)
        clock.advance(10.0)
    spend(step_timer, clock, Phase.TRANSFER, 7.0)
    for _ in range(depth):
        step_timer.stop(Phase.PAUSE)
    clock.advance(1.0)
    step_timer.stop(Phase.FORWARD)
    step_timer.batch_end(stepped=True)
    times = step_timer.times()
    assert times is not None
    assert times.forward is not None
    assert (times.step.median_s, times.forward.median_s, times.transfer) == (2.0, 2.0, None)


def test_a_pause_left_open_ends_with_the_batch() -> None:
    """A pause without an end does not extend over the next step."""
    step_timer, clock = timer(2)
    step_timer.begin()
    step_timer.start(Phase.PAUSE)
    clock.advance(5.0)
    step_timer.batch_end(stepped=True)
    clock.advance(1.0)
    step_timer.batch_end(stepped=True)
    times = step_timer.times()
    assert times is not None
    assert (times.step.p10_s, times.step.p90_s) == pytest.approx((0.1, 0.9))


def test_a_phase_without_an_end_is_discarded() -> None:
    """A start without a stop loses that phase and not the step; a stop without a start is ignored."""
    step_timer, clock = timer(2)
    step_timer.begin()
    step_timer.start(Phase.FORWARD)
    clock.advance(1.0)
    step_timer.batch_end(stepped=True)
    step_timer.stop(Phase.FORWARD)
    step_timer.stop(Phase.PAUSE)
    clock.advance(1.0)
    step_timer.batch_end(stepped=True)
    times = step_timer.times()
    assert times is not None
    assert (times.step.median_s, times.forward) == (1.0, None)


def test_batches_without_a_step_add_up() -> None:
    """A step of three batches lasts as long as the three."""
    step_timer, clock = timer(1)
    step_timer.begin()
    for stepped in (False, False, True):
        spend(step_timer, clock, Phase.DATA_WAIT, 1.0)
        step_timer.batch_end(stepped=stepped)
    times = step_timer.times()
    assert times is not None
    assert (times.step.median_s, times.data_wait_share) == (3.0, 1.0)


def test_nothing_is_recorded_before_or_after_the_window() -> None:
    """The clock is read neither before the window begins nor after its last step."""
    reads: list[float] = []

    def now() -> float:
        reads.append(0.0)
        return float(len(reads))

    step_timer = StepTimer(HostClock(now), 1)
    step_timer.start(Phase.FORWARD)
    step_timer.batch_end(stepped=True)
    assert not reads
    assert step_timer.times() is None
    step_timer.begin()
    step_timer.batch_end(stepped=True)
    count = len(reads)
    step_timer.start(Phase.FORWARD)
    step_timer.batch_end(stepped=True)
    assert (step_timer.full, len(reads)) == (True, count)


def test_a_run_that_never_steps_has_a_bounded_window() -> None:
    """Without optimizer steps the window ends at MAX_MARKS marks."""
    step_timer, _ = timer(5)
    step_timer.begin()
    for _ in range(MAX_MARKS):
        step_timer.batch_end(stepped=False)
        if step_timer.full:
            break
    assert step_timer.full
    assert step_timer.times() is None


class Event:
    """A fake CUDA event at a time in milliseconds, passed by the device or not."""

    def __init__(self, at_ms: float, *, done: bool) -> None:
        self.at_ms = at_ms
        self.done = done

    def query(self) -> bool:
        return self.done

    def elapsed_time(self, other: Event) -> float:
        return other.at_ms - self.at_ms


@pytest.mark.parametrize("done", [True, False])
def test_the_device_is_synchronized_at_most_once_in_a_window(done: bool) -> None:
    """Events are read together after the window, with a synchronization only if the device has not passed them."""
    waits: list[int] = []
    at_ms = 0.0

    def record() -> Any:
        nonlocal at_ms
        at_ms += 5.0
        return Event(at_ms, done=done)

    clock = CudaClock(torch.device("cpu"), record=record, synchronize=lambda: waits.append(1))
    step_timer = StepTimer(clock, 20)
    step_timer.begin()
    for _ in range(20):
        step_timer.start(Phase.FORWARD)
        step_timer.stop(Phase.FORWARD)
        step_timer.batch_end(stepped=True)
    assert (waits, step_timer.ready) == ([], done)
    times = step_timer.times()
    assert times is not None
    assert times.forward is not None
    assert (times.step.median_s, times.forward.median_s) == pytest.approx((0.015, 0.005))
    assert waits == ([] if done else [1])


def test_the_last_event_decides_whether_the_device_is_waited_for() -> None:
    """A device that has passed every event but the last is waited for, else its time would not be known yet."""
    waits: list[int] = []
    clock = CudaClock(torch.device("cpu"), synchronize=lambda: waits.append(1))
    events = [Event(5.0, done=True), Event(10.0, done=True), Event(20.0, done=False)]
    assert clock.seconds(events) == pytest.approx([0.0, 0.005, 0.015])
    assert waits == [1]


class Profiler:
    """A user's profiler that records its calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []

    def start(self, action_name: str) -> None:
        self.calls.append(("start", action_name))

    def stop(self, action_name: str) -> None:
        self.calls.append(("stop", action_name))

    def profile(self, action_name: str) -> Any:
        return torch.autograd.profiler.record_function(action_name)


def test_the_profiler_forwards_every_call() -> None:
    """Start, stop, profile, attributes and isinstance reach the user's profiler."""
    inner = Profiler()
    reported: list[tuple[Action, bool]] = []
    tee: Any = TeeProfiler(inner, lambda action, starting: reported.append((action, starting)), pytest.fail)
    tee.start("[Strategy]DDPStrategy.training_step")
    tee.stop("[Strategy]DDPStrategy.training_step")
    tee.start("whatever")
    tee.mine = 3
    with tee.profile("save_checkpoint"):
        pass
    assert [call[0] for call in inner.calls] == ["start", "stop", "start"]
    assert [(action.opens, starting) for action, starting in reported] == [
        (Phase.FORWARD, True),
        (Phase.FORWARD, False),
        (Phase.PAUSE, True),
        (Phase.PAUSE, False),
    ]
    assert isinstance(tee, Profiler)
    assert inner.mine == 3  # type: ignore[attr-defined]


def test_a_fault_of_the_listener_is_reported_once() -> None:
    """After an error of the listener actions are only forwarded; the user's profiler gets every call."""
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


def test_an_error_of_the_users_profiler_is_passed_on() -> None:
    """The listening profiler does not catch an error of the user's profiler."""

    class Broken(Profiler):
        def start(self, action_name: str) -> None:
            raise RuntimeError("theirs")

    tee = TeeProfiler(Broken(), lambda *_: None, pytest.fail)
    with pytest.raises(RuntimeError, match="theirs"):
        tee.start("x")


@pytest.mark.parametrize(
    ("name", "opens"),
    [
        ("[_TrainingEpochLoop].train_dataloader_next", Phase.DATA_WAIT),
        ("[Strategy]SingleDeviceStrategy.batch_to_device", Phase.TRANSFER),
        ("[LightningModule]M.optimizer_step", Phase.OPTIMIZER),
        ("optimizer_step", Phase.OPTIMIZER),
        ("save_checkpoint", Phase.PAUSE),
        ("[Callback]training_step", None),
        ("[Callback]Mine.optimizer_step", None),
        ("run_training_batch", None),
        ("[_EvaluationLoop].val_next", None),
    ],
)
def test_phases_of_lightnings_action_names(name: str, opens: Phase | None) -> None:
    """Only Lightning's own actions are phases; callbacks and unknown actions are not."""
    action = action_of(name)
    assert (None if action is None else action.opens) == opens
