"""`trainfare decline ...`: how the cost of the same run changes over the years, and whether to wait."""

from __future__ import annotations

import csv
import io
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from trainfare.cli.option_groups import Format, group_options
from trainfare.cli.options import DecisionPriceOptions, JobArgument
from trainfare.cli.output import show_wait, warn, write_blocks
from trainfare.cli.target import TargetOptions, profile_of
from trainfare_core.errors import CannotTellError, InputError

if TYPE_CHECKING:
    from trainfare_core.decline import RunState, Series
    from trainfare_core.recommendation import Option

app = typer.Typer(
    name="decline", help="How the cost of the same run changes over the years.", no_args_is_help=True
)

DAYS_PER_YEAR = 365.25
MAX_SERIES_BYTES = 10 * 1024 * 1024
"""About 400,000 rows; a larger file is another one, named by mistake. Chosen."""


QuestionOption = Annotated[
    Literal["compute", "quality"],
    typer.Option(help="compute: the same computation on later machines; quality: with later methods too"),
]
DomainOption = Annotated[
    Literal["language", "vision"], typer.Option(help="whose algorithms, for --question quality")
]


@app.callback()
def decline() -> None:
    """Forecast costs, compare waiting, split a change in cost, and check published claims."""


@app.command("claims")
@group_options
def claims(output: Format = "table") -> None:
    """Recompute published claims: consistent, off by how much, or impossible."""
    from trainfare.cli.decline_tables import build_claims
    from trainfare_core.decline import claims_answer

    answer = claims_answer()
    write_blocks(answer, build_claims(answer), output)


@app.command("forecast")
@group_options
def forecast(
    job: JobArgument = None,
    *,
    until: Annotated[str, typer.Option(metavar="DATE", help="last date to forecast, e.g. 2030 or 2027-06")],
    cost: Annotated[float | None, typer.Option(help="cost now, USD; forecast from published rates")] = None,
    date: Annotated[
        str | None, typer.Option(metavar="DATE", help="date of --cost, e.g. 2022 or 2022-09")
    ] = None,
    series: Annotated[
        Path | None, typer.Option(help="CSV with date,cost[,production]: fit it instead of the rates")
    ] = None,
    law: Annotated[Literal["moore", "wright"], typer.Option(help="law to fit to --series")] = "moore",
    question: QuestionOption = "compute",
    domain: DomainOption = "language",
    prices: DecisionPriceOptions,
    target: TargetOptions,
    output: Format = "table",
) -> None:
    """Forecast the cost of a TARGET's run, or --cost: median, 50 and 90 % intervals, the chance that it is cheaper."""
    from trainfare.cli.decline_tables import build_forecast
    from trainfare_core.decline import decimal_year, forecast_from_priors, forecast_from_series

    if job is not None:
        if cost is not None or date is not None or series is not None:
            raise InputError(
                "decline forecast: a TARGET has its cost and date; leave out --cost, --date and --series"
            )
        best = _price_job(job, target, prices)
        cost, date = best.run_usd.mid, best.price_observed_on
    with decline_errors_as_input():
        last = decimal_year(until)
        if series is not None and cost is None:
            answer = forecast_from_series(read_series(series), last, law)
        elif cost is not None and date is not None and series is None:
            answer = forecast_from_priors(cost, decimal_year(date), last, question=question, domain=domain)
        else:
            raise InputError("decline forecast: give a TARGET, --cost with --date, or --series alone")
    write_blocks(answer, build_forecast(answer), output)


@app.command("wait")
@group_options
def wait(
    job: JobArgument = None,
    *,
    cost: Annotated[
        float | None, typer.Option(help="cost of the run now, USD; default: that of the TARGET's cheapest")
    ] = None,
    value_per_month: Annotated[float, typer.Option(help="value of having the model, USD a month")],
    yearly_decline: Annotated[
        float | None, typer.Option(help="decline taken as certain, percent a year; default: published rates")
    ] = None,
    question: QuestionOption = "compute",
    domain: DomainOption = "language",
    discount: Annotated[float, typer.Option(help="interest, percent a year")] = 10.0,
    run_days: Annotated[
        float | None,
        typer.Option(help="length of the run, days; default: that of the TARGET's cheapest, else 0"),
    ] = None,
    obsolete_years: Annotated[float, typer.Option(help="years until the model is obsolete")] = 5.0,
    confidence: Annotated[float, typer.Option(help="chance with which the decision must hold")] = 0.9,
    prices: DecisionPriceOptions,
    target: TargetOptions,
    output: Format = "table",
) -> None:
    """Train now or wait: best start, break-even value and regret, over the uncertainty of the decline."""
    from trainfare.cli.decline_tables import build_wait
    from trainfare_core import decline

    if (job is None) == (cost is None):
        raise InputError("decline wait: give a TARGET or --cost")
    if cost is None:
        best = _price_job(job, target, prices)
        cost = best.run_usd.mid
        run_days = best.run_hours.mid / 24 if run_days is None else run_days
    run_days = run_days or 0.0
    for option, value, above in (
        ("--cost", cost, True),
        ("--discount", discount, True),
        ("--value-per-month", value_per_month, False),
        ("--run-days", run_days, False),
    ):
        if not (value > 0 or (value == 0 and not above)):
            raise InputError(f"{option} {value:g}: must {'be above' if above else 'not be below'} 0")
    if yearly_decline is not None and not yearly_decline < 100:
        raise InputError(
            f"--yearly-decline {yearly_decline:g}: leaves nothing; give less than 100 percent a year"
        )
    with decline_errors_as_input():
        rates = (
            decline.Rates.of(domain).total(question)
            if yearly_decline is None
            else decline.UncertainRate.certain(decline.LogRate.from_decline(yearly_decline / 100))
        )
        answer = decline.wait(
            cost,
            rates,
            value_usd_per_year=12 * value_per_month,
            discount_per_year=discount / 100,
            run_years=run_days / DAYS_PER_YEAR,
            obsolete_in_years=obsolete_years,
            confidence=confidence,
        )
    write_blocks(answer, build_wait(answer), output)


def _price_job(job: str | None, target: TargetOptions, prices: DecisionPriceOptions) -> Option:
    """
    Return the cheapest run of a TARGET.

    Raises:
        CannotTellError: there is none, or the length of the run is not known.
    """
    from trainfare.recommendation import rank_job
    from trainfare_core.ranking.pricing.request import Request

    choice = prices.choice()
    with profile_of(target.require_target(job), target) as traced:
        profile = traced()
    with show_wait("pricing every machine"):
        ranking = rank_job(profile, Request(), choice)
    warn(ranking.warnings)
    best = ranking.answer.best("cheapest")
    if best is None or ranking.answer.basis != "whole_run":
        unknown = (
            profile.plan.unknown_because or ranking.answer.unknown_because or "no machine runs it as it is"
        )
        raise CannotTellError(f"the cost of the run is not known: {unknown}")
    return best


@app.command("decompose")
@group_options
def decompose(
    earlier: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="DATE,FLOP,USD/h,TFLOP/s,MFU[,USD]",
            help="date, FLOP, price of a device-hour, peak of a device, utilisation, and perhaps the stated cost",
        ),
    ],
    later: Annotated[
        str, typer.Option("--to", metavar="DATE,FLOP,USD/h,TFLOP/s,MFU[,USD]", help="the same, later")
    ],
    output: Format = "table",
) -> None:
    """Split a change in cost exactly between algorithm, price, hardware and utilisation."""
    from trainfare.cli.decline_tables import build_decomposition
    from trainfare_core import decline

    runs = _state("--from", earlier), _state("--to", later)
    with decline_errors_as_input():
        answer = decline.decompose(*runs)
    write_blocks(answer, build_decomposition(answer), output)


def _state(option: str, text: str) -> RunState:
    from trainfare_core.decline import RunState, decimal_year

    parts = text.split(",")
    try:
        flop, usd_per_hour, tflops, utilisation, *stated = (float(part) for part in parts[1:])
    except ValueError as error:
        msg = f"{option} {text!r}: give DATE,FLOP,USD/h,TFLOP/s,MFU such as 2022-09-29,1.1e23,2.0,312,0.43"
        raise InputError(msg) from error
    if len(stated) > 1:
        raise InputError(f"{option} {text!r}: {len(parts)} values; at most 6, the last being the stated cost")
    with decline_errors_as_input():
        return RunState(decimal_year(parts[0]), flop, usd_per_hour, tflops * 1e12, utilisation, *stated)


def read_series(path: Path) -> Series:
    """
    Read a CSV file with the columns date and cost, and perhaps production.

    Raises:
        InputError: no such file, columns missing, or invalid values.
    """
    from trainfare_core.decline import Series
    from trainfare_providers.disk.files import read_input

    data = read_input(path, MAX_SERIES_BYTES, kind="a series of costs")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: cannot be read as UTF-8 text") from error
    reader = csv.DictReader(io.StringIO(text), restval="")
    try:
        columns = set(reader.fieldnames or ())
        rows = list(reader)
    except csv.Error as error:
        raise InputError(f"{path}: line {reader.line_num + 1} is not CSV: {error}") from error
    if not {"date", "cost"} <= columns:
        raise InputError(f"{path}: it needs the columns date and cost, and for Wright's law production")
    try:
        costs = [float(row["cost"]) for row in rows]
        production = [float(row["production"]) for row in rows] if "production" in columns else None
    except ValueError as error:
        raise InputError(f"{path}: a cost or production is not a number") from error
    with decline_errors_as_input():
        return Series.of([row["date"] for row in rows], costs, production=production)


@contextmanager
def decline_errors_as_input() -> Generator[None, None, None]:
    """
    Re-raise a `DeclineError` as trainfare's own `InputError`.

    Raises:
        InputError: in place of a DeclineError, or of an answer that is beyond the numbers of a computer.
    """
    from trainfare_core.decline import DeclineError

    try:
        yield
    except DeclineError as error:
        raise InputError(str(error)) from error
    except (ArithmeticError, ValueError) as error:  # out of range, or not finite in the answer
        raise InputError(
            "the answer is no finite number: check the costs and dates, which are far larger, smaller or closer than "
            "those of any run"
        ) from error
