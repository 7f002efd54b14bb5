"""FareMeter and the ledger: a run is there while it runs, and with what it took after it, whatever its end."""

from __future__ import annotations

import errno
import warnings
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from shutil import copy
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback
from pytorch_lightning.callbacks import ModelCheckpoint

from builders.bucket_server import serve_bucket
from builders.exports import plan, small_answer
from builders.huggingface import TimedModel, TimedTrainer, attach_meter, make_trainer
from builders.huggingface import quiet as huggingface_quiet
from builders.lightning_modules import Clock, MeterHarness, Tiny, fare_meter_warnings, loader, quiet, trainer
from trainfare import FareMeter
from trainfare.ledger.bucket import write_record
from trainfare.ledger.place import BucketAddress, LedgerPlace
from trainfare.ledger.run_status import FILE_NAME, write_status
from trainfare.ledger.store import find_run, read_record, read_runs
from trainfare.meter.other_rank_meter import OtherRankMeter
from trainfare_core.ledger.run_record import RunRecord
from trainfare_core.ledger.run_table import name_continued
from trainfare_core.recommendation import PREDICTION_VARIABLE, PricedPlan

pytestmark = [*quiet, *huggingface_quiet]
NOW = datetime(2026, 11, 30, 12, tzinfo=timezone.utc)


def read_project(folder: Path) -> tuple[RunRecord, ...]:
    """Return the records of the team's project, oldest first."""
    return tuple(map(read_record, sorted((folder / "team").glob("*.json"))))


class Watcher(Callback):
    """Reads the ledger within a step."""

    def __init__(self, folder: Path, step: int = 3) -> None:
        self.folder, self.step = folder, step
        self.records: tuple[RunRecord, ...] = ()

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == self.step:
            self.records = read_project(self.folder)


def harness(folder: Path, **services: Any) -> MeterHarness:
    return MeterHarness(
        **{"find_ledger": lambda: LedgerPlace(folder, "team"), "utc_now": lambda: NOW, **services}
    )


def test_a_run_is_running_and_then_finished(tmp_path: Path) -> None:
    """Times are of a clock that only the training moves: steps of 16 ms, validation batches of 50 ms, $2 an hour."""
    ledger, clock = tmp_path / "ledger", Clock()
    watcher = Watcher(ledger)
    meter = harness(ledger, now=clock).meter(
        tmp_path, machine="aws:g6.xlarge@us-east-1", usd_per_hour=2.0, warmup_steps=1, measure_steps=4
    )
    fit = trainer(tmp_path, meter, watcher, max_epochs=2, limit_val_batches=3)
    fit.fit(Tiny(clock), loader(32), loader(16))
    (running,) = watcher.records
    assert (running.state, running.ended_at, running.started_at) == ("running", None, NOW)
    assert (running.steps_planned, running.steps_done, running.job) == (16, None, "Tiny")
    (record,) = read_project(ledger)
    assert (record.run_id, record.state, record.ended_by, record.ended_at) == (
        running.run_id, "finished", "", NOW,
    )  # fmt: skip
    assert (record.steps_planned, record.steps_done, record.steps_measured) == (16, 16, 4)
    assert record.step_s.measured == pytest.approx(0.016)
    assert record.run_s.measured == pytest.approx(clock.now_s - 100.0)
    assert record.usd.measured == pytest.approx(2.0 * (clock.now_s - 100.0) / 3600)
    assert record.parts.validation_s == pytest.approx(2 * 3 * 0.050)
    assert record.parts.data_wait_s == 0.0
    machine = record.machine
    assert (machine.cloud, machine.instance_type, machine.region) == ("aws", "g6.xlarge", "us-east-1")
    assert (machine.accelerator, machine.accelerators, machine.nodes) == ("cpu", 1, 1)
    assert record.software.loop.startswith("pytorch_lightning 2.")
    assert (record.plan.strategy, record.plan.micro_batch, record.kind) == ("single_device", 4, "matmul")
    assert len(record.job_fingerprint) == 16
    assert (record.interruptions, record.earlier_s, record.prediction.made) == (0, 0.0, "")
    assert not list(ledger.rglob("*.tmp"))


@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt(), SystemExit(7)], ids=repr)
def test_an_exception_makes_it_failed(tmp_path: Path, error: BaseException) -> None:
    """With what was measured before it, and how far it came."""
    meter = harness(tmp_path / "ledger").meter(tmp_path, warmup_steps=1, measure_steps=4)
    with pytest.raises((type(error), SystemExit)):
        trainer(tmp_path, meter, max_epochs=2).fit(Tiny(raise_at=9, error=error), loader())
    (record,) = read_project(tmp_path / "ledger")
    assert (record.state, record.ended_by, record.steps_done) == ("failed", type(error).__name__, 9)
    assert record.step_s.measured
    assert record.ended_at == NOW


@pytest.mark.parametrize("arguments", [{"report": False}, {"trace": False}, {"measure_steps": 900}])
def test_what_is_not_measured_is_unknown(tmp_path: Path, arguments: dict[str, Any]) -> None:
    """Without a report, without a trace, and in a run that ends too soon, a run has its record all the same."""
    meter = harness(tmp_path / "ledger").meter(tmp_path, **{"measure_steps": 4, **arguments})
    trainer(tmp_path, meter, max_epochs=1).fit(Tiny(), loader())
    (record,) = read_project(tmp_path / "ledger")
    assert (record.state, record.steps_done, record.usd.measured) == ("finished", 16, None)
    assert bool(record.job_fingerprint) == ("measure_steps" in arguments)


def test_the_prediction_of_the_environment_is_in_the_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its id, dollars, hours, step, memory and steps, and that another plan runs."""
    option = small_answer(trainer=plan(strategy="fsdp", batch_size=4)).options[0]
    priced = PricedPlan.from_option(option, 5000)
    monkeypatch.setenv(PREDICTION_VARIABLE, priced.to_text())
    meter = harness(tmp_path / "ledger").meter(tmp_path, measure_steps=4)
    trainer(tmp_path, meter, max_epochs=1).fit(Tiny(), loader())
    (record,) = read_project(tmp_path / "ledger")
    prediction = record.prediction
    assert (prediction.id, prediction.made, prediction.machine) == (option.plan_id, "before", option.machine)
    assert (prediction.steps, prediction.usd_per_hour) == (5000, option.usd_per_hour)
    assert prediction.nodes == option.nodes
    assert prediction.parts is not None
    assert tuple(prediction.parts.model_dump().values()) == priced.parts
    assert prediction.differences == (
        "single_device, priced fsdp", "devices 1, priced 2", "on a CPU, priced on an accelerator",
    )  # fmt: skip
    assert record.usd.predicted == option.run_usd
    assert record.run_s.predicted is not None
    assert record.run_s.predicted.high_80 == pytest.approx(3600 * option.run_hours.high_80)
    assert record.step_s.predicted is not None
    assert record.step_s.predicted.mid == pytest.approx(option.step_s.mid, rel=1e-5)
    assert record.memory_bytes.predicted is not None
    assert record.memory_bytes.predicted.low_80 == pytest.approx(2**30 * option.memory_gib.low_80, rel=1e-5)


def fail(number: int) -> Any:
    def write(*_: Any) -> Path:
        raise OSError(number, "No space left on device")

    return write


@pytest.mark.parametrize("where", ["full disk", "file for a folder", "settings"])
def test_a_ledger_that_cannot_be_written_is_one_line(tmp_path: Path, where: str) -> None:
    """The training ends as it would, and the report is written."""
    (tmp_path / "file").touch()
    services = {
        "full disk": {"write_run": fail(errno.ENOSPC)},
        "file for a folder": {"find_ledger": lambda: LedgerPlace(tmp_path / "file", "team")},
        "settings": {"find_ledger": lambda: 1 / 0},
    }[where]
    meter = harness(tmp_path / "ledger", **services).meter(tmp_path)
    fit = trainer(tmp_path, meter, max_epochs=2)
    with pytest.warns(UserWarning, match="not in the ledger") as warned:
        fit.fit(Tiny(), loader())
    assert len(fare_meter_warnings(warned)) == 1
    assert fit.global_step == 32
    assert (tmp_path / "trainfare-report.json").is_file()
    assert not (tmp_path / "ledger").exists()


@pytest.mark.parametrize("fault", ["", "denied"])
def test_a_ledger_in_a_bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    """It has the run; one that denies it is one warning, and the training ends as it would."""
    with serve_bucket() as bucket:
        for name, value in bucket.name_environment(tmp_path / "accounts").items():
            monkeypatch.setenv(name, value)
        bucket.fault = fault
        place = LedgerPlace(BucketAddress("s3://runs/team"), "team")
        # A busy machine takes as long as it takes to start a process.
        write = partial(write_record, limit_s=300.0)
        meter = harness(tmp_path, find_ledger=lambda: place, write_run=write).meter(tmp_path / "out")
        fit = trainer(tmp_path, meter, max_epochs=2)
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            fit.fit(Tiny(), loader())
        said = fare_meter_warnings(warned)
        assert fit.global_step == 32
        if fault:
            (line,) = said
            assert "not in the ledger: s3://runs/team: access is denied" in line
            return
        ((content, _),) = bucket.objects.values()
    assert not said
    assert RunRecord.from_json(content).state == "finished"


def test_off_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a file nor a folder; the meter looks at nothing but the variable."""
    monkeypatch.setenv("TRAINFARE_LEDGER", "off")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    meter = MeterHarness().meter(tmp_path / "out")
    trainer(tmp_path, meter, max_epochs=2).fit(Tiny(), loader())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_a_fault_of_the_meter_leaves_no_record_of_a_run_that_goes_on(tmp_path: Path) -> None:
    """Its end will not be known: a record that stays "running" would say that it died."""
    written: list[Path] = []
    faulty = harness(tmp_path / "ledger")
    real = faulty.services.write_run

    def write(record: RunRecord, folder: Path) -> Path:
        written.append(real(record, folder))
        return written[-1]

    def raise_fault() -> Any:
        if written:
            raise ZeroDivisionError
        return lambda *_: None

    faulty.services = replace(faulty.services, write_run=write)
    meter = faulty.meter(tmp_path, report=False)
    meter_watch = Watcher(tmp_path / "ledger", step=1)
    monkey = meter.make_meter

    def make() -> Any:
        made = monkey()
        made.epoch_end = raise_fault  # type: ignore[method-assign]
        return made

    meter.make_meter = make  # type: ignore[method-assign]
    fit = trainer(tmp_path, meter, meter_watch, max_epochs=2)
    with pytest.warns(UserWarning, match="had a fault"):
        fit.fit(Tiny(), loader())
    assert fit.global_step == 32
    assert len(written) == 1
    assert len(meter_watch.records) == 1
    assert read_project(tmp_path / "ledger") == ()


def test_only_rank_0_writes(tmp_path: Path) -> None:
    """The meter of another rank is given the same ledger and opens nothing; it has no status that a fault would remove."""
    meter = harness(tmp_path / "ledger").meter(tmp_path)
    other = OtherRankMeter(meter._settings, meter.services, lambda error: pytest.fail(str(error)))
    meter.make_meter = lambda: other  # type: ignore[method-assign]
    trainer(tmp_path, meter, max_epochs=1).fit(Tiny(), loader())
    assert not (tmp_path / "ledger").exists()
    assert other.status is None


def test_a_resumed_run_counts_its_earlier_sessions(tmp_path: Path) -> None:
    """Hours and dollars are of all sessions, each at its price; how often it was interrupted is not known."""
    ledger, clock = tmp_path / "ledger", Clock()
    first = harness(ledger, now=clock).meter(tmp_path, usd_per_hour=2.0)
    fit = trainer(tmp_path, first, max_epochs=1, enable_checkpointing=True)
    fit.fit(Tiny(clock), loader())
    fit.save_checkpoint(tmp_path / "last.ckpt")
    first_s = clock.now_s - 100.0
    later = harness(ledger, now=clock, utc_now=lambda: NOW + timedelta(days=1)).meter(
        tmp_path, usd_per_hour=8.0
    )
    again = trainer(tmp_path, later, max_epochs=2)
    again.fit(Tiny(clock), loader(), ckpt_path=str(tmp_path / "last.ckpt"), weights_only=False)
    whole, resumed = read_project(ledger)
    assert (whole.steps_done, resumed.steps_done) == (16, 32)
    assert (whole.interruptions, resumed.interruptions) == (0, None)
    assert resumed.earlier_s == pytest.approx(whole.run_s.measured)
    assert resumed.run_s.measured == pytest.approx(clock.now_s - 100.0)
    later_s = clock.now_s - 100.0 - first_s
    assert resumed.usd.measured == pytest.approx((2.0 * first_s + 8.0 * later_s) / 3600)
    assert whole.sessions_id == resumed.sessions_id != ""


def test_a_session_that_was_killed_is_of_the_run_that_goes_on(tmp_path: Path) -> None:
    """
    After SIGKILL its record is as it was begun; its steps are in its status file, and the next session is of one run with it.

    A checkpoint that names no run, as those of earlier versions, begins a run of its own.
    """
    ledger, clock = tmp_path / "ledger", Clock()
    real = {"write_status": write_status, "update_every_s": 0.0, "now": clock}
    meter = harness(ledger, **real).meter(tmp_path / "first", warmup_steps=1, measure_steps=4)

    class Saver(Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            if trainer.global_step == 12:
                self.state = meter.state_dict()
                copy(next(ledger.rglob("*.json")), tmp_path / "killed.json")
                copy(tmp_path / "first" / FILE_NAME, tmp_path / FILE_NAME)

    saver = Saver()
    trainer(tmp_path, meter, saver, max_steps=16).fit(Tiny(clock), loader())
    (ended,) = read_project(ledger)
    copy(tmp_path / "killed.json", ledger / "team" / ended.file_name)
    copy(tmp_path / FILE_NAME, tmp_path / "first")
    for number, state in enumerate((saver.state, {"version": 1, "elapsed_s": 1.0})):
        services = {**real, "utc_now": partial(datetime.fromisoformat, f"2026-12-0{1 + number}T12:00+00:00")}
        later = harness(ledger, **services).meter(tmp_path / f"later{number}", measure_steps=4)
        later.load_state_dict(state)
        trainer(tmp_path, later, max_steps=16).fit(Tiny(clock), loader())
    killed, resumed, other = read_project(ledger)
    assert (killed.state, killed.steps_done, killed.folder) == ("running", None, str(tmp_path / "first"))
    assert killed.sessions_id == resumed.sessions_id != other.sessions_id
    # The process of this test lives, so the run is not dead.
    assert find_run(ledger, killed.run_id).steps_done == 12
    table = name_continued(read_runs(ledger).table)
    assert table["state"].to_list() == ["continued", "finished", "finished"]


def test_the_time_of_checkpoints_is_in_the_record(tmp_path: Path) -> None:
    """By the clock a checkpoint takes 30 ms: three in 16 steps of Lightning, two in 10 steps of Hugging Face's Trainer."""

    class Saved(Tiny):  # type: ignore[misc]
        def on_save_checkpoint(self, checkpoint: Any) -> None:
            self.clock.advance(0.030)

    clock = Clock()
    saver = ModelCheckpoint(tmp_path / "saved", every_n_train_steps=5)
    meter = harness(tmp_path / "ledger", now=clock).meter(tmp_path)
    fit = trainer(tmp_path, meter, saver, max_epochs=1, enable_checkpointing=True)
    fit.fit(Saved(clock), loader())
    made = make_trainer(
        tmp_path, TimedModel(clock), kind=TimedTrainer, max_steps=10, save_strategy="steps", save_steps=5
    )
    attach_meter(made, harness(tmp_path / "ledger", now=clock, utc_now=lambda: NOW + timedelta(1)), tmp_path)
    made.train()
    lightning, huggingface = read_project(tmp_path / "ledger")
    assert lightning.parts.checkpoint_s == pytest.approx(3 * 0.030)
    assert huggingface.parts.checkpoint_s == pytest.approx(2 * 0.030)
    for owner, name in ((fit, "save_checkpoint"), (made, "_save_checkpoint")):
        assert name not in vars(owner)


def test_a_loop_that_does_not_tell_of_checkpoints_leaves_them_unknown(tmp_path: Path) -> None:
    """A plain loop does not tell when it saves."""
    model = torch.nn.Linear(8, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    kind = type("FareMeter", (FareMeter,), {"services": harness(tmp_path / "ledger").services})
    with kind.loop(model, optimizer, report=False) as meter:
        for batch in meter.steps(loader()):
            model(batch).sum().backward()
            optimizer.step()
    (record,) = read_project(tmp_path / "ledger")
    assert record.parts.checkpoint_s is None
