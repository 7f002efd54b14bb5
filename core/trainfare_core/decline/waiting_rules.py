"""
Closed-form rules for when to start a run; `wait` combines the first with an uncertain decline.

C(t) = C0 exp(-lambda t); r is the discount rate, v the value of having the model, USD a year while it is in use, L the
length of the run, H the date at which it is obsolete. All times in years, all rates in log a year.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from trainfare_core.decline.records import DeclineError


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
