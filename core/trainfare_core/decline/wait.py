"""
Train now or wait: the value of having the model sooner against an uncertain decline of the cost.

Gives the best start t* at the 5, 50 and 95 % quantiles of the decline, and the regret of each choice. The decision is
"cannot tell" where neither answer holds with the confidence asked for.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from trainfare_core.decline.rates import LogRate
from trainfare_core.decline.records import DeclineError, Finite, QuantileLine
from trainfare_core.decline.uncertain_rate import UncertainRate
from trainfare_core.decline.waiting_rules import Terms
from trainfare_core.documents import Answer, Record

WaitDecision: TypeAlias = Literal["train now", "wait", "cannot tell", "do not train"]


class NpvLine(Record):
    """Net present value of starting after some years, at the median decline."""

    start_in_years: Finite
    npv_usd: Finite


class RegretLine(Record):
    """Loss of a start against the best one."""

    start_in_years: Finite
    loss_usd: QuantileLine


class WaitAnswer(Answer):
    """Whether to train now or wait."""

    decision: WaitDecision
    """"train now" or "wait" where it holds with the confidence asked for; "do not train" where no start has a positive
    value at any of the three declines."""
    cost_usd: Finite
    value_usd_per_year: Finite
    decline_per_year: QuantileLine = Field(description="fraction a year")
    best_start_years: QuantileLine
    """t*, at most the last start that ends before the model is obsolete."""
    npv_now_usd: Finite
    npv_best_usd: QuantileLine
    """Of starting at t*."""
    npv_at: tuple[NpvLine, ...]
    """Of starting at fixed dates, at the median decline."""
    break_even_usd_per_year: QuantileLine
    """v at which it no longer pays to wait."""
    probability_waiting_is_right: Annotated[float, Field(ge=0, le=1)]
    """Probability, over the decline, that t* is above 0."""
    regrets: tuple[RegretLine, ...]
    """Of starting now and at t* of the median."""
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
) -> WaitAnswer:
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
        ValidationError: a result that is not finite.
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
    return WaitAnswer(
        decision=_decision(chance, confidence, worthwhile=max(values) > 0),
        cost_usd=cost_usd,
        value_usd_per_year=value_usd_per_year,
        decline_per_year=QuantileLine.of(tuple(LogRate(-rate).decline for rate in rates)),
        best_start_years=QuantileLine.of(starts),
        npv_now_usd=terms.npv(0.0, rates[1]),
        npv_best_usd=QuantileLine.of(values),
        npv_at=tuple(
            NpvLine(start_in_years=start, npv_usd=terms.npv(start, rates[1])) for start in fixed_dates_years
        ),
        break_even_usd_per_year=QuantileLine.of(tuple(terms.break_even(rate) for rate in rates)),
        probability_waiting_is_right=chance,
        regrets=tuple(
            RegretLine(
                start_in_years=start,
                loss_usd=QuantileLine.of(
                    tuple(value - terms.npv(start, rate) for value, rate in zip(values, rates, strict=True))
                ),
            )
            for start in (0.0, starts[1])
        ),
        assumptions=(
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
