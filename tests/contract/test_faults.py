"""Training is never harmed: whatever fails inside FareMeter costs the measurement and one warning, nothing else."""

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
from builders.contract import NOTHING_STANDS, Outcome, Tiny
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
MEMBERS = {"state_dict": "elapsed_s", "load_state_dict": "carried_s"}
QUIET_FAULTS = {"load_state_dict"}


class Unprintable(Exception):
    """An error that cannot even be shown."""

    def __str__(self) -> str:
        raise ValueError("no text")


class UsersFaultError(Exception):
    """What the user's own code raises."""


def saves_half_way(folder: Path) -> Callable[[], Tiny]:
    """A module that saves a checkpoint while it trains, so that `state_dict` is asked for."""

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


def test_every_hook_is_reached_by_the_seam() -> None:
    """The list below is made by looking at the class, so that a new hook cannot be forgotten."""
    assert {"setup", "on_train_start", "on_train_batch_end", "on_exception", "teardown"} <= set(HOOKS)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("hook", HOOKS)
def test_a_fault_in_any_hook_costs_one_warning(
    hook: str, fault: str, checkpoint: Path, without: Callable[[str], Outcome]
) -> None:
    """Status, steps, losses, weights, generators and the user's own exception are those of a run without us."""
    callback, hits = contract.broken_meter(MEMBERS.get(hook, hook), FAULTS[fault])
    outcome = run(hook, checkpoint, [callback])
    assert hits, f"nothing failed: {hook} does not reach the meter"
    assert outcome.same == without(hook).same
    assert outcome.modes == NOTHING_STANDS
    assert len(outcome.warned) == (0 if hook in QUIET_FAULTS else 1), outcome.warned
    assert len(hits) == 1, "the callback did not switch itself off"


def test_a_meter_that_cannot_be_made_costs_one_warning() -> None:
    """Already the inner meter fails: the callback is off from the start."""

    class Stillborn(FareMeter):
        def make_meter(self) -> Any:
            raise MemoryError

    outcome = contract.fit([Stillborn()])
    assert outcome.same == contract.fit([]).same
    assert len(outcome.warned) == 1


@pytest.mark.parametrize("hook", sorted(set(HOOKS) - {"load_state_dict", "state_dict", "on_exception"}))
def test_a_stop_inside_our_hook_passes_through(hook: str, checkpoint: Path) -> None:
    """Ctrl-C and SystemExit that arrive while our code runs end the run as they do in any other callback's hook."""
    for stop in (lambda: KeyboardInterrupt("now"), lambda: SystemExit(3)):
        callback, hits = contract.broken_meter(hook, stop)
        mine = run(hook, checkpoint, [callback])

        def plain(self: Any, *_: Any, stop: Any = stop, **__: Any) -> None:
            raise stop()

        theirs = run(hook, checkpoint, [type("Plain", (Callback,), {hook: plain})()])
        assert hits
        assert mine.same == theirs.same
        assert mine.warned == ()
        assert mine.modes == NOTHING_STANDS


def test_the_users_exception_is_not_replaced_by_a_stop_of_ours() -> None:
    """A second Ctrl-C, or a SystemExit, while the report of a failed run is made ends the report, not the tidying up."""
    for stop in (lambda: KeyboardInterrupt("now"), lambda: SystemExit(3)):
        callback, hits = contract.broken_meter("on_exception", stop)
        failing = raises_at(9, lambda: UsersFaultError("mine"))
        outcome = contract.fit([callback], failing)
        assert hits
        assert outcome.same == contract.fit([], failing).same
        assert outcome.modes == NOTHING_STANDS


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
    """Before, in and after the watched and measured steps: same type, same message, same state of the Trainer."""
    plain = contract.fit([], raises_at(batch, USERS[kind]))
    metered = contract.fit([contract.meter()], raises_at(batch, USERS[kind]))
    assert plain.error is not None
    assert metered.same == plain.same
    assert metered.modes == NOTHING_STANDS
    assert metered.warned == ()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_loss_that_is_not_finite_is_not_our_fault(value: float) -> None:
    """A diverging run is metered like any other; nothing is said and nothing is changed."""

    def diverging() -> Tiny:
        return Tiny(loss=lambda loss: loss * value)

    profiles: list[Any] = []
    services = contract.harmless(write_profile=lambda profile, folder: profiles.append(profile) or folder)
    plain, metered = contract.fit([], diverging), contract.fit([contract.meter(services)], diverging)
    assert metered.same == plain.same
    assert metered.warned == ()
    assert profiles[0].measured.steps == 3


SERVICES = sorted(field.name for field in dataclasses.fields(MeterServices) if not field.name.endswith("_s"))
ANSWERED = {"prepare", "fake_copy"}
"""Services that run the user's code or load the tracer: without them the answer is "unknown", which is no fault."""


def failing_service(name: str, error: Callable[[], BaseException], hits: list[str]) -> dict[str, Any]:
    """One service that fails; the clock fails late, in the middle of the window."""
    real = getattr(contract.harmless(), name)

    def fail(*arguments: Any, **named: Any) -> Any:
        hits.append(name)
        if name == "now" and len(hits) < 20:
            return real()
        raise error()

    return {name: fail}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("service", SERVICES)
def test_a_service_that_fails_costs_one_warning(service: str, fault: str) -> None:
    """Clock, console, prices, files, the trace: whichever fails, training and its Trainer are untouched."""
    hits: list[str] = []
    lines: list[str] = []
    options = {"precision": "bf16-mixed"} if service == "fake_copy" else {}
    services = contract.harmless(**{"say": lines.append, **failing_service(service, FAULTS[fault], hits)})
    locked = {"price_lock": "trainfare.lock"} if service == "locked_usd_per_hour" else {}
    metered = contract.meter(services, machine="aws:p4d.24xlarge@us-east-1", **locked)
    outcome = contract.fit([metered], **options)
    assert hits, f"{service} was never called"
    assert outcome.same == contract.fit([], **options).same
    assert outcome.status == "TrainerStatus.FINISHED"
    assert outcome.modes == NOTHING_STANDS
    if service in ANSWERED:
        assert outcome.warned == ()
        assert "unknown, because" in lines[-1]
    else:
        assert len(outcome.warned) == 1, outcome.warned


@pytest.mark.parametrize("call", [1, 2, 3, 5, 8, 13, 21, 34, 48])
def test_a_clock_that_fails_at_any_moment_leaves_nothing_behind(call: int) -> None:
    """Set-up, profiler actions, validation, batch ends: the clock is read in all of them."""
    reads: list[int] = []

    def now() -> float:
        reads.append(1)
        if len(reads) == call:
            raise OSError("no clock")
        return float(len(reads))

    outcome = contract.fit([contract.meter(contract.harmless(now=now))])
    assert len(reads) == call
    assert outcome.same == contract.fit([]).same
    assert outcome.modes == NOTHING_STANDS
    assert len(outcome.warned) == 1


# The trace of one step, failing at each of its own steps.

WATCHER = (
    "start",
    "begin_optimizer",
    "end_optimizer",
    "stop",
    "operations",
    "memory",
    "parameters",
    "optimizer_facts",
)


class Leaky(torch.utils._python_dispatch.TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("member", WATCHER)
def test_a_trace_that_fails_half_way_is_left(member: str) -> None:
    """A watch that fails is stopped, and the run goes on under no mode of ours."""
    stopped: list[str] = []

    class Watch:
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
            self.mode = Leaky()
            self.mode.__enter__()

        def stop(self) -> None:
            mode, self.mode = self.mode, None
            if mode is not None:
                stopped.append("stopped")
                mode.__exit__(None, None, None)

        def begin_optimizer(self) -> None: ...

        end_optimizer = operations = memory = parameters = optimizer_facts = begin_optimizer

    outcome = contract.fit([contract.meter(contract.harmless(watcher=Watch))])
    assert stopped == ["stopped"]
    assert outcome.same == contract.fit([]).same
    assert outcome.modes == NOTHING_STANDS
    assert len(outcome.warned) == 1


# Prices.


def test_a_price_source_that_hangs_is_given_up() -> None:
    """At the start and at the end prices get a limited time; the profile is saved all the same."""
    release = threading.Event()
    saved: list[Any] = []

    def hang(*_: Any) -> Any:
        release.wait(10)
        raise RuntimeError("released")

    services = contract.harmless(
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
            if thread.name == "trainfare-pricing":
                thread.join(5)
    assert outcome.same == contract.fit([]).same
    assert [text.partition(":")[0] for text in outcome.warned] == ["FareMeter"] * 2
    assert "no price for machine" in outcome.warned[0]
    assert "prices unavailable" in outcome.warned[1]
    assert all("no answer within 0.05 s" in text for text in outcome.warned)
    assert len(saved) == 1


def test_the_limits_of_the_real_services_add_up_to_half_a_minute() -> None:
    """Pricing takes at most 30 s of the whole run, look-up and ranking together."""
    real = FareMeter.services
    assert real.price_lookup_limit_s + real.pricing_limit_s <= 30.0


GARBAGE = {
    "none": None,
    "text": "a lot",
    "nan": float("nan"),
    "infinite": float("inf"),
    "negative": -1.0,
    "zero": 0.0,
    "list": [1.0],
    "object": SimpleNamespace(options=3),
}


@pytest.mark.parametrize("kind", GARBAGE)
def test_a_price_that_is_none_is_left_out(kind: str) -> None:
    """A machine's price that is no positive finite number gives one warning and no dollars."""
    lines: list[str] = []
    services = contract.harmless(usd_per_hour=lambda machine: GARBAGE[kind], say=lines.append)
    outcome = contract.fit([contract.meter(services, machine="aws:p4d.24xlarge@us-east-1")])
    assert outcome.same == contract.fit([]).same
    assert len(outcome.warned) == 1
    assert "no price for machine 'aws:p4d.24xlarge@us-east-1'" in outcome.warned[0]
    assert lines
    assert not any("$" in line for line in lines)


@pytest.mark.parametrize("kind", ["none", "text", "list", "object", "nan"])
def test_a_ranking_that_is_garbage_costs_one_warning(kind: str) -> None:
    """What comes back instead of a Recommendation cannot be shown; training has ended well all the same."""
    real = MeterServices()
    services = contract.harmless(
        recommend=lambda profile, settings: GARBAGE[kind], show=real.show, write_reports=real.write_reports
    )
    outcome = contract.fit([contract.meter(services)])
    assert outcome.same == contract.fit([]).same
    assert len(outcome.warned) == 1


def test_a_broken_price_plug_in_costs_its_own_cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed plug-in that raises is named in the report of a real run; the ranking is there."""
    metadata = tmp_path / "dead_prices-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: dead-prices\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[trainfare.providers]\ndead-cloud = dead_prices:Provider\n")
    (tmp_path / "dead_prices.py").write_text("raise RuntimeError('no such planet')\n")
    monkeypatch.syspath_prepend(tmp_path)
    answers: list[Any] = []
    services = contract.harmless(
        recommend=FareMeter.services.recommend, show=lambda answer, profile, as_of: answers.append(answer)
    )
    outcome = contract.fit([contract.meter(services, providers=["aws"])])
    assert outcome.warned == ()
    assert answers[0].options
    assert "dead-cloud" in answers[0].model_dump_json()


# No network.

_net = SimpleNamespace(off=False, tried=[])


@contextmanager
def network_off() -> Iterator[list[str]]:
    """Every socket event of this process raises OSError, seen by an audit hook (which Python keeps for good)."""
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
    """The default needs no network: with sockets blocked the real services rank machines and write all files."""
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
    assert outcome.same == contract.fit([]).same
    assert outcome.warned == ()
    names = {path.name for path in tmp_path.iterdir()}
    assert {"trainfare-profile.json", "trainfare-report.html", "trainfare-report.json"} <= names


def test_a_price_source_that_needs_the_network_finds_none() -> None:
    """A source that opens a socket with the network off gives one warning; the profile is saved."""
    saved: list[Any] = []

    def ask(profile: Any, settings: Any) -> Any:
        return socket.create_connection(("localhost", 9))

    services = contract.harmless(recommend=ask, write_profile=lambda p, folder: saved.append(p) or folder)
    with network_off() as tried:
        outcome = contract.fit([contract.meter(services)])
        assert tried
    assert outcome.same == contract.fit([]).same
    assert len(outcome.warned) == 1
    assert "prices unavailable" in outcome.warned[0]
    assert len(saved) == 1


# Disks, and users who are strict about warnings.


def test_a_folder_that_cannot_be_written_costs_one_warning(tmp_path: Path) -> None:
    """A file stands where the report's folder should be."""
    (tmp_path / "taken").write_text("mine")
    meter = FareMeter(warmup_steps=1, measure_steps=3, report_dir=str(tmp_path / "taken"))
    outcome = contract.fit([meter])
    assert outcome.same == contract.fit([]).same
    assert len(outcome.warned) == 1
    assert (tmp_path / "taken").read_text() == "mine"


def test_our_warning_never_becomes_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    """Where the user turns warnings into errors the one line goes to stderr, and training goes on."""
    import warnings

    class Strict(Callback):
        def on_train_start(self, *_: Any) -> None:
            warnings.simplefilter("error", UserWarning)

    callback, hits = contract.broken_meter("on_train_batch_end", FAULTS["exception"])
    outcome = contract.fit([Strict(), callback])
    assert hits
    assert outcome.error is None
    assert outcome.same == contract.fit([Strict()]).same
    assert capsys.readouterr().err.count("FareMeter") == 1
