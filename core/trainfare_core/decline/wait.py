"""
Train now or wait: the value of having the model sooner against an uncertain decline of the cost.

Gives the best start t* at the 5, 50 and 95 % quantiles of the decline, and the regret of each choice. The decision is
"cannot tell" where neither answer holds with the confidence asked for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

from .errors import DeclineError
from .rates import LogRate
from .uncertain_rate import UncertainRate
from .waiting_rules import Terms

__all__ = ["DatedValue", "DeclineQuantiles", "Regret", "WaitDecision", "Waiting", "wait"]

WaitDecision: TypeAlias = Literal["train now", "wait", "cannot tell", "do not train"]


@dataclass(frozen=True, slots=True)
class DeclineQuantiles:
    """A quantity at the 5, 50 and 95 % quantiles of the decline; the values may fall in that order."""

    at_5: float
    at_50: float
    at_95: float


@dataclass(frozen=True, slots=True)
class DatedValue:
    """Net present value in USD of starting after some years, at the median decline."""

    start_in_years: float
    npv_usd: float


@dataclass(frozen=True, slots=True)
class Regret:
    """Loss of a choice against the best start, USD of net present value."""

    start_in_years: float
    loss_usd: DeclineQuantiles


@dataclass(frozen=True, slots=True)
class Waiting:
    """
    Result of `wait`.

    Attributes:
        cost_usd, value_usd_per_year: as given.
        decline_per_year: fraction a year.
        decision: "train now" or "wait" where it holds with the confidence asked for; "do not train" where no start has
            a positive value at any of the three declines.
        best_start_years: t*, at most the last start that ends before the model is obsolete.
        npv_now_usd: of starting now.
        npv_best_usd: of starting at t*.
        npv_at: of starting at fixed dates, at the median decline.
        break_even_usd_per_year: v at which it no longer pays to wait.
        probability_waiting_is_right: probability, over the decline, that t* is above 0.
        regrets: of starting now and at t* of the median.
        assumptions: in sentences.
    """

    cost_usd: float
    value_usd_per_year: float
    decline_per_year: DeclineQuantiles
    decision: WaitDecision
    best_start_years: DeclineQuantiles
    npv_now_usd: float
    npv_best_usd: DeclineQuantiles
    npv_at: tuple[DatedValue, ...]
    break_even_usd_per_year: DeclineQuantiles
    probability_waiting_is_right: float
    regrets: tuple[Regret, ...]
    assumptions: tuple[str, ...]


def wait(
    cost_usd: float,
    decline: UncertainRate,
    *,
    value_usd_per_year: float,
    discount_per_year: float = 0.1,
    run_years: float = 0.0,
    obsolete_in_years: float = 10.0,
    fixed_dates_years: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0, 3.0),
    confidence: float = 0.9,
) -> Waiting:
    """
    Compare a cheaper run later with having the model sooner.

    Args:
        cost_usd: C0, what the run costs now.
        decline: lambda, of the part of the decline that the user does not have yet: new methods need new code, and the
            list price of a machine type mostly does not fall.
        value_usd_per_year: v, value of having the model while it is in use.
        discount_per_year: r, log-rate a year.
        run_years: L.
        obsolete_in_years: H.
        fixed_dates_years: starts whose value is shown.
        confidence: probability with which "train now" or "wait" must hold, 0.5 < c < 1.

    Raises:
        DeclineError: a cost or discount that is not above 0, a run that cannot end before it is obsolete, or a
            confidence out of range.
    """
    if not (0.5 < confidence < 1 and run_years < obsolete_in_years):
        msg = f"wait: confidence {confidence}, run {run_years} years, obsolete in {obsolete_in_years}"
        raise DeclineError(msg)
    latest = obsolete_in_years - run_years

    terms = Terms(cost_usd, value_usd_per_year, discount_per_year, run_years, obsolete_in_years)
    rates = tuple(decline.quantile(p) for p in (0.05, 0.5, 0.95))
    starts = tuple(min(latest, terms.best_start(rate)) for rate in rates)
    values = tuple(terms.npv(start, rate) for start, rate in zip(starts, rates, strict=True))
    # t* > 0 exactly where lambda is above the rate at which v is the break-even value.
    turning = value_usd_per_year * math.exp(-discount_per_year * run_years) / cost_usd - discount_per_year
    chance = decline.chance_above(turning)
    return Waiting(
        cost_usd,
        value_usd_per_year,
        DeclineQuantiles(*(LogRate(-rate).decline for rate in rates)),
        _decision(chance, confidence, worthwhile=max(values) > 0),
        DeclineQuantiles(*starts),
        terms.npv(0.0, rates[1]),
        DeclineQuantiles(*values),
        tuple(DatedValue(at, terms.npv(at, rates[1])) for at in fixed_dates_years),
        DeclineQuantiles(*(terms.break_even(rate) for rate in rates)),
        chance,
        tuple(
            Regret(
                start,
                DeclineQuantiles(
                    *(value - terms.npv(start, rate) for value, rate in zip(values, rates, strict=True))
                ),
            )
            for start in (0.0, starts[1])
        ),
        (
            f"having the model is worth {value_usd_per_year:,.0f} USD a year, for {obsolete_in_years:g} years",
            f"money is discounted at {100 * discount_per_year:g} % a year",
            f"the decline is {rates[0]:.2f} to {rates[2]:.2f} a year in log, 5 to 95 %",
            "the cost follows the trend: fluctuations about it change the best start little",
        ),
    )


def _decision(chance: float, confidence: float, *, worthwhile: bool) -> WaitDecision:
    if not worthwhile:
        return "do not train"
    if chance >= confidence:
        return "wait"
    return "train now" if chance <= 1 - confidence else "cannot tell"
