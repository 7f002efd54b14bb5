"""
Wright's law in first differences: ln(cost) falls with ln(cumulative production).

C = a Z^omega, learning rate LR = 1 - 2^omega (Wright 1936). First differences: Lafond et al. 2018, "How well do
experience curves predict technological progress?", Technological Forecasting & Social Change 128. The variance with
moving-average noise follows from propagating v_j + rho v_{j-1} through the regression, and equals the Moore-type one
for constant growth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from trainfare_core.decline.records import DeclineError, TooLittleDataError
from trainfare_core.decline.series import Series


@dataclass(frozen=True, slots=True)
class WrightFit:
    """
    A fitted experience exponent and its noise.

    Attributes:
        exponent: omega, d ln(cost) / d ln(cumulative production); below 0 where experience lowers the cost.
        noise_per_step: s, standard deviation of the yearly change of ln(cost) about omega d ln Z.
        growth: X, the fitted changes of ln Z, oldest first; length m.
        m: number of differences fitted.
        step_years: years between points.
        last_year: decimal year of the last point.
        last_cost: cost of the last point.
        last_experience: Z of the last point, in units of production.
    """

    exponent: float
    noise_per_step: float
    growth: tuple[float, ...]
    m: int
    step_years: float
    last_year: float
    last_cost: float
    last_experience: float

    @property
    def learning_rate(self) -> float:
        """LR = 1 - 2^omega, the fraction by which the cost falls with every doubling of cumulative production."""
        return 1 - math.pow(2, self.exponent)


def experience(production: Sequence[float], z0: Literal["growth"] | float = "growth") -> tuple[float, ...]:
    """
    Return cumulative production before each period, from the production of each.

    Z_0 = q_0 / g with g = (q_T / q_0)^(1 / (T-1)) - 1, the production before the first period if growth had always had
    its mean rate; Z_{t+1} = Z_t + q_t.

    Args:
        production: units in each of T periods, above 0.
        z0: "growth", or the cumulative production before the first period.

    Raises:
        DeclineError: "growth" where production did not grow, or a z0 that is not above 0.
        TooLittleDataError: fewer than 2 periods.
    """
    if len(production) < 2:
        raise TooLittleDataError(f"experience: {len(production)} periods; 2 at least")
    if z0 == "growth":
        growth = (production[-1] / production[0]) ** (1 / (len(production) - 1)) - 1
        start = production[0] / growth if growth > 0 else 0.0
    else:
        start = z0
    if not start > 0:
        msg = "experience: production did not grow, so that earlier production cannot be inferred; give z0"
        raise DeclineError(msg)
    total = [start]
    for amount in production[:-1]:
        total.append(total[-1] + amount)
    return tuple(total)


def fit_wright(series: Series, m: int | None = None, z0: Literal["growth"] | float = "growth") -> WrightFit:
    """
    Fit the exponent and the noise to the last m differences: omega = sum XY / sum X^2, X = d ln Z, Y = d ln C.

    Args:
        series: with production, evenly spaced.
        m: differences to use; None is all of them.
        z0: see `experience`; always inferred from the whole series.

    Raises:
        TooLittleDataError: fewer than m differences, or fewer than 2.
        DeclineError: no production, uneven steps, or production that did not grow.
    """
    if series.production is None or series.step_years is None:
        raise DeclineError("Wright's law needs production in every period, and periods of one length")
    chosen = len(series.times) - 1 if m is None else m
    if not 2 <= chosen < len(series.times):
        msg = f"m: {chosen} differences requested of a series that has {len(series.times) - 1}; 2 at least"
        raise TooLittleDataError(msg)
    before = experience(series.production, z0)
    log_z = [math.log(value) for value in before][-chosen - 1 :]
    growth = tuple(later - earlier for earlier, later in pairwise(log_z))
    change = [later - earlier for earlier, later in pairwise(series.logs[-chosen - 1 :])]
    exponent, noise = exponent_and_noise(growth, change)
    return WrightFit(
        exponent,
        noise,
        growth,
        chosen,
        series.step_years,
        series.times[-1],
        series.costs[-1],
        before[-1],
    )


def exponent_and_noise(growth: Sequence[float], change: Sequence[float]) -> tuple[float, float]:
    """Return omega and s of the regression through the origin."""
    exponent = math.fsum(x * y for x, y in zip(growth, change, strict=True)) / math.fsum(
        x * x for x in growth
    )
    left_over = math.fsum((y - exponent * x) ** 2 for x, y in zip(growth, change, strict=True))
    return exponent, math.sqrt(left_over / (len(growth) - 1))


def wright_variance(tau: float, log_growth: float, growth: Sequence[float], rho: float = 0.0) -> float:
    """
    Return the variance of the forecast error in units of s^2.

    With H_j = -D X_j / sum X^2: A_w = [rho^2 H_1^2 + sum_{j<m}(H_j + rho H_{j+1})^2 + (rho + H_m)^2
    + (tau-1)(1+rho)^2 + 1] / (1 + rho^2); for rho = 0 that is tau + D^2 / sum X^2.

    Args:
        tau: steps ahead; below one step the noise of one step is scaled down in proportion.
        log_growth: D = ln(Z_{t+tau} / Z_t).
        growth: X of the fit, oldest first.
        rho: moving-average coefficient.

    Raises:
        DeclineError: tau is negative or |rho| > 1.
    """
    if tau < 0 or abs(rho) > 1:
        raise DeclineError(f"variance: tau {tau}, rho {rho}; need tau >= 0 and |rho| <= 1")
    if tau < 1:
        return max(0.0, tau + wright_variance(1.0, log_growth, growth, rho) - 1)
    square = math.fsum(x * x for x in growth)
    h = [-log_growth * x / square for x in growth]
    total = rho**2 * h[0] ** 2 + math.fsum((a + rho * b) ** 2 for a, b in pairwise(h))
    total += (rho + h[-1]) ** 2 + (tau - 1) * (1 + rho) ** 2 + 1
    return total / (1 + rho**2)
