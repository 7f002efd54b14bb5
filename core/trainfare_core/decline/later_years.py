"""The cost of a run in each later year, from the shipped rates or from a law that is fitted to a series."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from trainfare_core.decline.cost_in_year import AlgorithmDomain, CostQuestion, Rates, cost_in_year
from trainfare_core.decline.forecast import Forecast, forecast
from trainfare_core.decline.moore import fit_moore
from trainfare_core.decline.rates import LogRate
from trainfare_core.decline.records import Band, DeclineError, Finite
from trainfare_core.decline.series import Series
from trainfare_core.decline.wright import fit_wright
from trainfare_core.documents import Answer, Record

MAX_YEARS = 50
"""Of a forecast from the last known cost. Chosen: intervals are uninformative long before, and it bounds the output."""


class YearLine(Record):
    """Cost in one year."""

    year: Finite
    median: Finite
    within_50: Band
    within_90: Band
    chance_cheaper: Annotated[float, Field(ge=0, le=1)] = Field(description="than the last known cost")


class ForecastAnswer(Answer):
    """Cost of a run in later years."""

    law: Literal["moore", "wright", "priors"]
    question: CostQuestion | None = Field(description="None: a fitted series")
    cost_now: Finite
    year_now: Finite
    decline_per_year: Finite = Field(description="median, fraction; negative rises")
    years: tuple[YearLine, ...]
    informative: bool = Field(description="false: the last 95 % interval spans a factor of 10,000 or more")
    notes: tuple[str, ...]


def forecast_from_priors(
    cost: float, year_now: float, until: float, *, question: CostQuestion, domain: AlgorithmDomain
) -> ForecastAnswer:
    """
    Forecast a cost from the shipped rates, year by year.

    Raises:
        DeclineError: a cost or a date that cannot be used.
    """
    rates = Rates.of(domain)
    forecasts = [
        cost_in_year(cost, year_now, year, question=question, rates=rates) for year in _years(year_now, until)
    ]
    median = LogRate(-rates.total(question).quantile(0.5)).decline
    return _answer(forecasts, cost, year_now, median, question)


def forecast_from_series(series: Series, until: float, law: Literal["moore", "wright"]) -> ForecastAnswer:
    """
    Fit a series and forecast it, year by year.

    Raises:
        DeclineError: a series that the law cannot be fitted to, or a date that is not after it.
    """
    fit = fit_moore(series) if law == "moore" else fit_wright(series)
    forecasts = [forecast(fit, year) for year in _years(fit.last_year, until)]
    ahead = forecasts[0].year - fit.last_year
    median = LogRate.from_points(0.0, fit.last_cost, ahead, forecasts[0].median).decline
    return _answer(forecasts, fit.last_cost, fit.last_year, median, None)


def _years(now: float, until: float) -> list[float]:
    if not now < until <= now + MAX_YEARS:
        raise DeclineError(f"--until {until:g}: give a year after {now:g}, at most {MAX_YEARS} years later")
    whole = [now + step for step in range(1, MAX_YEARS + 1) if now + step < until - 1e-9]
    return [*whole, until]


def _answer(
    forecasts: list[Forecast], cost: float, year_now: float, decline: float, question: CostQuestion | None
) -> ForecastAnswer:
    last = forecasts[-1]
    return ForecastAnswer(
        law=last.basis.law,
        question=question,
        cost_now=cost,
        year_now=year_now,
        decline_per_year=decline,
        years=tuple(
            YearLine(
                year=then.year,
                median=then.median,
                within_50=then.interval(0.5),
                within_90=then.interval(0.9),
                chance_cheaper=then.prob_below(cost),
            )
            for then in forecasts
        ),
        informative=last.informative,
        notes=last.basis.notes,
    )
