"""A failure inside FareMeter ends the measurement with one warning and does not change the training."""

from __future__ import annotations

import dataclasses
import errno
import functools
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback

from builders import contract
from builders.contract import NO_MODES, Outcome, Tiny
from builders.processes import HANG_S
from trainfare import FareMeter
from trainfare.meter.services import MeterServices

FAULTS: dict[str, Callable[[], BaseException]] = {
    "exception": lambda: Exception("a fault of ours"),
    "cuda_oom": lambda: RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB"),
    "memory": MemoryError,
    "disk_full": lambda: OSError(errno.ENOSPC, "No space left on device"),
    "permission": lambda: PermissionError(errno.EACCES, "Permission denied", "trainfare-profile.json"),
    "unprintable": lambda: Unprintable(),
}
HOOKS = contract.hooks_of(FareMeter)
MEMBERS = {"state_dict": "elapsed_s", "load_state_dict": "earlier_sessions_s"}
QUIET_FAULTS = {"load_state_dict"}


class Unprintable(Exception):
    """An error whose message cannot be read."""

    def __str__(self) -> str:
        raise ValueError("no text")


class UsersFaultError(Exception):
    """An error in the user's code."""


def saves_half_way(folder: Path) -> Callable[[], Tiny]:
    """Return the maker of a module that saves a checkpoint while it trains, which calls `state_dict`."""

    def save(module: Any, batch_idx: int) -> None:
        if batch_idx == 6:
            module.trainer.save_checkpoint(folder / f"half-{module.current_epoch}.ckpt")

    return lambda: Tiny(save)


def raises_at(batch: int, error: Callable[[], BaseException]) -> Callable[[], Tiny]:
    def fail(module: Any, batch_idx: int) -> None:
        if len(module.losses) == batch:
            raise error()

    return lambda: Tiny(fail)


def run(hook: str, folder: Path, callbacks: list[Any]) -> Outcome:
    """Train so that `hook` is called: with an early end for `on_exception`, else resumed from a checkpoint."""
    if hook == "on_exception":
        return contract.fit(callbacks, raises_at(9, lambda: UsersFaultError("mine")))
    resume = folder / "resume.ckpt" if hook == "load_state_dict" else None
    return contract.fit(callbacks, saves_half_way(folder), ckpt_path=resume)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds a checkpoint written with FareMeter after one epoch."""
    folder = tmp_path_factory.mktemp("resume")

    def save(module: Any, batch_idx: int) -> None:
        if module.current_epoch == 1 and batch_idx == 0:
            module.trainer.save_checkpoint(folder / "resume.ckpt")

    contract.fit([contract.meter()], lambda: Tiny(save))
    return folder


@pytest.fixture(scope="module")
def without(checkpoint: Path) -> Callable[[str], Outcome]:
    """The outcome without FareMeter, by hook; each kind of run is made once."""
    return functools.cache(lambda hook: run(hook, checkpoint, []))


def test_the_list_of_hooks_is_complete() -> None:
    """The hooks tested below are found by inspection of the class, so a new hook is included."""
    assert {"setup", "on_train_start", "on_train_batch_end", "on_exception", "teardown"} <= set(HOOKS)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("hook", HOOKS)
def test_a_fault_in_any_hook_costs_one_warning(
    hook: str,
    fault: str,
    checkpoint: Path,
    without: Callable[[str], Outcome],
    record_property: Callable[[str, object], None],
) -> None:
    """Status, steps, losses, weights, random generators and the user's exception equal those without FareMeter."""
    callback, hits = contract.failing_meter(MEMBERS.get(hook, hook), FAULTS[fault])
    outcome = run(hook, checkpoint, [callback])
    assert hits, f"nothing failed: {hook} does not reach the meter"
    assert outcome.comparable == without(hook).comparable
    assert outcome.modes == NO_MODES
    assert len(outcome.warned) == (0 if hook in QUIET_FAULTS else 1), outcome.warned
    assert len(hits) == 1, "the callback did not switch itself off"
    record_property(
        "{} faults in hooks, each with the losses and weights of the run without FareMeter", len(hits)
    )


def test_a_meter_that_cannot_be_made_costs_one_warning() -> None:
    """If the inner meter cannot be made, the callback is off from the start."""

    class WithoutMeter(FareMeter):
        def make_meter(self) -> Any:
            raise MemoryError

    outcome = contract.fit([WithoutMeter()])
    assert outcome.comparable == contract.fit([]).comparable
    assert len(outcome.warned) == 1


@pytest.mark.parametrize("hook", sorted(set(HOOKS) - {"load_state_dict", "state_dict", "on_exception"}))
def test_a_stop_inside_a_hook_passes_through(hook: str, checkpoint: Path) -> None:
    """Ctrl-C and SystemExit inside a hook of FareMeter end the run as in any other callback."""
    for stop in (lambda: KeyboardInterrupt("now"), lambda: SystemExit(3)):
        callback, hits = contract.failing_meter(hook, stop)
        mine = run(hook, checkpoint, [callback])

        def plain(self: Any, *_: Any, stop: Any = stop, **__: Any) -> None:
            raise stop()

        theirs = run(hook, checkpoint, [type("Plain", (Callback,), {hook: plain})()])
        assert hits
        assert mine.comparable == theirs.comparable
        assert mine.warned == ()
        assert mine.modes == NO_MODES


def test_the_users_exception_is_not_replaced_by_a_stop() -> None:
    """A second Ctrl-C during the report of a failed run ends the report; all is restored all the same."""
    for stop in (lambda: KeyboardInterrupt("now"), lambda: SystemExit(3)):
        callback, hits = contract.failing_meter("on_exception", stop)
        failing = raises_at(9, lambda: UsersFaultError("mine"))
        outcome = contract.fit([callback], failing)
        assert hits
        assert outcome.comparable == contract.fit([], failing).comparable
        assert outcome.modes == NO_MODES


USERS = {
    "own": lambda: UsersFaultError("mine"),
    "oom": lambda: torch.OutOfMemoryError("CUDA out of memory"),
    "interrupt": lambda: KeyboardInterrupt("mine"),
    "exit": lambda: SystemExit(7),
    "generator_exit": GeneratorExit,
}


@pytest.mark.parametrize("kind", USERS)
@pytest.mark.parametrize("batch", [0, 1, 3, 12])
def test_the_users_own_exceptions_pass_unchanged(kind: str, batch: int) -> None:
    """Type, message and the Trainer's state are unchanged, before, in and after the traced and measured steps."""
    plain = contract.fit([], raises_at(batch, USERS[kind]))
    metered = contract.fit([contract.meter()], raises_at(batch, USERS[kind]))
    assert plain.error is not None
    assert metered.comparable == plain.comparable
    assert metered.modes == NO_MODES
    assert metered.warned == ()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_loss_that_is_not_finite_gives_no_warning(value: float) -> None:
    """A diverging run is measured like any other, without a warning."""

    def diverging() -> Tiny:
        return Tiny(loss=lambda loss: loss * value)

    profiles: list[Any] = []
    services = contract.fake_services(
        write_profile=lambda profile, folder: profiles.append(profile) or folder
    )
    plain, metered = contract.fit([], diverging), contract.fit([contract.meter(services)], diverging)
    assert metered.comparable == plain.comparable
    assert metered.warned == ()
    assert profiles[0].measured.steps == 3


SERVICES = sorted(
    field.name for field in dataclasses.fields(MeterServices) if not field.name.endswith(("_s", "_steps"))
)
WITHOUT_WARNING = {"prepare"}
"""Services that load the tracer: if they fail, the step is "not traced, because"."""


def failing_service(name: str, error: Callable[[], BaseException], hits: list[str]) -> dict[str, Any]:
    """Return one service that fails; the clock fails at its 20th call, in the middle of the window."""
    real = getattr(contract.fake_services(), name)

    def fail(*arguments: Any, **named: Any) -> Any:
        hits.append(name)
        if name == "now" and len(hits) < 20:
            return real()
        raise error()

    return {name: fail}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("service", SERVICES)
def test_a_service_that_fails_costs_one_warning(service: str, fault: str) -> None:
    """Whichever of clock, console, prices, files and trace fails, the training is unchanged."""
    hits: list[str] = []
    lines: list[str] = []
    failing = failing_service(service, FAULTS[fault], hits)
    services = contract.fake_services(**{"say": lines.append, **failing})
    machine = None if service == "processor" else "aws:p4d.24xlarge@us-east-1"  # whose processor is known
    metered = contract.meter(services, machine=machine, pilot="lora")
    outcome = contract.fit([metered])
    assert hits, f"{service} was never called"
    assert outcome.comparable == contract.fit([]).comparable
    assert outcome.status == "TrainerStatus.FINISHED"
    assert outcome.modes == NO_MODES
    if service == "write_status":  # `trainfare watch` then says since when there is no news
        assert outcome.warned == ()
        assert any("USD" in line or "$" in line for line in lines)
    elif service in WITHOUT_WARNING:
        assert outcome.warned == ()
        assert "not traced, because" in lines[-1]
    else:
        assert len(outcome.warned) == 1, outcome.warned


@pytest.mark.parametrize("call", [1, 2, 3, 5, 8, 13, 21, 34, 48])
def test_a_clock_that_fails_at_any_moment_leaves_nothing_behind(call: int) -> None:
    """The clock is read in setup, profiler actions, validation and at the end of batches, and may fail in each."""
    reads: list[int] = []

    def now() -> float:
        reads.append(1)
        if len(reads) == call:
            raise OSError("no clock")
        return float(len(reads))

    outcome = contract.fit([contract.meter(contract.fake_services(now=now))])
    assert len(reads) == call
    assert outcome.comparable == contract.fit([]).comparable
    assert outcome.modes == NO_MODES
    assert len(outcome.warned) == 1


# The trace of one step, with a failure in each of its methods.

TRACE_MEMBERS = (
    "start",
    "begin_optimizer",
    "end_optimizer",
    "stop",
    "operations",
    "memory",
    "parameters",
    "optimizer_facts",
)


class ForwardingMode(torch.utils._python_dispatch.TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("member", TRACE_MEMBERS)
def test_a_trace_that_fails_is_stopped(member: str) -> None:
    """A trace that fails is stopped, and the run continues without its dispatch mode."""
    stopped: list[str] = []

    class FailingTrace:
        def __init__(self, module: Any, optimizers: Any) -> None:
            self.notes: tuple[str, ...] = ()
            self.mode: Any = None

        def __getattribute__(self, name: str) -> Any:
            value = object.__getattribute__(self, name)
            if name == member:
                if name in ("start", "stop"):
                    value()
                raise RuntimeError(f"{name} failed")
            return value

        def start(self) -> None:
            self.mode = ForwardingMode()
            self.mode.__enter__()

        def stop(self) -> None:
            mode, self.mode = self.mode, None
            if mode is not None:
                stopped.append("stopped")
                mode.__exit__(None, None, None)

        def begin_optimizer(self) -> None: ...

        end_optimizer = operations = memory = parameters = optimizer_facts = begin_optimizer

    outcome = contract.fit([contract.meter(contract.fake_services(step_trace=FailingTrace))])
    assert stopped == ["stopped"]
    assert outcome.comparable == contract.fit([]).comparable
    assert outcome.modes == NO_MODES
    assert len(outcome.warned) == 1


# Prices.


def test_a_price_source_that_hangs_is_given_up() -> None:
    """The price look-up and the ranking have time-outs; the profile is saved all the same."""
    release = threading.Event()
    saved: list[Any] = []

    def hang(*_: Any) -> Any:
        release.wait()
        raise RuntimeError("released")

    services = contract.fake_services(
        recommend=hang,
        usd_per_hour=hang,
        price_lookup_limit_s=0.05,
        pricing_limit_s=0.05,
        write_profile=lambda profile, folder: saved.append(profile) or folder,
    )
    try:
        outcome = contract.fit([contract.meter(services, machine="aws:p4d.24xlarge@us-east-1")])
    finally:
        release.set()
        for thread in threading.enumerate():
            if thread.name == "trainfare-time-limit":
                thread.join()
    assert outcome.comparable == contract.fit([]).comparable
    assert [text.partition(":")[0] for text in outcome.warned] == ["FareMeter"] * 2
    assert "no price for machine" in outcome.warned[0]
    assert "no ranking" in outcome.warned[1]
    assert all("no answer within 0.05 s" in text for text in outcome.warned)
    assert len(saved) == 1


def test_the_pricing_time_outs_add_up_to_half_a_minute(
    record_property: Callable[[str, object], None],
) -> None:
    """Look-up and ranking together delay a run by at most 30 s, a rank that was lost by one second."""
    real = FareMeter.services
    limit_s = real.price_lookup_limit_s + real.pricing_limit_s
    record_property("at most {} s for prices at the ends of a run, 30 allowed", limit_s)
    assert limit_s <= 30.0
    assert real.rank_times_limit_s <= 1.0


INVALID = {
    "none": None,
    "text": "a lot",
    "nan": float("nan"),
    "infinite": float("inf"),
    "negative": -1.0,
    "zero": 0.0,
    "list": [1.0],
    "object": SimpleNamespace(options=3),
}


@pytest.mark.parametrize("kind", INVALID)
def test_an_invalid_price_is_left_out(kind: str) -> None:
    """A price that is not a positive finite number gives one warning and no dollars in the output."""
    lines: list[str] = []
    services = contract.fake_services(usd_per_hour=lambda *_: INVALID[kind], say=lines.append)
    outcome = contract.fit([contract.meter(services, machine="aws:p4d.24xlarge@us-east-1")])
    assert outcome.comparable == contract.fit([]).comparable
    assert len(outcome.warned) == 1
    assert "no price for machine 'aws:p4d.24xlarge@us-east-1'" in outcome.warned[0]
    assert lines
    assert not any("$" in line for line in lines)


@pytest.mark.parametrize("kind", ["none", "text", "list", "object", "nan"])
def test_an_invalid_ranking_costs_one_warning(kind: str) -> None:
    """An object that is not a Recommendation gives one warning after the training has ended."""
    real = MeterServices()
    services = contract.fake_services(
        recommend=lambda profile, settings: INVALID[kind], show=real.show, write_reports=real.write_reports
    )
    outcome = contract.fit([contract.meter(services)])
    assert outcome.comparable == contract.fit([]).comparable
    assert len(outcome.warned) == 1


def test_a_broken_price_plug_in_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed plug-in that raises is named in the report; the other clouds are ranked."""
    metadata = tmp_path / "dead_prices-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: dead-prices\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[trainfare.providers]\ndead-cloud = dead_prices:Provider\n")
    (tmp_path / "dead_prices.py").write_text("raise RuntimeError('broken plug-in')\n")
    monkeypatch.syspath_prepend(tmp_path)
    answers: list[Any] = []
    services = contract.fake_services(
        recommend=FareMeter.services.recommend,
        pricing_limit_s=HANG_S,  # a busy machine may give a ranking less than the share of a CPU that working takes
        show=lambda answer, profile, as_of, files: answers.append(answer),
    )
    outcome = contract.fit([contract.meter(services, providers=["aws"])])
    assert outcome.warned == ()
    assert answers[0].options
    assert "dead-cloud" in answers[0].model_dump_json()


# No network.

_net = SimpleNamespace(off=False, tried=[])


@contextmanager
def network_off() -> Iterator[list[str]]:
    """Make every socket event of this process raise OSError, by an audit hook, which Python cannot remove."""
    if not hasattr(_net, "installed"):

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            if _net.off and event.startswith("socket."):
                _net.tried.append(event)
                raise OSError(errno.ENETUNREACH, "Network is unreachable")

        sys.addaudithook(hook)
        _net.installed = True
    _net.off, _net.tried = True, []
    try:
        yield _net.tried
    finally:
        _net.off = False


def test_with_the_network_off_the_report_is_complete(tmp_path: Path) -> None:
    """With sockets blocked the real services rank machines and write all files, because they need no network."""
    with network_off() as tried:
        with pytest.raises(OSError, match="unreachable"):
            socket.create_connection(("localhost", 9))
        assert tried
        tried.clear()
        meter = FareMeter(
            warmup_steps=1, measure_steps=3, machine="aws:p4d.24xlarge@us-east-1", report_dir=str(tmp_path)
        )
        outcome = contract.fit([meter])
        assert tried == []
    assert outcome.comparable == contract.fit([]).comparable
    assert outcome.warned == ()
    names = {path.name for path in tmp_path.iterdir()}
    assert {"trainfare-profile.json", "trainfare-report.html", "trainfare-report.json"} <= names


def test_a_price_source_that_needs_the_network_gives_one_warning() -> None:
    """A source that opens a socket with sockets blocked gives one warning; the profile is saved."""
    saved: list[Any] = []

    def ask(profile: Any, settings: Any) -> Any:
        return socket.create_connection(("localhost", 9))

    services = contract.fake_services(
        recommend=ask, write_profile=lambda p, folder: saved.append(p) or folder
    )
    with network_off() as tried:
        outcome = contract.fit([contract.meter(services)])
        assert tried
    assert outcome.comparable == contract.fit([]).comparable
    assert len(outcome.warned) == 1
    assert "no ranking" in outcome.warned[0]
    assert len(saved) == 1


# Files, and warnings turned into errors.


def test_a_folder_that_cannot_be_written_costs_one_warning(tmp_path: Path) -> None:
    """A file with the name of the report's folder gives one warning and is kept."""
    (tmp_path / "taken").write_text("mine")
    meter = FareMeter(warmup_steps=1, measure_steps=3, report_dir=str(tmp_path / "taken"))
    outcome = contract.fit([meter])
    assert outcome.comparable == contract.fit([]).comparable
    assert len(outcome.warned) == 1
    assert (tmp_path / "taken").read_text() == "mine"


def test_our_warning_never_becomes_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    """Where the user turns warnings into errors the message goes to standard error, and training continues."""
    import warnings

    class Strict(Callback):
        def on_train_start(self, *_: Any) -> None:
            warnings.simplefilter("error", UserWarning)

    callback, hits = contract.failing_meter("on_train_batch_end", FAULTS["exception"])
    outcome = contract.fit([Strict(), callback])
    assert hits
    assert outcome.error is None
    assert outcome.comparable == contract.fit([Strict()]).comparable
    assert capsys.readouterr().err.count("FareMeter") == 1
