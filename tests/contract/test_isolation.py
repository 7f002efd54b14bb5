"""Between the first and the last step FareMeter uses no file, socket or process, changes no global state, and is fast."""

from __future__ import annotations

import gc
import json
import sys
import tracemalloc
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch

from builders import audited, contract
from builders.cli import run_python
from builders.contract import NO_MODES, Tiny
from builders.environments import lean_python


@pytest.fixture(scope="module")
def arms(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("audited")
    ledger = {"TRAINFARE_LEDGER": str(folder / "ledger")}
    done = run_python(audited.__file__, folder, cwd=folder, python=lean_python(), environment=ledger)
    lines = [line for line in done.stdout.splitlines() if line.startswith(audited.MARK)]
    assert lines, done.stderr
    result = json.loads(lines[-1].removeprefix(audited.MARK))
    result["files"] = sorted(path.name for path in folder.iterdir())
    return result


def test_the_audit_hook_detects_a_write(arms: dict[str, Any]) -> None:
    """A callback that writes one line in each step is detected, so that no event means no write."""
    assert sum(count for event, count in arms["writes"]["events"].items() if event.startswith("open")) >= 24
    assert all(arms[name]["stopped"] for name in ("plain", "writes", "metered", "mixed"))


@pytest.mark.parametrize(("metered", "plain"), [("metered", "plain"), ("mixed", "mixed_plain")])
def test_no_file_socket_process_thread_or_import_between_the_steps(
    arms: dict[str, Any], metered: str, plain: str, record_property: Callable[[str, object], None]
) -> None:
    """The audit hook gets no additional events with FareMeter."""
    events = Counter(arms[metered]["events"])
    events.subtract(Counter(arms[plain]["events"]))
    added = +events
    record_property("{} events of files, sockets, processes, threads and imports added", added.total())
    assert added == {}
    assert arms[metered]["status"] == "TrainerStatus.FINISHED"
    assert arms[metered]["steps"] == arms[plain]["steps"] == audited.EPOCHS * contract.BATCHES
    assert {"trainfare-report.html", "ledger"} <= set(arms["files"])


def test_the_device_is_never_synchronized(arms: dict[str, Any]) -> None:
    """torch.cuda.synchronize is not called."""
    assert arms["metered"]["synchronized"] == 0


@pytest.mark.parametrize("arm", ["metered", "mixed"])
def test_the_state_of_a_new_process_is_unchanged(arms: dict[str, Any], arm: str) -> None:
    """Signals, logging, environment, torch's defaults, warning filters and threads are the same after a run."""
    assert arms[arm]["changed"] == {}


def test_importing_fare_meter_does_not_change_logging(arms: dict[str, Any]) -> None:
    """With one namespace imported, its logger stays in use when FareMeter imports the other."""
    before, after = arms["import"]
    assert "pytorch_lightning" in before
    assert after == before


def test_the_process_state_is_unchanged_after_a_fault() -> None:
    """A callback that fails in the middle of a run changes no process-wide state."""
    contract.fit([])
    for member in ("on_train_batch_end", "on_train_end"):
        callback, hits = contract.failing_meter(member, lambda: RuntimeError("a fault of ours"))
        with contract.assert_unchanged():
            contract.fit([callback])
        assert hits


def test_nothing_global_is_changed_while_training_runs() -> None:
    """Between the steps, signals, filters and defaults are as without FareMeter."""

    def during(callbacks: list[Any]) -> list[dict[str, str]]:
        states: list[dict[str, Any]] = []
        outcome = contract.fit(callbacks, lambda: Tiny(lambda *_: states.append(contract.process_state())))
        assert outcome.error is None
        # Lightning's handlers are bound to its Trainer, so their kind is compared.
        for state in states:
            state["signals"] = {
                number: type(handler).__name__ for number, handler in state["signals"].items()
            }
            del state["modes"]
        return [contract.changes(states[0], state) for state in states[1:]] + [states[0]["signals"]]

    assert during([contract.meter()]) == during([])


def test_the_constructor_has_no_side_effects() -> None:
    """The constructor reads no clock and changes no process-wide state."""
    reads: list[int] = []
    with contract.assert_unchanged():
        contract.meter(contract.fake_services(now=lambda: reads.append(1) or 0.0), machine="aws:x@y")
    assert reads == []


# Cost of a step, counted in calls.

AFTER_WINDOW_CALLS = 20
"""Largest number of calls in trainfare's files in a step after the window: 3 hooks of a few calls each."""
WINDOW_CALLS = 480
"""The same for a step of the window, where about 12 marks are made and every profiler action is checked. Both are
chosen limits above the present numbers, so that new work at every step is noticed."""


class Counting(Tiny):
    """Counts the Python and C calls in trainfare's files in each batch, and records the Trainer's profiler."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[int] = []
        self.profilers: list[str] = []
        self._now = 0

    def on_train_batch_end(self, *_: Any) -> None:
        self.calls.append(self._now)
        self._now = 0
        self.profilers.append(type(self.trainer.__dict__["profiler"]).__name__)
        sys.setprofile(self.count)

    def on_train_end(self) -> None:
        sys.setprofile(None)

    def count(self, frame: Any, event: str, _: Any) -> None:
        if event in ("call", "c_call") and "trainfare" in frame.f_code.co_filename:
            self._now += 1


def test_after_the_window_a_step_is_a_few_calls(record_property: Callable[[str, object], None]) -> None:
    """
    After the window three hooks of a few calls each are left, and the Trainer has its own profiler.

    The number of calls is compared and not a time, so that other jobs on the machine do not matter.
    """
    module: Any = None

    def make() -> Counting:
        nonlocal module
        module = Counting()
        return module

    outcome = contract.fit(
        [contract.meter()], make, max_epochs=1, validate=False, train=contract.RepeatedBatch(60)
    )
    assert outcome.error is None
    assert outcome.warned == ()
    window, after = module.calls[3:5], module.calls[10:]  # the two batches before it are traced
    assert len(set(after)) == 1, "the cost of a step after the window is not constant"
    record_property(f"at most {{}} calls a step, {AFTER_WINDOW_CALLS} allowed", after[0])
    record_property(f"at most {{}} calls a step while it measures, {WINDOW_CALLS} allowed", max(window))
    assert 0 < after[0] <= AFTER_WINDOW_CALLS
    assert 0 < max(window) <= WINDOW_CALLS
    assert "TeeProfiler" in module.profilers[3]
    assert not any("Tee" in name for name in module.profilers[10:])


def test_after_the_window_memory_does_not_grow(record_property: Callable[[str, object], None]) -> None:
    """A thousand steps add at most 1 KiB of memory allocated in trainfare's files."""
    numbers_by_key: dict[str, int] = {}

    class Long(Tiny):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            if batch_idx in (50, 1050):
                gc.collect()
                snapshot = tracemalloc.take_snapshot().filter_traces(
                    [tracemalloc.Filter(True, "*trainfare/*")]
                )
                numbers_by_key[str(batch_idx)] = sum(item.size for item in snapshot.statistics("filename"))
            return self.net(batch).square().mean()

    tracemalloc.start(1)
    try:
        callback = contract.meter(usd_per_hour=1.0, budget_usd=1e9)
        contract.fit([callback], Long, max_epochs=1, validate=False, train=contract.RepeatedBatch(1100))
    finally:
        tracemalloc.stop()
    assert numbers_by_key["50"] > 0
    grown = max(0, numbers_by_key["1050"] - numbers_by_key["50"])
    record_property("at most {} bytes more after 1,000 steps, 1,024 allowed", grown)
    assert grown <= 1024


def test_a_run_that_never_steps_has_bounded_memory() -> None:
    """Without an optimizer step the timer stops at MAX_MARKS marks."""
    from trainfare.job.loop import Phase
    from trainfare.meter.timing.step_timer import MAX_MARKS, HostClock, StepTimer

    timer = StepTimer(HostClock(lambda: 0.0), 10)
    timer.begin()
    for _ in range(MAX_MARKS):
        timer.start(Phase.FORWARD)
        timer.stop(Phase.FORWARD)
        timer.batch_end(stepped=False)
    assert timer.full
    assert len(timer._marks) <= MAX_MARKS + 3


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_never_synchronizes_between_the_steps() -> None:
    """On a GPU torch raises at a synchronization in a traced, measured or later step."""

    class Strict(Tiny):
        def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
            torch.cuda.set_sync_debug_mode("error" if 2 <= batch_idx <= 6 else "default")

        def on_train_batch_end(self, *_: Any) -> None:
            torch.cuda.set_sync_debug_mode("default")

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return self.net(batch).square().mean()

    outcome = contract.fit([contract.meter()], Strict, accelerator="gpu")
    assert outcome.error is None
    assert outcome.warned == ()
    assert outcome.modes == NO_MODES
