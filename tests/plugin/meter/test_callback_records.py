"""What FareMeter tells while it runs: metrics through every logger, dollars so far, one warning for a limit."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger

from builders.lightning_modules import Clock, Kept, Tiny, World, loader, of_ours, quiet, trainer
from trainfare_core.errors import UnknownNameError

pytestmark = quiet


class Broken(Kept):
    """Takes nothing."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.rows.append((step, {}))
        raise ConnectionError("tracking server is away")


def run(folder: Path, world: World, clock: Clock, meter: dict[str, Any], **options: Any) -> Any:
    """Train 32 steps of 36 ms on the clock."""
    fit = trainer(
        folder, world.meter(folder, **meter), **{"max_steps": 32, "log_every_n_steps": 1, **options}
    )
    fit.fit(Tiny(clock), loader(160, clock=clock, load_s=0.005))
    return fit


def test_metrics_go_through_every_logger(tmp_path: Path) -> None:
    """Once when the window closes and once at the end, on the axis that Lightning's own metrics have."""
    clock, loggers = Clock(), [Kept(), Kept()]
    run(tmp_path, World(clock), clock, {"usd_per_hour": 3600.0}, logger=loggers)
    assert loggers[0].rows == loggers[1].rows
    (step, window), (last_step, last) = loggers[0].rows
    assert (step, last_step) == (13, 32)
    assert window["fare/step_s"] == pytest.approx(0.036)
    assert window["fare/samples_per_s"] == pytest.approx(4 / 0.036)
    assert window["fare/data_wait_share"] == pytest.approx(20 / 36)
    assert window["fare/usd_so_far"] == pytest.approx(14 * 0.036)
    assert window["fare/hours_left"] == pytest.approx(18 * 0.036 / 3600)
    assert window["fare/usd_total_estimate"] == pytest.approx(32 * 0.036)
    assert last["fare/usd_so_far"] == last["fare/usd_total_estimate"] == pytest.approx(32 * 0.036)
    assert last["fare/hours_left"] == 0.0


def test_csv_and_tensorboard_have_them(tmp_path: Path) -> None:
    """CSV has the columns, TensorBoard the scalars and the table."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    clock = Clock()
    loggers = [CSVLogger(tmp_path, "csv"), TensorBoardLogger(tmp_path, "board")]
    run(tmp_path, World(clock), clock, {"usd_per_hour": 3.0}, logger=loggers)
    with (Path(loggers[0].log_dir) / "metrics.csv").open() as file:
        assert {"fare/step_s", "fare/usd_so_far"} <= set(csv.DictReader(file).fieldnames or ())
    events = EventAccumulator(loggers[1].log_dir)
    events.Reload()
    assert [round(event.value, 6) for event in events.Scalars("fare/step_s")] == [0.036, 0.036]
    assert "fare/report/text_summary" in events.Tags()["tensors"]


def test_a_logger_that_fails_is_left_alone(tmp_path: Path) -> None:
    """One warning, no second attempt, the other loggers go on, and so does the meter."""
    clock, world, broken, good = Clock(), World(), Broken(), Kept()
    with pytest.warns(UserWarning, match="Broken took no fare metrics") as warned:
        run(tmp_path, world, clock, {}, logger=[broken, good])
    assert len(of_ours(warned)) == 1
    assert (len(broken.rows), len(good.rows)) == (1, 2)
    assert world.profile.measured is not None


def test_log_metrics_false_logs_nothing(tmp_path: Path) -> None:
    """The loggers can be kept out of it."""
    kept, board = Kept(), TensorBoardLogger(tmp_path, "board")
    run(tmp_path, World(), Clock(), {"log_metrics": False}, logger=[kept, board])
    assert kept.rows == []


def test_the_report_goes_where_the_logger_writes(tmp_path: Path) -> None:
    """Without report_dir the files lie with the run's other results."""
    logger = CSVLogger(tmp_path, "run")
    run(tmp_path, World(), Clock(), {"report_dir": None}, logger=logger)
    assert (Path(logger.log_dir) / "trainfare-profile.json").is_file()


def test_without_a_logger_it_goes_to_the_root_folder(tmp_path: Path) -> None:
    """Without a logger the Trainer's own folder takes the files."""
    run(tmp_path, World(), Clock(), {"report_dir": None})
    assert (tmp_path / "trainfare-profile.json").is_file()


def test_the_machine_s_price_is_looked_up_by_name(tmp_path: Path) -> None:
    """A named machine is asked for once, before the first step."""
    clock, kept = Clock(), Kept()
    asked: list[tuple[str, float]] = []

    def price(machine: str) -> float:
        asked.append((machine, clock()))
        return 36.0

    world = World(clock, usd_per_hour=price)
    run(tmp_path, world, clock, {"machine": "aws:p4d.24xlarge@us-east-1"}, logger=kept)
    assert asked == [("aws:p4d.24xlarge@us-east-1", 100.0)]
    assert kept.rows[-1][1]["fare/usd_so_far"] == pytest.approx(32 * 0.036 / 100)
    assert any("$" in line for line in world.lines)


def unknown(machine: str) -> float:
    raise UnknownNameError(f"no machine {machine}: did you mean aws:p4d.24xlarge@us-east-1?")


@pytest.mark.parametrize(
    ("price", "said"), [(unknown, "did you mean"), (lambda _: float("nan"), "nan"), (lambda _: 0.0, "0.0")]
)
def test_a_machine_without_a_price_costs_the_dollars_alone(tmp_path: Path, price: Any, said: str) -> None:
    """One warning with the near names; the run is metered without dollars."""
    kept, world = Kept(), World(usd_per_hour=price)
    with pytest.warns(UserWarning, match=f"no price for machine.*{said}") as warned:
        run(tmp_path, world, Clock(), {"machine": "aws:p4d@us-east-1"}, logger=kept)
    assert len(of_ours(warned)) == 1
    assert world.profile.measured is not None
    assert not any("usd" in name for _, row in kept.rows for name in row)


@pytest.mark.parametrize(
    ("limit", "said"),
    [({"budget_usd": 1.0}, "over the budget"), ({"deadline_hours": 1.0 / 3600}, "past the deadline")],
)
def test_a_limit_is_warned_of_once_and_stops_nothing(
    tmp_path: Path, limit: dict[str, Any], said: str
) -> None:
    """32 steps cost $1.15 and 1.15 s: the warning comes with the estimate, the run goes on to its end."""
    clock = Clock()
    with pytest.warns(UserWarning, match=said) as warned:
        fit = run(tmp_path, World(clock), clock, {"usd_per_hour": 3600.0, **limit})
    assert len(of_ours(warned)) == 1
    assert fit.global_step == 32


def test_a_limit_that_is_kept_is_not_mentioned(tmp_path: Path) -> None:
    """No warning within budget and deadline."""
    clock = Clock()
    limits = {"budget_usd": 1.2, "deadline_hours": 1.2 / 3600}
    assert run(tmp_path, World(clock), clock, {"usd_per_hour": 3600.0, **limits}).global_step == 32


def test_dollars_are_told_again_every_minute(tmp_path: Path) -> None:
    """In a long run the metrics come back with the minutes, not with the steps."""
    clock, kept = Clock(), Kept()
    fit = trainer(tmp_path, World(clock).meter(tmp_path, usd_per_hour=36.0), logger=kept, max_steps=44)
    fit.fit(Tiny(clock), loader(160, clock=clock, load_s=2.5))
    steps = [step for step, _ in kept.rows]
    assert steps == [13, 19, 25, 31, 37, 43, 44]
    paid = [row["fare/usd_so_far"] for _, row in kept.rows]
    assert paid == sorted(paid)


def test_the_window_is_told_in_one_line(tmp_path: Path) -> None:
    """One line when the window closes: step, throughput, what is left, dollars."""
    clock, world = Clock(), World()
    world = World(clock)
    run(tmp_path, world, clock, {"usd_per_hour": 3600.0})
    line = world.lines[0]
    assert line == (
        "trainfare: 36 ms a step (80 % between 36 ms and 36 ms), 111.1 samples/s, 56% waiting for data, "
        "about 0.648 s left, $0.50 of about $1.15"
    )


def test_all_nodes_are_paid_for(tmp_path: Path) -> None:
    """usd_per_hour is what one machine costs; a run on two costs twice as much."""
    from types import SimpleNamespace

    from trainfare.meter.fit_meter import Meter
    from trainfare.meter.settings import MeterSettings

    meter = Meter(MeterSettings(usd_per_hour=3.0), World().services, lambda _: None)
    meter.setup(SimpleNamespace(num_nodes=2))
    assert meter._usd_per_hour == 6.0
