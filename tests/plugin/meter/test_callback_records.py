"""Output of FareMeter while training runs: logged metrics, dollars so far, one warning for each limit."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from torch.utils.data import DataLoader

from builders.lightning_modules import (
    Clock,
    MeterHarness,
    RecordingLogger,
    Rows,
    Tiny,
    fare_meter_warnings,
    lightning_module,
    loader,
    quiet,
    trainer,
)
from builders.processes import HANG_S
from trainfare.ledger.run_status import RunStatus
from trainfare.meter.fare_log import progress_line
from trainfare.meter.measured_profile import build_measured_profile
from trainfare.meter.timing.step_timer import StepTimes
from trainfare_core.errors import UnknownNameError
from trainfare_core.job_profile import Quantiles

pytestmark = quiet


USD = ("fare/usd_so_far", "fare/usd_total", "fare/usd_total_low_80", "fare/usd_total_high_80")


class Broken(RecordingLogger):
    """A logger that raises at every call."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.rows.append((step, {}))
        raise ConnectionError("tracking server is not reachable")


Reader = lightning_module(
    lambda self, batch, index: self.layer(torch.ones(len(batch), 8)).square().mean(),
    layers=lambda: {"layer": torch.nn.Linear(8, 2)},
)
"""A module whose batches hold no tensor."""


def run(folder: Path, harness: MeterHarness, clock: Clock, meter: dict[str, Any], **options: Any) -> Any:
    """Train 32 steps, each 36 ms long by the fake clock."""
    fit = trainer(
        folder, harness.meter(folder, **meter), **{"max_steps": 32, "log_every_n_steps": 1, **options}
    )
    fit.fit(Tiny(clock), loader(160, clock=clock, load_s=0.005))
    return fit


def test_metrics_go_through_every_logger(tmp_path: Path) -> None:
    """Each logger gets them when the window closes and at the end, at the step number of Lightning's own metrics."""
    clock, loggers = Clock(), [RecordingLogger(), RecordingLogger()]
    run(tmp_path, MeterHarness(clock), clock, {"usd_per_hour": 3600.0}, logger=loggers)
    assert loggers[0].rows == loggers[1].rows
    (step, window), (last_step, last) = loggers[0].rows
    assert (step, last_step) == (15, 32)
    assert window["fare/step_s"] == pytest.approx(0.036)
    assert window["fare/samples_per_s"] == pytest.approx(4 / 0.036)
    assert window["fare/data_wait_share"] == pytest.approx(20 / 36)
    assert window["fare/usd_so_far"] == pytest.approx(16 * 0.036)
    assert window["fare/eta_s"] == pytest.approx(16 * 0.036)
    for name in ("fare/usd_total", "fare/usd_total_low_80", "fare/usd_total_high_80"):
        assert window[name] == pytest.approx(32 * 0.036)
        assert last[name] == last["fare/usd_so_far"] == pytest.approx(32 * 0.036)
    assert last["fare/eta_s"] == 0.0


def test_csv_and_tensorboard_have_them(tmp_path: Path) -> None:
    """The CSV file has the columns; TensorBoard has the scalars and the report as text."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    clock = Clock()
    loggers = [CSVLogger(tmp_path, "csv"), TensorBoardLogger(tmp_path, "board")]
    run(tmp_path, MeterHarness(clock), clock, {"usd_per_hour": 3.0}, logger=loggers)
    with (Path(loggers[0].log_dir) / "metrics.csv").open() as file:
        assert set(csv.DictReader(file).fieldnames or ()) >= {"fare/step_s", "fare/eta_s", *USD}
    events = EventAccumulator(loggers[1].log_dir)
    events.Reload()
    assert [round(event.value, 6) for event in events.Scalars("fare/step_s")] == [0.036, 0.036]
    assert set(events.Tags()["scalars"]) >= {"fare/eta_s", *USD}
    assert "fare/report/text_summary" in events.Tags()["tensors"]


def test_a_logger_that_fails_is_not_used_again(tmp_path: Path) -> None:
    """One warning and no second attempt; the other loggers and the measurement go on."""
    clock, harness, broken, good = Clock(), MeterHarness(), Broken(), RecordingLogger()
    with pytest.warns(UserWarning, match="Broken took no fare metrics") as warned:
        run(tmp_path, harness, clock, {}, logger=[broken, good])
    assert len(fare_meter_warnings(warned)) == 1
    assert (len(broken.rows), len(good.rows)) == (1, 2)
    assert harness.profile.measured is not None


def test_log_metrics_false_logs_nothing(tmp_path: Path) -> None:
    """No logger gets a metric."""
    logger, board = RecordingLogger(), TensorBoardLogger(tmp_path, "board")
    run(tmp_path, MeterHarness(), Clock(), {"log_metrics": False}, logger=[logger, board])
    assert logger.rows == []


def test_the_report_goes_where_the_logger_writes(tmp_path: Path) -> None:
    """Without report_dir the files are in the logger's folder."""
    logger = CSVLogger(tmp_path, "run")
    run(tmp_path, MeterHarness(), Clock(), {"report_dir": None}, logger=logger)
    assert (Path(logger.log_dir) / "trainfare-profile.json").is_file()


def test_without_a_logger_it_goes_to_the_root_folder(tmp_path: Path) -> None:
    """Without report_dir and logger the files are in the Trainer's root folder."""
    run(tmp_path, MeterHarness(), Clock(), {"report_dir": None})
    assert (tmp_path / "trainfare-profile.json").is_file()


def test_the_machines_price_is_looked_up_by_name(tmp_path: Path) -> None:
    """The price of a named machine is looked up once, before the first step."""
    clock, logger = Clock(), RecordingLogger()
    asked: list[tuple[str, float]] = []

    def price(machine: str, lock: str | None, limit_s: float) -> float:
        assert lock is None
        asked.append((machine, clock()))
        return 36.0

    harness = MeterHarness(clock, usd_per_hour=price)
    run(tmp_path, harness, clock, {"machine": "aws:p4d.24xlarge@us-east-1"}, logger=logger)
    assert asked == [("aws:p4d.24xlarge@us-east-1", 100.0)]
    assert logger.rows[-1][1]["fare/usd_so_far"] == pytest.approx(32 * 0.036 / 100)
    assert any("$" in line for line in harness.lines)


def unknown(machine: str, lock: str | None, limit_s: float) -> float:
    raise UnknownNameError(f"no machine {machine}: did you mean aws:p4d.24xlarge@us-east-1?")


@pytest.mark.parametrize(
    ("price", "said"), [(unknown, "did you mean"), (lambda *_: float("nan"), "nan"), (lambda *_: 0.0, "0.0")]
)
def test_a_machine_without_a_price_gives_one_warning(tmp_path: Path, price: Any, said: str) -> None:
    """One warning that passes on the suggested names; the run is measured without dollars."""
    logger, harness = RecordingLogger(), MeterHarness(usd_per_hour=price)
    with pytest.warns(UserWarning, match=f"no price for machine.*{said}") as warned:
        run(tmp_path, harness, Clock(), {"machine": "aws:p4d@us-east-1"}, logger=logger)
    assert len(fare_meter_warnings(warned)) == 1
    assert harness.profile.measured is not None
    assert not any("usd" in name for _, row in logger.rows for name in row)


def quota(folder: Path, text: str) -> str:
    """Write a file of quotas and return its name."""
    path = folder / "quota.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[[quota]]\nprovider = "aws"\nfamily = "p"\nvcpu = 8\n', "vcpus"),
        ('[[quota]]\nprovider = "aws"\nfamily = "p5x"\nvcpus = 8\n', "p5"),
        ("", "has no"),
    ],
)
def test_a_bad_file_is_warned_of_before_the_first_step(tmp_path: Path, text: str, said: str) -> None:
    """A quota with a wrong key or family, or none: the warning comes before a sample is loaded, and the run is measured."""
    clock, seen = Clock(), []
    harness = MeterHarness(clock, price_lookup_limit_s=HANG_S)
    meter = {"quota": quota(tmp_path, text), "providers": ["aws"]}

    class Watched(Tiny):
        def on_train_start(self) -> None:
            seen.append(list(warned))

    with pytest.warns(UserWarning, match=f"no ranking at the end of the run.*{said}") as warned:
        trainer(tmp_path, harness.meter(tmp_path, **meter), max_steps=32).fit(Watched(clock), loader(160))
    assert len(fare_meter_warnings(warned)) == len(fare_meter_warnings(seen[0])) == 1
    assert harness.profile.measured is not None


@pytest.mark.parametrize(
    "stated",
    [
        {"regions": ["us-east1"]},
        {"price_lock": "none.lock"},
        {"own_prices": "none.toml"},
        {"purchase": ["sopt"]},
    ],
)
def test_every_file_and_name_of_prices_is_checked_before_the_first_step(
    tmp_path: Path, stated: dict[str, Any]
) -> None:
    """What the ranking would refuse is known at once, and without a ranking nothing is read."""
    with pytest.warns(UserWarning, match="no ranking at the end of the run unless this is corrected before"):
        run(tmp_path, MeterHarness(price_lookup_limit_s=HANG_S), Clock(), {"providers": ["aws"], **stated})
    run(tmp_path, MeterHarness(), Clock(), {"providers": ["aws"], "report": False, **stated})


def test_files_and_names_that_can_be_used_give_no_warning(tmp_path: Path) -> None:
    """A quota of a machine that the prices have."""
    named = quota(tmp_path, '[[quota]]\nprovider = "aws"\nfamily = "p5"\nvcpus = 8\n')
    run(
        tmp_path,
        MeterHarness(price_lookup_limit_s=HANG_S),
        Clock(),
        {"quota": named, "providers": ["aws"], "purchase": ["spot"]},
    )


@pytest.mark.parametrize(
    ("limit", "said"),
    [({"budget_usd": 1.0}, "over the budget"), ({"deadline_hours": 1.0 / 3600}, "past the deadline")],
)
def test_an_exceeded_limit_gives_one_warning(tmp_path: Path, limit: dict[str, Any], said: str) -> None:
    """32 steps cost $1.15 and take 1.15 s: the warning comes with the estimate, and the run is not stopped."""
    clock = Clock()
    with pytest.warns(UserWarning, match=said) as warned:
        fit = run(tmp_path, MeterHarness(clock), clock, {"usd_per_hour": 3600.0, **limit})
    assert len(fare_meter_warnings(warned)) == 1
    assert fit.global_step == 32


def test_no_warning_within_the_limits(tmp_path: Path) -> None:
    """No warning within budget and deadline."""
    clock = Clock()
    limits = {"budget_usd": 1.2, "deadline_hours": 1.2 / 3600}
    assert run(tmp_path, MeterHarness(clock), clock, {"usd_per_hour": 3600.0, **limits}).global_step == 32


def test_dollars_are_logged_once_a_minute(tmp_path: Path) -> None:
    """After the window the metrics are logged once a minute, whatever the step time."""
    clock, logger = Clock(), RecordingLogger()
    fit = trainer(
        tmp_path, MeterHarness(clock).meter(tmp_path, usd_per_hour=36.0), logger=logger, max_steps=44
    )
    fit.fit(Tiny(clock), loader(160, clock=clock, load_s=2.5))
    steps = [step for step, _ in logger.rows]
    assert steps == [15, 21, 27, 33, 39, 44]
    paid = [row["fare/usd_so_far"] for _, row in logger.rows]
    assert paid == sorted(paid)


def test_the_projection_follows_steps_that_become_slower(tmp_path: Path) -> None:
    """Steps of 10 s, and of 20 s after the 17th: once ten have shown it, each band has what is paid in the end."""
    clock, logger = Clock(), RecordingLogger()

    class Slower(Rows):
        def __getitem__(self, index: int) -> Any:
            clock.advance(2.5 if index < 17 * 4 else 5.0)
            return super().__getitem__(index)

    meter = MeterHarness(clock).meter(tmp_path, usd_per_hour=3600.0)
    trainer(tmp_path, meter, logger=logger, max_steps=60).fit(Tiny(), DataLoader(Slower(240), batch_size=4))
    paid = 17 * 10.0 + 43 * 20.0
    assert logger.rows[-1][1]["fare/usd_so_far"] == pytest.approx(paid)
    late = [row for step, row in logger.rows if step is not None and step > 40]
    assert len(late) > 3
    for row in late:
        assert row["fare/usd_total_low_80"] <= row["fare/usd_total"] <= row["fare/usd_total_high_80"]
        assert row["fare/usd_total_low_80"] <= paid <= row["fare/usd_total_high_80"] + 1e-6
        assert row["fare/usd_total"] == pytest.approx(paid, rel=0.05)  # two of the steps since then took 10 s


def test_the_window_prints_one_line(tmp_path: Path) -> None:
    """The line has step time, throughput, time left and dollars."""
    clock, harness = Clock(), MeterHarness()
    harness = MeterHarness(clock)
    run(tmp_path, harness, clock, {"usd_per_hour": 3600.0})
    line = harness.lines[0]
    assert line == (
        "trainfare: 36 ms a step (80 % between 36 ms and 36 ms), 111.1 samples/s, 56 % waiting for data, "
        "about 576 ms left, $0.58 of about $1.15"
    )


def test_a_high_throughput_is_no_power_of_ten() -> None:
    """32 samples in 0.953 ms are 33,578 samples a second."""
    same = Quantiles(median_s=0.953e-3, p10_s=0.953e-3, p90_s=0.953e-3)
    times = StepTimes(10, same, None, None, None, None, None)
    assert "33,578 samples/s" in progress_line(RunStatus(run_id="0a"), times, 32)


def test_all_nodes_are_paid_for(tmp_path: Path) -> None:
    """usd_per_hour is the price of one machine, so a run on two nodes costs twice as much."""
    from trainfare.meter.fit_meter import FitMeter
    from trainfare.meter.settings import MeterSettings

    meter = FitMeter(MeterSettings(usd_per_hour=3.0), MeterHarness().services, lambda _: None)
    meter.prepare(2)
    assert meter._usd_per_hour == 6.0


def test_samples_that_are_not_known_are_not_logged(tmp_path: Path) -> None:
    """Batches of text show no number of samples: times and dollars are logged, samples a second are not."""
    logger, harness = RecordingLogger(), MeterHarness()
    fit = trainer(tmp_path, harness.meter(tmp_path), max_steps=32, log_every_n_steps=1, logger=logger)
    fit.fit(Reader(), ["some text"] * 32)
    assert len(logger.rows) == 2
    assert all("fare/step_s" in row and "fare/samples_per_s" not in row for _, row in logger.rows)
    assert harness.profile.batch.samples_per_step is None


def test_a_step_is_as_many_batches_as_are_accumulated(tmp_path: Path) -> None:
    """The last step of an epoch of ten batches has two of them; the others have the four that were asked for."""
    harness = MeterHarness()
    fit = trainer(tmp_path, harness.meter(tmp_path), max_epochs=8, accumulate_grad_batches=4)
    fit.fit(Tiny(), loader(40))
    assert harness.profile.batch.samples_per_step == 16
    assert harness.profile.parallel.accumulate_grad_batches == 4


def test_phases_are_timed_where_the_host_s_marks_time_them(tmp_path: Path) -> None:
    """On other devices than CPU and CUDA an operation runs later than its call: the step alone is timed."""
    meter = MeterHarness().meter(tmp_path)

    class Watch(pl.Callback):
        run: Any = None

        def on_train_batch_end(self, *_: Any) -> None:
            self.run = meter._meter._run  # type: ignore[union-attr]

    watch = Watch()
    trainer(tmp_path, meter, watch, max_steps=32).fit(Tiny(), loader(160))
    run = watch.run
    for device, timed in (("cpu", True), ("mps", False)):
        run.progress.facts = replace(run.progress.facts, device=torch.device(device))
        measured = build_measured_profile(run, run.traced.step, ()).measured
        assert measured is not None
        assert measured.step.median_s > 0
        for phase in ("transfer", "forward", "backward", "optimizer"):
            assert (getattr(measured, phase) is not None) == timed, phase
