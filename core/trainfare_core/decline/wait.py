"""
Train now or wait: the value of having the model sooner against an uncertain decline of the cost.

`wait` gives the best start t* at the 5, 50 and 95 % quantiles of the decline, and the regret of each choice. The
decision is "cannot tell" where neither answer holds with the confidence asked for. It combines the first of the
closed-form rules for when to start a run with an uncertain decline.

C(t) = C0 exp(-lambda t); r is the discount rate, v the value of having the model, USD a year while it is in use, L the
length of the run, H the date at which it is obsolete. All times in years, all rates in log a year.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from trainfare_core.decline.rates import LogRate
from trainfare_core.decline.records import DeclineError, Finite, QuantileLine
from trainfare_core.decline.uncertain_rate import UncertainRate
from trainfare_core.documents import Answer, Record


@dataclass(frozen=True, slots=True)
class Terms:
    """
    What a run costs now, what it is worth, and how money is discounted.

    Attributes:
        cost: C0, USD now.
        value_per_year: v, USD a year.
        discount: r.
        run_years: L.
        obsolete_years: H.

    Raises:
        DeclineError: a cost or discount that is not above 0, or a negative value or length.
    """

    cost: float
    value_per_year: float
    discount: float
    run_years: float = 0.0
    obsolete_years: float = math.inf

    def __post_init__(self) -> None:
        if not (self.cost > 0 and self.discount > 0 and self.value_per_year >= 0 and self.run_years >= 0):
            raise DeclineError(
                f"wait: cost {self.cost}, discount {self.discount} must be above 0; "
                f"value {self.value_per_year} a year and run of {self.run_years} years not below"
            )

    def best_start(self, decline: float) -> float:
        """
        Return t*, the best number of years to wait, from the value of having the model.

        The optimum of `npv`: v e^{-rL} = (lambda + r) C(t), so t* = max(0, ln[(lambda + r) C0 / (v e^{-rL})] /
        lambda); inf where having the model has no value. With lambda at or below 0 waiting saves at most interest, and
        t* is 0 or inf.
        """
        worth = self.value_per_year * math.exp(-self.discount * self.run_years)
        saved = (decline + self.discount) * self.cost
        if saved <= worth:
            return 0.0
        if worth == 0 or decline <= 0:
            return math.inf
        return math.log(saved / worth) / decline

    def npv(self, at_years: float, decline: float) -> float:
        """
        Return the net present value in USD of starting at a date.

        NPV(t) = (v/r)(e^{-r(t+L)} - e^{-rH}) - C0 e^{-(lambda+r) t}; the income is 0 where the run ends after H.
        """
        ready = at_years + self.run_years
        income = max(0.0, math.exp(-self.discount * ready) - math.exp(-self.discount * self.obsolete_years))
        spent = self.cost * math.exp(-(decline + self.discount) * at_years)
        return self.value_per_year / self.discount * income - spent

    def break_even(self, decline: float) -> float:
        """Return v above which waiting does not pay at all, USD a year: (lambda + r) C0 e^{rL}."""
        return (decline + self.discount) * self.cost * math.exp(self.discount * self.run_years)

    def break_even_after(self, wait_years: float, cost_then: float) -> float:
        """
        Return v at which starting now and starting after `wait_years` are worth the same, USD a year.

        NPV(0) = NPV(tau) gives v = r e^{rL} (C0 - C(tau) e^{-r tau}) / (1 - e^{-r tau}); for tau -> 0 that is
        `break_even`. Below 0: waiting costs money even where having the model sooner has no value.

        Raises:
            DeclineError: a wait or a cost that is not above 0.
        """
        if not (wait_years > 0 and cost_then > 0):
            msg = f"break-even: a wait of {wait_years} years to a cost of {cost_then}; both must be above 0"
            raise DeclineError(msg)
        saved = self.cost - cost_then * math.exp(-self.discount * wait_years)
        grown = self.discount * math.exp(self.discount * self.run_years)
        return grown * saved / -math.expm1(-self.discount * wait_years)


def compute_fixed_job_wait(job_years: float, growth: float) -> float:
    """
    Return the wait after which a fixed job at fixed yearly spend ends earliest: S* = ln(g W) / g, or 0.

    Gottbrath, Bailin, Meakin, Thompson & Charfman 1999, "The effects of Moore's law and slacking on large
    computations": wait only if the job takes longer than 1/g today.

    Args:
        job_years: W, length of the job on today's machines.
        growth: g, log growth of computing per dollar a year.

    Raises:
        DeclineError: either is not above 0.
    """
    if not (job_years > 0 and growth > 0):
        raise DeclineError(f"job of {job_years} years, growth {growth}: both must be above 0")
    return max(0.0, math.log(growth * job_years) / growth)


def longest_run(*growths: float) -> float:
    """
    Return the run length in years that achieves most by a deadline: L* = 1 / sum of growth rates.

    Sevilla, Besiroglu, Dudney & Ho 2022, "The longest training run": hardware, software and investment each grow.

    Raises:
        DeclineError: the growth rates do not add up to more than 0.
    """
    total = math.fsum(growths)
    if not total > 0:
        msg = "longest run: the growth rates do not add up to more than 0, so that no length is best"
        raise DeclineError(msg)
    return 1 / total


def start_of_lump(deadline_years: float, run_years: float) -> float:
    """
    Return the start of a run with a fixed budget and a deadline: the latest that still meets it.

    Raises:
        DeclineError: the run does not end by the deadline even if started now.
    """
    if run_years > deadline_years:
        raise DeclineError(f"deadline: in {deadline_years} years, the run takes {run_years}")
    return deadline_years - run_years


def option_exponent(log_drift: float, k_per_sqrt_year: float, discount: float) -> float:
    """
    Return b < 0 of the value (V - C*)(C / C*)^b of the option to start later.

    ln(cost) is a random walk with drift mu and volatility K: b = -2r / (sqrt(mu^2 + 2 r K^2) - mu), a form that is
    stable for K -> 0 when mu < 0 (perpetual option, McDonald & Siegel 1986).

    Raises:
        DeclineError: r is not above 0, K is negative, or K is 0 and the cost does not fall.
    """
    root = math.sqrt(log_drift**2 + 2 * discount * k_per_sqrt_year**2) if discount > 0 else 0.0
    if not (discount > 0 and k_per_sqrt_year >= 0 and root > log_drift):
        msg = f"option: drift {log_drift}, K {k_per_sqrt_year}, discount {discount} give no reason to wait"
        raise DeclineError(msg)
    return -2 * discount / (root - log_drift)


def option_trigger(benefit: float, log_drift: float, k_per_sqrt_year: float, discount: float) -> float:
    """
    Return the cost in USD at which to start: V |b| / (1 + |b|); for K = 0 that is V r / (r + lambda).

    Args:
        benefit: V, present value of having the model, USD, constant.
        log_drift: mu.
        k_per_sqrt_year: K.
        discount: r.

    Raises:
        DeclineError: see `option_exponent`.
    """
    b = abs(option_exponent(log_drift, k_per_sqrt_year, discount))
    return benefit * b / (1 + b)


def option_value(
    cost: float, benefit: float, log_drift: float, k_per_sqrt_year: float, discount: float
) -> float:
    """
    Return the present value of the option to start at the best moment, USD.

    Raises:
        DeclineError: see `option_exponent`.
    """
    trigger = option_trigger(benefit, log_drift, k_per_sqrt_year, discount)
    if cost <= trigger:
        return benefit - cost
    b = option_exponent(log_drift, k_per_sqrt_year, discount)
    return (benefit - trigger) * math.pow(cost / trigger, b)


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
