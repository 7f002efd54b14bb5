"""How far a run is, for those who look: the progress bar, the file of `trainfare watch`, a notebook's cell."""

from __future__ import annotations

import subprocess
import sys
from datetime import datetime, timedelta, timezone
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning.callbacks import RichProgressBar, TQDMProgressBar

from builders.cli import run_cli
from builders.lightning_modules import (
    Clock,
    MeterHarness,
    Tiny,
    fare_meter_warnings,
    loader,
    quiet,
    trainer,
)
from builders.profiles import operation
from builders.toy_market import small_job
from trainfare.cli.watch import follow_run
from trainfare.ledger.run_status import (
    FILE_NAME,
    RunStatus,
    describe_process,
    find_earlier_session,
    read_status,
    write_status,
)
from trainfare.meter.end_of_run import compute_mfu
from trainfare_core.documents import Interval
from trainfare_core.job_profile import MeasuredStep, Quantiles

pytestmark = quiet
NOW = datetime(2026, 11, 30, 12, 0, tzinfo=timezone.utc)


class Watched(Tiny):
    """A module that keeps what the bar is given after step 20, and may then raise."""

    def __init__(self, clock: Clock, error: Exception | None = None) -> None:
        super().__init__(clock)
        self.error, self.items = error, {}

    def on_train_batch_end(self, *_: Any) -> None:
        if self.trainer.global_step == 20:
            self.items = dict(self.trainer.progress_bar_callback.get_metrics(self.trainer, self))
            if self.error is not None:
                raise self.error


def train_watched(folder: Path, bar: Any, clock: Clock, module: Any, *callbacks: Any) -> Any:
    """Train 32 steps, each 36 ms long by the clock."""
    fit = trainer(folder, *callbacks, bar, max_steps=32, enable_progress_bar=True, log_every_n_steps=1)
    fit.fit(module, loader(160, clock=clock, load_s=0.005))
    return fit


@pytest.mark.parametrize("kind", [TQDMProgressBar, RichProgressBar])
def test_the_bar_shows_dollars_and_is_put_back(tmp_path: Path, kind: Any) -> None:
    """$1 a second: $0.72 after 20 steps of 36 ms, $1.15 after 32, 432 ms before the end; weights are bitwise the same."""
    clock, bar = Clock(), kind()
    torch.manual_seed(1)
    module = Watched(clock)
    harness = MeterHarness(clock, update_every_s=0.0)
    fit = train_watched(tmp_path, bar, clock, module, harness.meter(tmp_path, usd_per_hour=3600.0))
    assert module.items["fare"] == "$0.72/1.15 [1.15-1.15], 432 ms left"
    assert "get_metrics" not in vars(bar)
    torch.manual_seed(1)
    plain, clock = Watched(Clock()), Clock()
    without = train_watched(tmp_path, kind(), clock, plain)
    assert fit.callback_metrics.keys() == without.callback_metrics.keys()
    assert fit.progress_bar_metrics == without.progress_bar_metrics
    assert {name: value for name, value in module.items.items() if name != "fare"} == plain.items
    assert all(map(torch.equal, module.parameters(), plain.parameters()))
    shown = str(bar.train_progress_bar.postfix if kind is TQDMProgressBar else bar._metric_component._metrics)
    assert "$1.15/1.15 [1.15-1.15], 0 s left" in shown  # the bar that stays on the screen


def test_the_bar_is_put_back_after_an_exception(tmp_path: Path) -> None:
    """The user's exception passes through, and a bar with a `get_metrics` of its own has that again."""
    bar, clock = TQDMProgressBar(), Clock()
    own = bar.get_metrics = lambda *_: {"own": 1}  # type: ignore[method-assign]
    module = Watched(clock, ValueError("the user's"))
    with pytest.raises(ValueError, match="the user's"):
        train_watched(tmp_path, bar, clock, module, MeterHarness(clock).meter(tmp_path, usd_per_hour=3600.0))
    assert module.items["own"] == 1
    assert "fare" in module.items
    assert bar.get_metrics is own


def status(**changes: Any) -> RunStatus:
    fields: dict[str, Any] = {
        "run_id": "0a", "process": describe_process(), "written_at": NOW, "job": "llama", "machine": "aws:p5@x",
        "steps_done": 250, "steps_total": 1000, "elapsed_s": 3600.0, "usd_so_far": 10.0, "mfu": 0.41,
        "left_s": Interval(mid=10800.0, low_80=9000.0, high_80=14400.0),
        "usd_total": Interval(mid=40.0, low_80=35.0, high_80=50.0), "budget_usd": 30.0,
    }  # fmt: skip
    return RunStatus(**{**fields, **changes})


def test_the_text_of_a_bar_is_ascii() -> None:
    """A bar of tqdm raises where the terminal's encoding lacks a character, which would end the training."""
    text = status().format_short()
    assert text == "$10.00/40.00 [35.00-50.00], 3 h left, MFU 41 %"
    assert text.isascii()


def test_the_file_is_written_from_the_first_step_and_every_five_seconds(tmp_path: Path) -> None:
    """By the clock, in steps of 1 s, but not in the ten that are measured; at the end it says so."""
    clock, times, states = Clock(), [], []

    def write(status: RunStatus, folder: Path) -> None:
        times.append(clock())
        states.append((status.state, status.steps_done))
        write_status(status, folder)

    harness = MeterHarness(clock, write_status=write)
    meter = harness.meter(tmp_path, usd_per_hour=3600.0, budget_usd=99.0)
    trainer(tmp_path, meter, max_steps=44).fit(Tiny(), loader(176, clock=clock, load_s=0.25))
    assert (states[0], states[-1]) == (("running", 0), ("finished", 44))
    gaps = [late - early for early, late in pairwise(times[:-1])]
    assert len(gaps) > 4
    assert min(gaps) == 5.0
    assert max(gaps) <= 5.0 + 10.0 + 2.0
    last = read_status(tmp_path / FILE_NAME)
    assert (last.usd_so_far, last.budget_usd) == (pytest.approx(44.0), 99.0)


def test_a_slow_disk_takes_a_thousandth_of_the_run(tmp_path: Path) -> None:
    """A write of 0.1 s is followed by none for 100 s."""
    clock, times = Clock(), []

    def write(*_: Any) -> None:
        times.append(clock())
        clock.advance(0.1)

    meter = MeterHarness(clock, write_status=write).meter(tmp_path)
    trainer(tmp_path, meter, max_steps=44).fit(Tiny(), loader(176, clock=clock, load_s=2.5))
    gaps = [late - early for early, late in pairwise(times[:-1])]
    assert len(gaps) > 1
    assert min(gaps) >= 100.0


def test_a_disk_that_fails_costs_only_the_file(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    """The run is measured without a warning, and what is read once the disk is well again is up to date."""
    clock, tries = Clock(), []

    def write(status: Any, folder: Path) -> None:
        tries.append(1)
        if len(tries) < 4:
            raise OSError("no space left on device")
        write_status(status, folder)

    harness = MeterHarness(clock, write_status=write, update_every_s=0.0)
    trainer(tmp_path, harness.meter(tmp_path), max_steps=32).fit(Tiny(clock), loader(160))
    assert fare_meter_warnings(recwarn) == []
    assert (len(tries) > 4, read_status(tmp_path / FILE_NAME).state) == (True, "finished")
    assert harness.profile.measured is not None


def test_no_file_where_nothing_is_to_be_written(tmp_path: Path) -> None:
    """`report=False` only logs."""
    meter = MeterHarness(write_status=write_status).meter(tmp_path, report=False)
    trainer(tmp_path, meter, max_steps=32).fit(Tiny(), loader(160))
    assert list(tmp_path.iterdir()) == []


def test_a_meter_with_a_fault_takes_its_file_away(tmp_path: Path) -> None:
    """The training goes on; what would not be written any more is not left to be read."""
    clock, seen = Clock(), list[bool]()
    meter = MeterHarness(clock, write_status=write_status).meter(tmp_path)

    class Faulty(Tiny):
        def on_train_batch_end(self, *_: Any) -> None:
            if self.trainer.global_step == 4:
                seen.append((tmp_path / FILE_NAME).exists())
                clock.now_s = "broken"  # type: ignore[assignment]

    with pytest.warns(UserWarning, match="FareMeter had a fault and is off"):
        trainer(tmp_path, meter, max_steps=8).fit(Faulty(), loader(160))
    assert (seen, (tmp_path / FILE_NAME).exists()) == ([True], False)


def test_watch_ends_with_the_run(tmp_path: Path) -> None:
    """It shows each state that is written, of the newest run below the folder, and how it ended."""
    later = iter([status(steps_done=500), status(state="failed", ended_by="KeyboardInterrupt")])
    write_status(status(), tmp_path / "lightning_logs" / "version_3")
    rows = [
        dict(rows)
        for rows in follow_run(
            tmp_path,
            lambda: NOW,
            lambda _: write_status(next(later), tmp_path / "lightning_logs" / "version_3"),
        )
    ]
    assert [row["steps"] for row in rows] == [
        "250 of 1,000 (25 %)",
        "500 of 1,000 (50 %)",
        "250 of 1,000 (25 %)",
    ]
    assert [row["run"] for row in rows] == ["llama runs", "llama runs", "llama failed (KeyboardInterrupt)"]
    assert rows[0] == {
        "run": "llama runs", "machine": "aws:p5@x", "steps": "250 of 1,000 (25 %)", "paid": "$10.00 in 1 h",
        "total": "about $40.00 [$35.00 – $50.00]", "budget": "$30.00, and the run is over it", "left": "about 3 h",
        "MFU": "41 %",
    }  # fmt: skip
    assert "total" not in rows[-1]


def test_watch_says_that_a_run_has_died(tmp_path: Path) -> None:
    """The process that wrote the file is gone; where that cannot be known, since when there is no news."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    dead = describe_process().model_copy(update={"pid": process.pid})
    write_status(status(process=dead), tmp_path)
    (rows,) = follow_run(tmp_path, lambda: NOW)
    assert rows == [
        ("run", "llama died: its process is gone; last news at 2026-11-30 12:00:00 UTC"), ("machine", "aws:p5@x"),
        ("steps", "250 of 1,000 (25 %)"), ("paid", "$10.00 in 1 h"), ("budget", "$30.00"), ("MFU", "41 %"),
    ]  # fmt: skip
    elsewhere = status(process=dead.model_copy(update={"host": "another"}))
    assert not elsewhere.is_over()
    silent = dict(elsewhere.list_rows(NOW + timedelta(minutes=5)))["run"]
    assert silent == "llama has sent no news since 2026-11-30 12:00:00 UTC"


def test_folders_that_cannot_be_listed_have_no_earlier_session() -> None:
    """A name that no file system takes stands for a disk that fails: the meter goes on."""
    assert find_earlier_session(Path("x" * 1000) / "run", "0a", 0) is None


def test_watch_says_that_the_meter_is_off(tmp_path: Path) -> None:
    """Its file is taken away while the run goes on."""
    write_status(status(), tmp_path)
    *_, last = follow_run(tmp_path, lambda: NOW, lambda _: (tmp_path / FILE_NAME).unlink())
    assert last == [("run", "FareMeter had a fault and is off; the training goes on without it")]


def test_the_command_prints_one_line_a_change(tmp_path: Path) -> None:
    """Where standard output is no terminal; a folder without a run is an error with what to do."""
    write_status(status(state="finished", budget_usd=None, job="llama\x1b[31m"), tmp_path)
    done = run_cli("watch", tmp_path)
    assert (done.exit_code, done.stdout.count("\n")) == (0, 1)
    assert "\x1b" not in done.stdout
    assert "steps 250 of 1,000 (25 %), paid $10.00 in 1 h, MFU 41 %" in done.stdout
    assert run_cli("watch", tmp_path, "--once").stdout.splitlines()[1:] == [
        "machine  aws:p5@x", "steps    250 of 1,000 (25 %)", "paid     $10.00 in 1 h", "MFU      41 %",
    ]  # fmt: skip
    (tmp_path / "empty").mkdir()
    refused = run_cli("watch", tmp_path / "empty")
    assert refused.exit_code == 2
    assert "FareMeter writes it from the first step on" in refused.stderr
    too_long = run_cli("watch", tmp_path / ("x" * 300))
    assert (too_long.exit_code, too_long.stderr.count("\n")) == (2, 1)
    assert too_long.stderr.endswith("x: File name too long\n")


def test_a_notebook_s_cell_shows_the_run(tmp_path: Path) -> None:
    """A table without a script, in which names are text; before a run the cell shows the object as ever."""
    clock = Clock()
    meter = MeterHarness(clock).meter(tmp_path, usd_per_hour=3600.0)
    assert meter._repr_html_() is None
    trainer(tmp_path, meter, max_steps=32).fit(Tiny(clock), loader(160, clock=clock, load_s=0.005))
    assert "<th>paid</th><td>$1.15 in 1.15 s</td>" in (meter._repr_html_() or "")
    tags: list[str] = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, _: tags.append(tag)  # type: ignore[method-assign]
    parser.feed(status(job="<script>alert(1)</script>").format_html(NOW))
    assert set(tags) == {"table", "tr", "th", "td"}


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        # NVIDIA's data sheet of the A100: 312 TFLOP/s of dense bfloat16. 2 x 4096^3 FLOPs in 1 ms are 0.4405 of it.
        ("NVIDIA A100-SXM4-80GB", 2 * 4096**3 / 1e-3 / 312e12),
        ("Another Device", None),
    ],
)
def test_mfu_is_model_flops_over_the_dense_peak(device: str, expected: float | None) -> None:
    """By the device's name from its driver; recomputed operations are left out."""
    times = Quantiles(median_s=1e-3, p10_s=1e-3, p90_s=1e-3)
    measured = MeasuredStep(device_name=device, device_kind="cuda", steps=10, step=times)
    recomputed = operation(recomputed=True, phase="backward")
    job = small_job(operations=(operation(), recomputed), measured=measured)
    assert compute_mfu(job) == (None if expected is None else pytest.approx(expected))
    assert compute_mfu(small_job(measured=None)) is None
