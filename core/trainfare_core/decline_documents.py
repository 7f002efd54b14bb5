"""Documents that `trainfare decline ...` prints, with a published schema, made from `trainfare_core.decline`."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from trainfare_core._version import __version__
from trainfare_core.decline import (
    AlgorithmDomain,
    CostQuestion,
    DeclineError,
    Forecast,
    LogRate,
    Rates,
    Series,
    Triple,
    check_claims,
    consistent_triples,
    cost_in_year,
    fit_moore,
    fit_wright,
    forecast,
)
from trainfare_core.decline.claims import ClaimVerdict
from trainfare_core.decline.decomposition import Cause
from trainfare_core.decline.wait import WaitDecision
from trainfare_core.documents import Document, Record
from trainfare_core.errors import InputError

__all__ = [
    "ClaimsAnswer",
    "DecompositionAnswer",
    "ForecastAnswer",
    "WaitAnswer",
    "claims_answer",
    "decline_errors_as_input",
    "forecast_from_priors",
    "forecast_from_series",
]

MAX_YEARS = 50
"""Of a forecast from the last known cost. Chosen: intervals are uninformative long before, and it bounds the output."""
Finite = Annotated[float, Field(allow_inf_nan=False)]
IMPOSSIBLE = Triple(57, 47, 70)
"""
Hardware, software and total as published in the article that `claims.csv` reviews, percent a year: they contradict each
other.
"""


class _Line(Record):
    """A part of an answer; it can be read from an object of `decline` with the same attributes."""

    model_config = ConfigDict(from_attributes=True)


class _Answer(Document):
    """An answer; it can be read from an object of `decline` with the same attributes."""

    model_config = ConfigDict(from_attributes=True)

    schema_version: Literal[1] = 1
    tool_version: str = __version__


class ClaimLine(_Line):
    """One published figure and its recomputation."""

    id: str
    figure: str
    stated: Finite | None
    computed: Finite
    unit: str
    off_by: Finite | None = Field(description="computed / stated, of log-rates for percent a year")
    verdict: ClaimVerdict
    source: str
    note: str


class TripleLine(_Line):
    """Declines in percent a year: two components and their stated total."""

    hardware: Finite
    software: Finite
    total: Finite
    residual: Finite = Field(description="total minus that of the two components, percentage points")


class ClaimsAnswer(_Answer):
    """Every published figure with its verdict."""

    claims: tuple[ClaimLine, ...]
    impossible_triple: TripleLine
    consistent_triples: tuple[TripleLine, ...]


class Band(_Line):
    """A central interval, USD."""

    low: Finite
    high: Finite


class YearLine(_Line):
    """Cost in one year."""

    year: Finite
    median: Finite
    within_50: Band
    within_90: Band
    chance_cheaper: Annotated[float, Field(ge=0, le=1)] = Field(description="than the last known cost")


class ForecastAnswer(_Answer):
    """Cost of a run in later years."""

    law: Literal["moore", "wright", "priors"]
    question: CostQuestion | None = Field(description="None: a fitted series")
    cost_now: Finite
    year_now: Finite
    decline_per_year: Finite = Field(description="median, fraction; negative rises")
    years: tuple[YearLine, ...]
    informative: bool = Field(description="false: the last 95 % interval spans a factor of 10,000 or more")
    notes: tuple[str, ...]


class QuantileLine(_Line):
    """A quantity at the 5, 50 and 95 % quantiles of the decline."""

    at_5: Finite
    at_50: Finite
    at_95: Finite


class NpvLine(_Line):
    """Net present value of starting after some years, at the median decline."""

    start_in_years: Finite
    npv_usd: Finite


class RegretLine(_Line):
    """Loss of a start against the best one."""

    start_in_years: Finite
    loss_usd: QuantileLine


class WaitAnswer(_Answer):
    """Whether to train now or wait."""

    decision: WaitDecision
    cost_usd: Finite
    value_usd_per_year: Finite
    decline_per_year: QuantileLine = Field(description="fraction a year")
    best_start_years: QuantileLine
    npv_now_usd: Finite
    npv_best_usd: QuantileLine
    npv_at: tuple[NpvLine, ...]
    break_even_usd_per_year: QuantileLine
    probability_waiting_is_right: Annotated[float, Field(ge=0, le=1)]
    regrets: tuple[RegretLine, ...]
    assumptions: tuple[str, ...]


class PartLine(_Line):
    """One cause of a change in cost."""

    cause: Cause
    factor: Finite = Field(description="by which it made the run cheaper; below 1: more expensive")
    share: Finite = Field(description="of the log change; may be negative")
    decline_per_year: Finite


class DecompositionAnswer(_Answer):
    """How much of a change in cost each cause explains."""

    cost_from_usd: Finite
    cost_to_usd: Finite
    years: Finite
    parts: tuple[PartLine, ...]


@contextmanager
def decline_errors_as_input() -> Generator[None, None, None]:
    """
    Re-raise a `DeclineError` as trainfare's own `InputError`.

    Raises:
        InputError: in place of a DeclineError, or of an answer that is beyond the numbers of a computer.
    """
    try:
        yield
    except DeclineError as error:
        raise InputError(str(error)) from error
    except (ArithmeticError, ValueError) as error:  # out of range, or not finite in the answer
        raise InputError(
            "the answer is no finite number: check the costs and dates, which are far larger, smaller or closer than "
            "those of any run"
        ) from error


def claims_answer() -> ClaimsAnswer:
    """Return the claims table with its verdicts."""
    return ClaimsAnswer(
        claims=tuple(ClaimLine.model_validate(claim) for claim in check_claims()),
        impossible_triple=TripleLine.model_validate(IMPOSSIBLE),
        consistent_triples=tuple(TripleLine.model_validate(each) for each in consistent_triples(IMPOSSIBLE)),
    )


def forecast_from_priors(
    cost: float, year_now: float, until: float, *, question: CostQuestion, domain: AlgorithmDomain
) -> ForecastAnswer:
    """
    Forecast a cost from the shipped rates, year by year.

    Raises:
        InputError: a cost or a date that cannot be used.
    """
    with decline_errors_as_input():
        rates = Rates.of(domain)
        years = [
            cost_in_year(cost, year_now, year, question=question, rates=rates)
            for year in _years(year_now, until)
        ]
        median = LogRate(-rates.total(question).quantile(0.5)).decline
        return _forecast_answer(years, cost, year_now, median, question)


def forecast_from_series(series: Series, until: float, law: Literal["moore", "wright"]) -> ForecastAnswer:
    """
    Fit a series and forecast it, year by year.

    Raises:
        InputError: a series that the law cannot be fitted to, or a date that is not after it.
    """
    with decline_errors_as_input():
        fit = fit_moore(series) if law == "moore" else fit_wright(series)
        years = [forecast(fit, year) for year in _years(fit.last_year, until)]
        ahead = years[0].year - fit.last_year
        median = LogRate.from_points(0.0, fit.last_cost, ahead, years[0].median).decline
        return _forecast_answer(years, fit.last_cost, fit.last_year, median, None)


def _years(now: float, until: float) -> list[float]:
    if not now < until <= now + MAX_YEARS:
        raise InputError(f"--until {until:g}: give a year after {now:g}, at most {MAX_YEARS} years later")
    whole = [now + step for step in range(1, MAX_YEARS + 1) if now + step < until - 1e-9]
    return [*whole, until]


def _forecast_answer(
    years: list[Forecast], cost: float, year_now: float, decline: float, question: CostQuestion | None
) -> ForecastAnswer:
    lines = tuple(
        YearLine(
            year=each.year,
            median=each.median,
            within_50=Band.model_validate(each.interval(0.5)),
            within_90=Band.model_validate(each.interval(0.9)),
            chance_cheaper=each.prob_below(cost),
        )
        for each in years
    )
    basis = years[-1].basis
    return ForecastAnswer(
        law=basis.law,
        question=question,
        cost_now=cost,
        year_now=year_now,
        decline_per_year=decline,
        years=lines,
        informative=years[-1].informative,
        notes=basis.notes,
    )
