"""Clock, prices, tracing, files and console as FareMeter uses them, in one object that tests replace."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timezone
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainfare.ledger.bucket import write_record
from trainfare.ledger.place import LedgerFolder, LedgerPlace, find_ledger
from trainfare.ledger.run_status import RunStatus, write_status
from trainfare.prices.apart import PriceQuestion, ask_apart

if TYPE_CHECKING:
    import torch

    from trainfare.meter.settings import MeterSettings
    from trainfare.trace import StepTrace
    from trainfare_core.job_profile import JobProfile
    from trainfare_core.ledger.run_record import RunRecord
    from trainfare_core.methods.curves import LearningCurve
    from trainfare_core.recommendation import Recommendation


def _utc_now() -> datetime:
    return datetime.now(tz=timezone.utc)


def _today() -> date:
    return _utc_now().date()


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def import_polars() -> None:
    """Import polars, and restore the environment variable that polars sets or extends for its allocator."""
    before = dict(os.environ)
    import_module("polars")
    for name in set(os.environ) - set(before):
        del os.environ[name]
    os.environ.update(before)


def _usd_per_hour(machine: str, lock: str | None, limit_s: float) -> float:
    return float(ask_apart(PriceQuestion(machine=machine, lock=lock), limit_s) or 0.0)


def _check_prices(settings: MeterSettings, limit_s: float) -> None:
    from trainfare.prices.sources import OWN_PRICES_VARIABLE

    question = PriceQuestion(
        providers=settings.providers,
        regions=settings.regions,
        purchase=settings.purchase,
        quota=settings.quota,
        lock=settings.price_lock,
        own_prices=settings.own_prices,
    )
    if question != PriceQuestion() or os.environ.get(OWN_PRICES_VARIABLE):  # else nothing could be wrong
        ask_apart(question, limit_s)


def _recommend(profile: JobProfile, settings: MeterSettings) -> Recommendation:
    import_polars()
    from trainfare.prices.constraints import read_constraints
    from trainfare.recommendation import recommend
    from trainfare_core.limits.constraints import Constraints
    from trainfare_core.limits.limit_fields import take_limits

    return recommend(
        profile,
        read_constraints({**take_limits(Constraints, settings), "max_usd": settings.budget_usd}),
        lock=settings.price_lock,
        own_prices=settings.own_prices,
        # The end of a run is no place for a question; the report marks stale prices and states their age.
        allow_stale=True,
    )


def _write(directory: Path, name: str, text: str) -> Path:
    from trainfare_providers.disk.files import make_folder, write_text

    make_folder(directory)
    write_text(directory / name, text)
    return directory / name


def _write_profile(profile: JobProfile, directory: Path) -> Path:
    return _write(directory, "trainfare-profile.json", profile.to_json())


def _write_curve(curve: LearningCurve, directory: Path) -> Path:
    return _write(directory, "trainfare-curve.json", curve.to_json())


def _write_reports(
    recommendation: Recommendation, profile: JobProfile, directory: Path, as_of: date
) -> tuple[Path, ...]:
    from trainfare.report.files import write_reports

    return write_reports(recommendation, profile, directory, as_of=as_of)


def _show(recommendation: Recommendation, profile: JobProfile, as_of: date, files: tuple[Path, ...]) -> None:
    from trainfare.report.run_end import render_run_end

    text = render_run_end(recommendation, profile, as_of, files)
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    sys.stdout.write(text.encode(encoding, "replace").decode(encoding))
    sys.stdout.flush()


def _markdown(recommendation: Recommendation, profile: JobProfile, as_of: date) -> str:
    from trainfare.report import report_ranking

    return report_ranking(recommendation, profile, as_of).as_markdown()


def _read_processor() -> str:
    from trainfare_core.hardware.hosts import read_processor  # it loads Polars

    return read_processor()


def _read_energy_j(device: torch.device) -> float | None:
    from trainfare.meter.nvml import read_energy_j

    return read_energy_j(device)


def _prepare() -> None:
    import_module("trainfare.trace.step_trace")


def _step_trace(module: Any, optimizers: Any) -> StepTrace:
    from trainfare.trace import StepTrace

    return StepTrace(module, optimizers, vetted_only=True)


@dataclass(frozen=True)
class MeterServices:
    """
    The functions by which a meter reaches clock, prices, tracing, files and console.

    Attributes:
        now: monotonic seconds from any origin.
        today: date of the report.
        say: writes one line to standard output.
        usd_per_hour: on-demand price by machine name, price lock (None: the prices of the price sources) and seconds.
        check_prices: raises what `recommend` would raise of the prices, names and files that the settings state; takes
            the settings and the seconds that it may take.
        recommend: ranks machines for a profile.
        write_profile, write_curve: write one file into a folder and return its path.
        write_reports: writes the HTML and the JSON report into a folder.
        show: prints the answer, and the files that were written, profile first, to the terminal.
        markdown: the ranking as Markdown, for loggers.
        write_status: replaces the file of a running run in a folder; None: removes it.
        processor: the name of this host's processor, "" where it is not known.
        read_energy_j: joules that an accelerator took since some moment before the run; None where nothing counts them.
        prepare: imports the modules that tracing needs, before the first step.
        step_trace: makes the trace of a real step, from module and optimizers.
        find_ledger: returns where runs are recorded; None: nowhere.
        write_run: writes the record of a run into a ledger, or replaces it.
        utc_now: the time of a record.
        update_every_s: how often progress bar and status file are renewed. A chosen value: a reader sees a change soon,
            and the disk of the run, which may be a network's, gets few files.
        noise_every_steps: optimizer steps from one reading of the gradients' norms to the next.
        price_lookup_limit_s: time-out of `usd_per_hour` and `check_prices` together, which delay the first step.
        pricing_limit_s: CPU time after which `recommend`, which delays the end of the run, is given up; a ranking
            that does nothing for as long is given up as well. Both are chosen values: together they bound the delay
            on an idle machine by half a minute, whatever the price source does.
        rank_times_limit_s: how long rank 0 waits for the times of other ranks. A chosen value: all ranks end together,
            so times that are missing for a second are those of a rank that was lost, and each run waits at most once.
    """

    now: Callable[[], float] = time.perf_counter
    today: Callable[[], date] = _today
    say: Callable[[str], None] = _say
    usd_per_hour: Callable[[str, str | None, float], float] = _usd_per_hour
    check_prices: Callable[[MeterSettings, float], None] = _check_prices
    recommend: Callable[[JobProfile, MeterSettings], Recommendation] = _recommend
    write_profile: Callable[[JobProfile, Path], Path] = _write_profile
    write_curve: Callable[[LearningCurve, Path], Path] = _write_curve
    write_reports: Callable[[Recommendation, JobProfile, Path, date], tuple[Path, ...]] = _write_reports
    show: Callable[[Recommendation, JobProfile, date, tuple[Path, ...]], None] = _show
    markdown: Callable[[Recommendation, JobProfile, date], str] = _markdown
    write_status: Callable[[RunStatus | None, Path], None] = write_status
    processor: Callable[[], str] = _read_processor
    read_energy_j: Callable[[torch.device], float | None] = _read_energy_j
    prepare: Callable[[], None] = _prepare
    step_trace: Callable[[Any, Any], StepTrace] = _step_trace
    find_ledger: Callable[[], LedgerPlace | None] = find_ledger
    write_run: Callable[[RunRecord, LedgerFolder], Path | None] = write_record
    utc_now: Callable[[], datetime] = _utc_now
    update_every_s: float = 5.0
    noise_every_steps: int = 20
    price_lookup_limit_s: float = 10.0
    pricing_limit_s: float = 20.0
    rank_times_limit_s: float = 1.0
