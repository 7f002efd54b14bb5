"""
Cost of a run in later months, and whether to wait, from a cost now and the shipped rates.

"Now" is the date of the price; no clock is read. The verdict compares the value of having the model a month earlier
with the uncertain saving of waiting a month.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from trainfare_core.decline.cost_in_year import CostQuestion, Rates, cost_in_year
from trainfare_core.decline.forecast import Forecast
from trainfare_core.decline.records import Band, DeclineError
from trainfare_core.decline.wait import Terms

WaitVerdict: TypeAlias = Literal["train now", "wait", "cannot tell"]

MONTHS: tuple[int, ...] = (0, 3, 6, 9, 12, 18, 24, 36)
"""Dates of the forecast. Chosen: quarters in the first year, then wider; after three years the 90 % interval of the
shipped hardware rates already spans a factor of 18."""
TRIFLE_USD_PER_MONTH = 1.0
"""
A smaller saving of waiting is not weighed where no value was given: assumed to be below the value of any model.
Chosen.
"""


@dataclass(frozen=True, slots=True)
class DatedCost:
    """
    The cost of the run after some months, USD.

    Attributes:
        months: from the day of the price.
        median: median cost.
        within_50, within_80, within_90: central intervals.
        chance_cheaper: probability that it costs less than now.
    """

    months: int
    median: float
    within_50: Band
    within_80: Band
    within_90: Band
    chance_cheaper: float


@dataclass(frozen=True, slots=True)
class BreakEvenValue:
    """
    Saving of a month's wait, USD a month: the value of having the model a month earlier at which waiting breaks even.

    Attributes:
        mid: at the median cost.
        low: the saving is above this with the confidence asked for; below 0: waiting costs money.
        high: the saving is below this with the confidence asked for.
    """

    mid: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Outlook:
    """
    The outlook of one run.

    Attributes:
        costs: one entry for each of `MONTHS` and for the horizon, counted from now.
        waiting: break-even value of waiting until the horizon.
        verdict: "cannot tell" where the value given lies inside the interval of `waiting`, or none was given.
        because: the reason.
    """

    costs: tuple[DatedCost, ...]
    waiting: BreakEvenValue
    verdict: WaitVerdict
    because: str


def outlook(
    cost_usd: float,
    *,
    log_sigma: float = 0.0,
    question: CostQuestion = "compute",
    rates: Rates | None = None,
    value_usd_per_month: float | None = None,
    time_left_months: float | None = None,
    run_months: float = 0.0,
    horizon_months: int = 12,
    months: tuple[int, ...] = MONTHS,
    discount_per_year: float = 0.1,
    confidence: float = 0.9,
) -> Outlook:
    """
    Forecast the cost of a run and weigh waiting.

    Args:
        cost_usd: cost now, USD.
        log_sigma: standard deviation of ln(cost now). It widens the costs shown and not the verdict: the error is the
            same at both dates.
        question: "compute" (same computation) or "quality" (same quality with the methods of that year).
        rates: None takes the shipped rates.
        value_usd_per_month: value of having the model a month earlier; None: not known.
        time_left_months: until the run must have ended; None: no deadline.
        run_months: length of the run.
        horizon_months: length of the wait, 1 at least.
        months: dates of the forecast, not negative; the horizon is added.
        discount_per_year: log-rate a year.
        confidence: probability with which a verdict must hold, 0.5 < c < 1.

    Raises:
        DeclineError: a number out of its range.
    """
    if not (horizon_months >= 1 and 0.5 < confidence < 1):
        raise DeclineError(f"outlook: horizon {horizon_months} months, confidence {confidence}")

    def at(after: int, sigma: float) -> Forecast:
        return cost_in_year(cost_usd, 0.0, after / 12, question=question, rates=rates, log_sigma_now=sigma)

    change = at(horizon_months, 0.0)
    terms = Terms(cost_usd, 0.0, discount_per_year, run_months / 12)

    def months_to_break_even(chance: float) -> float:
        return terms.break_even_after(horizon_months / 12, change.quantile(chance)) / 12

    waiting = BreakEvenValue(
        months_to_break_even(0.5), months_to_break_even(confidence), months_to_break_even(1 - confidence)
    )
    verdict: WaitVerdict
    if time_left_months is not None and time_left_months - run_months < 1:
        verdict, because = "train now", "the deadline leaves less than a month to wait"
    else:
        verdict, because = _judge_waiting(waiting, value_usd_per_month, confidence)
    costs: list[DatedCost] = []
    for after in sorted({*months, horizon_months}):
        cost, cheaper = at(after, log_sigma), at(after, 0.0).prob_below(cost_usd) if after else 0.0
        costs.append(
            DatedCost(after, cost.median, cost.interval(0.5), cost.interval(0.8), cost.interval(0.9), cheaper)
        )
    return Outlook(tuple(costs), waiting, verdict, because)


def _judge_waiting(
    waiting: BreakEvenValue, value: float | None, confidence: float
) -> tuple[WaitVerdict, str]:
    if value is None and waiting.high < TRIFLE_USD_PER_MONTH:
        return "train now", f"waiting saves less than ${TRIFLE_USD_PER_MONTH:.0f} a month"
    if value is None:
        return "cannot tell", "it depends on the value of having the model a month earlier"
    odds = f"{100 * confidence:.3g} %"
    if value > waiting.high:
        return (
            "train now",
            f"a month earlier is worth more than waiting saves, with a chance of {odds} or more",
        )
    if value < waiting.low:
        return "wait", f"waiting saves more than a month earlier is worth, with a chance of {odds} or more"
    return "cannot tell", "the saving of waiting may be above or below the value of a month earlier"
