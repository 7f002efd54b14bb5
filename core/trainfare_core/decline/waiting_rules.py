"""
Closed-form rules for when to start a run; `wait` combines the first with an uncertain decline.

C(t) = C0 exp(-lambda t); r is the discount rate, v the value of having the model, USD a year while it is in use, L the
length of the run, H the date at which it is obsolete. All times in years, all rates in log a year.
"""

from __future__ import annotations

import math

from .errors import DeclineError

__all__ = [
    "break_even_value",
    "break_even_value_at",
    "fixed_job_wait",
    "longest_run",
    "npv_of_starting",
    "option_exponent",
    "option_trigger",
    "option_value",
    "start_of_lump",
    "value_optimum",
]


def value_optimum(
    cost: float, decline: float, value_per_year: float, discount: float, run_years: float
) -> float:
    """
    Return t*, the best number of years to wait, from the value of having the model.

    The optimum of `npv_of_starting`: v e^{-rL} = (lambda + r) C(t), so t* = max(0, ln[(lambda + r) C0 / (v e^{-rL})] /
    lambda); inf where having the model has no value.

    Args:
        cost: C0, USD now.
        decline: lambda; at or below 0 waiting saves at most interest, and t* is 0 or inf.
        value_per_year: v, USD a year, not negative.
        discount: r, above 0.
        run_years: L.

    Raises:
        DeclineError: a cost or discount that is not above 0, or a negative value or length.
    """
    _check(cost, value_per_year, discount, run_years)
    worth = value_per_year * math.exp(-discount * run_years)
    saved = (decline + discount) * cost
    if saved <= worth:
        return 0.0
    if worth == 0 or decline <= 0:
        return math.inf
    return math.log(saved / worth) / decline


def npv_of_starting(
    at_years: float,
    *,
    cost: float,
    decline: float,
    value_per_year: float,
    discount: float,
    run_years: float,
    obsolete_years: float,
) -> float:
    """
    Return the net present value in USD of starting at a date.

    NPV(t) = (v/r)(e^{-r(t+L)} - e^{-rH}) - C0 e^{-(lambda+r) t}; the income is 0 where the run ends after H.

    Raises:
        DeclineError: see `value_optimum`.
    """
    _check(cost, value_per_year, discount, run_years)
    ready = at_years + run_years
    income = max(0.0, math.exp(-discount * ready) - math.exp(-discount * obsolete_years))
    return value_per_year / discount * income - cost * math.exp(-(decline + discount) * at_years)


def break_even_value(cost: float, decline: float, discount: float, run_years: float = 0.0) -> float:
    """
    Return v above which waiting does not pay at all, USD a year: (lambda + r) C0 e^{rL}.

    Raises:
        DeclineError: see `value_optimum`.
    """
    _check(cost, 0.0, discount, run_years)
    return (decline + discount) * cost * math.exp(discount * run_years)


def break_even_value_at(
    cost: float, cost_then: float, wait_years: float, discount: float, run_years: float = 0.0
) -> float:
    """
    Return v at which starting now and starting after `wait_years` are worth the same, USD a year.

    NPV(0) = NPV(tau) gives v = r e^{rL} (C0 - C(tau) e^{-r tau}) / (1 - e^{-r tau}); for tau -> 0 that is
    `break_even_value`. Below 0: waiting costs money even where having the model sooner has no value.

    Raises:
        DeclineError: a wait that is not above 0, or see `value_optimum`.
    """
    _check(cost, 0.0, discount, run_years)
    if not (wait_years > 0 and cost_then > 0):
        msg = f"break-even: a wait of {wait_years} years to a cost of {cost_then}; both must be above 0"
        raise DeclineError(msg)
    saved = cost - cost_then * math.exp(-discount * wait_years)
    return discount * math.exp(discount * run_years) * saved / -math.expm1(-discount * wait_years)


def fixed_job_wait(job_years: float, growth: float) -> float:
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
        msg = f"job of {job_years} years, growth {growth}: both must be above 0"
        raise DeclineError(msg)
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
        msg = f"deadline: in {deadline_years} years, the run takes {run_years}"
        raise DeclineError(msg)
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


def _check(cost: float, value_per_year: float, discount: float, run_years: float) -> None:
    if not (cost > 0 and discount > 0 and value_per_year >= 0 and run_years >= 0):
        msg = (
            f"wait: cost {cost}, discount {discount} must be above 0; "
            f"value {value_per_year} a year and run of {run_years} years not below"
        )
        raise DeclineError(msg)
