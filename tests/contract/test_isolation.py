"""Between the first and the last step FareMeter touches no file, socket, process or global state, and hardly any time."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import tracemalloc
from collections import Counter
from typing import Any

import pytest
import torch

from builders import audited, contract
from builders.contract import NOTHING_STANDS, Tiny


@pytest.fixture(scope="module")
def arms(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("audited")
    command = [sys.executable, audited.__file__, str(folder)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith(audited.MARK)]
    assert lines, done.stderr
    result = json.loads(lines[-1].removeprefix(audited.MARK))
    result["files"] = sorted(path.name for path in folder.iterdir())
    return result


def test_the_ear_is_open(arms: dict[str, Any]) -> None:
    """A callback that writes one line a step is heard, so silence means something."""
    assert sum(count for event, count in arms["writes"]["heard"].items() if event.startswith("open")) >= 24
    assert all(arms[name]["deaf"] for name in ("plain", "writes", "metered", "fake_copy"))


@pytest.mark.parametrize(("metered", "plain"), [("metered", "plain"), ("fake_copy", "fake_copy_plain")])
def test_no_file_socket_process_thread_or_import_between_the_steps(
    arms: dict[str, Any], metered: str, plain: str
) -> None:
    """The audit hook hears the same events with FareMeter as without it."""
    heard = Counter(arms[metered]["heard"])
    heard.subtract(Counter(arms[plain]["heard"]))
    assert {event: count for event, count in heard.items() if count > 0} == {}
    assert arms[metered]["status"] == "TrainerStatus.FINISHED"
    assert arms[metered]["steps"] == arms[plain]["steps"] == audited.EPOCHS * contract.BATCHES
    assert "trainfare-report.html" in arms["files"]


def test_the_device_is_never_waited_for(arms: dict[str, Any]) -> None:
    """torch.cuda.synchronize is not called once."""
    assert arms["metered"]["synchronized"] == 0


@pytest.mark.parametrize("arm", ["metered", "fake_copy"])
def test_a_fresh_process_is_left_as_it_was(arms: dict[str, Any], arm: str) -> None:
    """Signals, logging, environment, torch's defaults, warning filters, threads: the same before and after a run."""
    assert arms[arm]["changed"] == {}


def test_importing_the_meter_leaves_the_users_logging_alone(arms: dict[str, Any]) -> None:
    """With one namespace loaded, its messages keep going to its own logger when FareMeter loads the other."""
    before, after = arms["import"]
    assert "pytorch_lightning" in before
    assert after == before


def test_the_process_is_left_as_it_was_after_a_fault() -> None:
    """A callback that fails in the middle leaves the same process behind as one that works."""
    contract.fit([])
    for member in ("on_train_batch_end", "on_train_end"):
        callback, hits = contract.broken_meter(member, lambda: RuntimeError("a fault of ours"))
        with contract.unchanged():
            contract.fit([callback])
        assert hits


def test_nothing_global_is_changed_while_training_runs() -> None:
    """Also between the steps, where Lightning would undo it later: signals, filters, defaults are as without us."""

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


def test_making_a_meter_does_nothing() -> None:
    """The constructor only keeps its arguments: no clock is read, no file touched, nothing is global."""
    reads: list[int] = []
    with contract.unchanged():
        contract.meter(contract.harmless(now=lambda: reads.append(1) or 0.0), machine="aws:x@y")
    assert reads == []


# Cheapness that can be counted.

AFTER_WINDOW_CALLS = 20
WINDOW_CALLS = 420


class Counting(Tiny):
    """Counts the Python and C calls of trainfare's own code in each batch, and looks at what stands."""

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


def test_after_the_window_a_step_is_a_handful_of_calls() -> None:
    """
    Three hooks a step are left, each a few calls deep, and the profiler is the user's own again.

    Pinned by number of calls, which no other job on the machine can disturb.
    """
    module: Any = None

    def make() -> Counting:
        nonlocal module
        module = Counting()
        return module

    outcome = contract.fit([contract.meter()], make, max_epochs=1, validate=False, train=contract.Repeat(60))
    assert outcome.error is None
    assert outcome.warned == ()
    window, after = module.calls[2:4], module.calls[10:]
    assert len(set(after)) == 1, "the cost of a step after the window is not constant"
    assert 0 < after[0] <= AFTER_WINDOW_CALLS
    assert 0 < max(window) <= WINDOW_CALLS
    assert "TeeProfiler" in module.profilers[2]
    assert not any("Tee" in name for name in module.profilers[10:])


def test_after_the_window_memory_does_not_grow() -> None:
    """A thousand steps allocate nothing that stays, in our own files."""
    found: dict[str, int] = {}

    class Long(Tiny):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            if batch_idx in (50, 1050):
                gc.collect()
                snapshot = tracemalloc.take_snapshot().filter_traces(
                    [tracemalloc.Filter(True, "*trainfare/*")]
                )
                found[str(batch_idx)] = sum(item.size for item in snapshot.statistics("filename"))
            return self.net(batch).square().mean()

    tracemalloc.start(1)
    try:
        callback = contract.meter(usd_per_hour=1.0, budget_usd=1e9)
        contract.fit([callback], Long, max_epochs=1, validate=False, train=contract.Repeat(1100))
    finally:
        tracemalloc.stop()
    assert found["50"] > 0
    assert found["1050"] - found["50"] <= 1024


def test_a_run_that_never_steps_does_not_grow_without_end() -> None:
    """Manual optimization that never steps an optimizer: the marks have a ceiling."""
    from trainfare.meter.timing.step_timer import MAX_MARKS, HostClock, PhaseKind, StepTimer

    timer = StepTimer(HostClock(lambda: 0.0), 10)
    timer.begin()
    for _ in range(MAX_MARKS):
        timer.start(PhaseKind.FORWARD)
        timer.stop(PhaseKind.FORWARD)
        timer.batch_end(stepped=False)
    assert timer.full
    assert len(timer._marks) <= MAX_MARKS + 3


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_never_synchronizes_between_the_steps() -> None:
    """On a GPU torch itself raises at any synchronisation of ours, from the first to the last step."""

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
    assert outcome.modes == NOTHING_STANDS
