"""
Forecast of a cost as a distribution, with quantiles, intervals and probabilities.

The mean of exp(Student t) does not exist, so quantiles are given, and a mean only where K is taken as known.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist, fmean
from typing import Literal, NamedTuple, TypeAlias

from trainfare_core.decline.moore import MooreFit, log_variance
from trainfare_core.decline.records import Band, DeclineError
from trainfare_core.decline.uncertain_rate import STANDARD_NORMAL, StudentT, mixture_quantile
from trainfare_core.decline.wright import WrightFit, wright_variance

THETA = 0.63
"""Moving-average coefficient of Moore-type fits, estimated on 53 technologies (Farmer & Lafond 2016)."""
RHO = 0.19
"""Moving-average coefficient of first-difference Wright fits (Lafond et al. 2018)."""
MOORE_INFLATION = 1.2
"""
Factor on the width of Moore-type intervals. With theta 0.63 alone they cover 45/85/92 % at nominal 50/90/95 % of the 53
technologies; the factors that give nominal coverage are 1.13 to 1.22, and with 1.2 they cover 53/89/95 %.
"""
UNINFORMATIVE_FACTOR = 1e4
"""A 95 % interval whose ends differ by more than this factor is reported as uninformative. Chosen."""

Distribution: TypeAlias = Literal["t", "normal"]


class LogSpread(NamedTuple):
    """One equally likely component of a mixture: ln(cost) = centre + scale times a standard variable."""

    centre: float
    scale: float


@dataclass(frozen=True, slots=True)
class Basis:
    """
    Method and assumptions of a forecast.

    Attributes:
        law: "moore", "wright" or "priors".
        m: differences fitted; None where nothing was fitted.
        moving_average: theta (Moore) or rho (Wright) used; 0 where the steps are uneven.
        inflation: factor on the width of the error bars.
        k_from: "fit" or "prior".
        production: Wright only: "given" (the interval is conditional on it) or "forecast" (its uncertainty included).
        notes: limits of the forecast, in sentences.
    """

    law: Literal["moore", "wright", "priors"]
    m: int | None
    moving_average: float
    inflation: float
    k_from: Literal["fit", "prior"]
    production: Literal["given", "forecast"] | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Forecast:
    """
    The distribution of a cost at one date.

    Attributes:
        year: decimal year.
        parts: equally likely distributions of ln(cost), at least one.
        dof: degrees of freedom of Student's t; None is normal.
        basis: method and assumptions.
    """

    year: float
    parts: tuple[LogSpread, ...]
    dof: int | None
    basis: Basis

    @property
    def median(self) -> float:
        """Median cost."""
        return self.quantile(0.5)

    def quantile(self, p: float) -> float:
        """
        Return the p-quantile of the cost, 0 < p < 1.

        Raises:
            DeclineError: p is not strictly between 0 and 1.
        """
        return math.exp(mixture_quantile(self.parts, p, self._unit))

    def interval(self, level: float) -> Band:
        """
        Return the central interval that contains the cost with probability `level`, e.g. 0.9.

        Raises:
            DeclineError: level is not strictly between 0 and 1.
        """
        return Band(low=self.quantile((1 - level) / 2), high=self.quantile((1 + level) / 2))

    def prob_below(self, cost: float) -> float:
        """
        Return the probability that the cost is at most `cost`.

        Raises:
            DeclineError: a cost that is not above 0.
        """
        if not cost > 0:
            raise DeclineError(f"cost: {cost} is not above 0")
        z = math.log(cost)
        return fmean(
            self._unit.cdf((z - part.centre) / part.scale) if part.scale > 0 else float(z >= part.centre)
            for part in self.parts
        )

    @property
    def informative(self) -> bool:
        """Whether the 95 % interval spans less than UNINFORMATIVE_FACTOR."""
        bounds = self.interval(0.95)
        return bounds.high < bounds.low * UNINFORMATIVE_FACTOR

    @property
    def _unit(self) -> NormalDist | StudentT:
        return STANDARD_NORMAL if self.dof is None else StudentT(self.dof)


def forecast(
    fit: MooreFit | WrightFit,
    year: float,
    *,
    theta: float = THETA,
    rho: float = RHO,
    inflation: float | None = None,
    dist: Distribution = "t",
    experience_then: float | None = None,
) -> Forecast:
    """
    Extrapolate a fit to a later date.

    Args:
        fit: result of `fit_moore` or `fit_wright`.
        year: decimal year after the last point.
        theta: moving-average coefficient for Moore-type fits with even steps.
        rho: the same for Wright.
        inflation: factor on the width of the error bars; None is 1.2 for Moore and 1.0 for Wright, from the backtest.
        dist: "t" with m - 1 degrees of freedom; "normal" takes K as known. A K from the prior is always "normal".
        experience_then: Wright only: cumulative production Z at that date. None forecasts it too, as a random walk
            with its own growth, and its uncertainty widens the interval.

    Raises:
        DeclineError: a year that is not after the last point, or an experience that is not above the last.
    """
    if not year > fit.last_year:
        raise DeclineError(f"year: {year} is not after the last point, {fit.last_year}")
    if isinstance(fit, MooreFit):
        return _moore(fit, year, theta, MOORE_INFLATION if inflation is None else inflation, dist)
    return _wright(fit, year, rho, 1.0 if inflation is None else inflation, dist, experience_then)


def _moore(fit: MooreFit, year: float, theta: float, inflation: float, dist: Distribution) -> Forecast:
    tau = year - fit.last_year
    used = theta if fit.step_years is not None else 0.0
    centre = math.log(fit.last_cost) + fit.rate.log_per_year * tau
    scale = inflation * math.sqrt(log_variance(fit, tau, used))
    dof = fit.m - 1 if dist == "t" and not fit.k_is_prior else None
    notes: list[str] = []
    if fit.k_is_prior:
        notes.append(f"only {fit.m} differences: K is the prior 0.02 + 0.76 |mu|, taken as known")
    if fit.step_years is None:
        notes.append("the times are uneven: theta is not used")
    if fit.kind == "record":
        notes.append("fitted to records: in 73 % of such backtests the cost fell more slowly than forecast")
    basis = Basis("moore", fit.m, used, inflation, "prior" if fit.k_is_prior else "fit", None, tuple(notes))
    return Forecast(year, (LogSpread(centre, scale),), dof, basis)


def _wright(
    fit: WrightFit, year: float, rho: float, inflation: float, dist: Distribution, then: float | None
) -> Forecast:
    tau = (year - fit.last_year) / fit.step_years
    production: Literal["given", "forecast"]
    if then is None:
        growths, production = _growth_draws(fit, tau), "forecast"
    elif then > fit.last_experience:
        growths, production = (math.log(then / fit.last_experience),), "given"
    else:
        raise DeclineError(f"experience: {then} is not above the last, {fit.last_experience}")
    parts = tuple(
        LogSpread(
            math.log(fit.last_cost) + fit.exponent * growth,
            inflation * fit.noise_per_step * math.sqrt(wright_variance(tau, growth, fit.growth, rho)),
        )
        for growth in growths
    )
    note = (
        "conditional on the production given, whose uncertainty is not included"
        if production == "given"
        else "production is forecast from its own growth, and its uncertainty is included"
    )
    basis = Basis("wright", fit.m, rho, inflation, "fit", production, (note,))
    return Forecast(year, parts, fit.m - 1 if dist == "t" else None, basis)


def _growth_draws(fit: WrightFit, tau: float, draws: int = 41) -> tuple[float, ...]:
    """Return equally likely ln(Z_{t+tau} / Z_t) from the random walk of the fitted growth; Z cannot shrink."""
    mean = math.fsum(fit.growth) / fit.m
    std = math.sqrt(math.fsum((x - mean) ** 2 for x in fit.growth) / (fit.m - 1))
    wide = std * math.sqrt(tau + tau * tau / fit.m)
    return tuple(
        max(0.0, mean * tau + wide * STANDARD_NORMAL.inv_cdf((i + 0.5) / draws)) for i in range(draws)
    )
