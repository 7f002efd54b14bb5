"""
Moore-type law: ln(cost) is a random walk with drift, optionally with moving-average noise.

Farmer & Lafond 2016, "How predictable is technological progress?", Research Policy 45, equations 2-19.
y_t = y_{t-1} + mu + n_t; the forecast y_t + mu tau is the median, and its error over K sqrt(A) follows Student's
t with m - 1 degrees of freedom. IMA(1,1): n_t = v_t + theta v_{t-1}.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from trainfare_core.decline.rates import LogRate
from trainfare_core.decline.records import DeclineError, TooLittleDataError
from trainfare_core.decline.series import Series
from trainfare_core.decline.uncertain_rate import StudentT

MIN_DIFFERENCES = 4
"""
With fewer differences K comes from `prior_k`: a standard deviation of three or fewer values is too uncertain.
Chosen.
"""


@dataclass(frozen=True, slots=True)
class MooreFit:
    """
    A fitted drift and its noise.

    Attributes:
        rate: mu a year.
        k_per_sqrt_year: K, the standard deviation of ln(cost) after one year, about the drift.
        k_is_prior: K came from `prior_k`, because the series has fewer than MIN_DIFFERENCES differences.
        m: number of differences fitted.
        span_years: T, from the first to the last point fitted.
        step_years: years between points where they are even, else None (then theta cannot be used).
        last_year: decimal year of the last point.
        last_cost: cost of the last point.
        kind: of the series: a fit to records tends to be too fast.
    """

    rate: LogRate
    k_per_sqrt_year: float
    k_is_prior: bool
    m: int
    span_years: float
    step_years: float | None
    last_year: float
    last_cost: float
    kind: str


def fit_moore(series: Series, m: int | None = None) -> MooreFit:
    """
    Fit the drift and the noise to the last m differences of a series.

    muhat = (y_m - y_0) / T; Khat^2 = sum((dy_i - muhat dt_i)^2 / dt_i) / (m - 1), which for even steps of one year
    is Farmer & Lafond's equation 6.

    Args:
        series: at least 2 points.
        m: differences to use; None is all of them, which has the smallest errors in backtests.

    Raises:
        TooLittleDataError: the series has fewer than m differences.
    """
    chosen = len(series.times) - 1 if m is None else m
    if not 1 <= chosen < len(series.times):
        msg = f"m: {chosen} differences requested of a series that has {len(series.times) - 1}"
        raise TooLittleDataError(msg)
    part = series.last(chosen + 1)
    mu, k = _drift_and_noise(part)
    prior = chosen < MIN_DIFFERENCES
    return MooreFit(
        LogRate(mu),
        prior_k(mu) if prior else k,
        prior,
        chosen,
        part.times[-1] - part.times[0],
        part.step_years,
        part.times[-1],
        part.costs[-1],
        series.kind,
    )


def prior_k(log_per_year: float) -> float:
    """
    Return the typical K for a drift: K = 0.02 + 0.76 |mu|, a regression over 53 technologies (Farmer & Lafond 2016,
    R^2 0.87).
    """
    return 0.02 + 0.76 * abs(log_per_year)


def moore_variance(tau: float, m: int, theta: float = 0.0) -> float:
    """
    Return the variance of the forecast error in units of K^2: A for theta = 0, else A* / (1 + theta^2).

    A = tau + tau^2 / m;  A* = -2 theta + (1 + 2 (m-1) theta / m + theta^2) (tau + tau^2 / m). Farmer & Lafond 2016,
    equations 9 and 17. tau counts the steps of the series; below one step, where the sum has no terms, the value of
    one step is scaled down in proportion.

    Raises:
        DeclineError: tau is negative, m < 1 or |theta| > 1.
    """
    if tau < 0 or m < 1 or abs(theta) > 1:
        msg = f"variance: tau {tau}, m {m}, theta {theta}; need tau >= 0, m >= 1 and |theta| <= 1"
        raise DeclineError(msg)
    if tau < 1:
        return tau * moore_variance(1.0, m, theta)
    spread = tau + tau * tau / m
    starred = -2 * theta + (1 + 2 * (m - 1) * theta / m + theta * theta) * spread
    return starred / (1 + theta * theta)


def log_variance(fit: MooreFit, tau_years: float, theta: float) -> float:
    """Return the variance of ln(cost) after `tau_years`; theta is used only where the steps are even."""
    if fit.step_years is None:
        return fit.k_per_sqrt_year**2 * (tau_years + tau_years**2 / fit.span_years)
    step = fit.step_years
    return fit.k_per_sqrt_year**2 * step * moore_variance(tau_years / step, fit.m, theta)


def improvement_p_value(series: Series) -> float:
    """
    Return the one-sided p value of "the mean yearly change of ln(cost) is not below 0" (t test on differences).

    Raises:
        TooLittleDataError: fewer than 3 points.
    """
    if len(series.times) < 3:
        msg = f"improvement: {len(series.times)} points give no standard deviation; 3 at least"
        raise TooLittleDataError(msg)
    mu, k = _drift_and_noise(series)
    if k == 0:
        return float(mu >= 0)
    span = series.times[-1] - series.times[0]
    return StudentT(len(series.times) - 2).cdf(mu * math.sqrt(span) / k)


def is_improving(series: Series, level: float = 0.10) -> bool:
    """Return whether the cost falls with p <= level; Farmer & Lafond analyse only such technologies."""
    return improvement_p_value(series) <= level


def _drift_and_noise(series: Series) -> tuple[float, float]:
    """Return mu and K of all differences of a series; two points have no noise."""
    logs, times = series.logs, series.times
    mu = (logs[-1] - logs[0]) / (times[-1] - times[0])
    squares = 0.0
    for (time, log), (later, log_later) in pairwise(zip(times, logs, strict=True)):
        squares += (log_later - log - mu * (later - time)) ** 2 / (later - time)
    return mu, math.sqrt(squares / max(1, len(logs) - 2))
