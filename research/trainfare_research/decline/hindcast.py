"""
Forecasts of the past: how wrong the models were on series whose end is known.

For each series, each origin with m differences before it and each horizon: fit, forecast, note the error. Errors of one
series overlap and are correlated, so that confidence bands come from `surrogates`, not from a square root of n.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from trainfare_core.decline import (
    DeclineError,
    Series,
    TooLittleDataError,
    experience,
    moore_variance,
    wright_variance,
)
from trainfare_core.decline.forecast import RHO, THETA
from trainfare_core.decline.uncertain_rate import StudentT
from trainfare_core.decline.wright import exponent_and_noise

Array: TypeAlias = NDArray[np.float64]
HindcastModel: TypeAlias = Literal["moore", "wright"]


@dataclass(frozen=True, slots=True)
class HindcastError:
    """
    One forecast of the past.

    Attributes:
        series: name of the series.
        origin_year: last year that the forecast used.
        tau: steps ahead.
        log_error: ln(actual / forecast median); above 0: the cost fell more slowly than forecast.
        noise: K (Moore) or s (Wright) of the fit.
        standard_error: noise times sqrt(variance), the scale of the forecast's distribution.
        actual: the cost that was observed.
    """

    series: str
    origin_year: float
    tau: int
    log_error: float
    noise: float
    standard_error: float
    actual: float


@dataclass(frozen=True, slots=True)
class Hindcast:
    """
    All forecasts of the past, pooled.

    Attributes:
        m: differences that each forecast used.
        errors: one a forecast.
    """

    m: int
    errors: tuple[HindcastError, ...]

    def at(self, tau: int) -> Hindcast:
        """Return only the forecasts of one horizon, in steps."""
        return Hindcast(self.m, tuple(error for error in self.errors if error.tau == tau))

    def mean_square(self) -> float:
        """
        Return Xi, the mean of (error / noise)^2.

        Raises:
            TooLittleDataError: there is no forecast.
        """
        return float(square_ratio(self._column("log_error"), self._column("noise")).mean())

    def coverage(self, level: float, inflation: float = 1.0) -> float:
        """
        Return the share of forecasts whose Student t interval of this level contains the observed cost.

        Args:
            level: nominal coverage, e.g. 0.9.
            inflation: factor on the width of the interval.

        Raises:
            TooLittleDataError: there is no forecast.
        """
        bound = inflation * StudentT(self.m - 1).inv_cdf((1 + level) / 2)
        ratios = square_ratio(self._column("log_error"), self._column("standard_error"))
        return float((ratios <= bound**2).mean())

    def _column(self, name: str) -> Array:
        if not self.errors:
            msg = f"hindcast: no series is long enough for m = {self.m}"
            raise TooLittleDataError(msg)
        return np.array([getattr(error, name) for error in self.errors])


def hindcast(
    series_set: Mapping[str, Series],
    m: int,
    taus: Sequence[int] = tuple(range(1, 21)),
    *,
    model: HindcastModel = "moore",
    moving_average: float | None = None,
) -> Hindcast:
    """
    Forecast every series from every origin, over every horizon.

    Args:
        series_set: series by name, evenly spaced; one that is too short adds nothing.
        m: differences that each forecast uses, at least 2.
        taus: horizons in steps, at least 1 each.
        model: "moore", or "wright" with production known (also beyond the origin: its intervals are conditional).
        moving_average: theta or rho; None is 0.63 or 0.19.

    Raises:
        DeclineError: uneven steps; for Wright also no production, or production that did not grow.
        TooLittleDataError: m below 2.
    """
    if m < 2:
        msg = f"m: {m} differences give no noise; 2 at least"
        raise TooLittleDataError(msg)
    if any(series.step_years is None for series in series_set.values()):
        msg = "hindcast: the steps of a series are uneven; leave it out or bring it to even steps"
        raise DeclineError(msg)
    average = moving_average if moving_average is not None else (THETA if model == "moore" else RHO)
    errors_of = _moore_errors if model == "moore" else _wright_errors
    errors = [
        error for name, series in series_set.items() for error in errors_of(name, series, m, taus, average)
    ]
    return Hindcast(m, tuple(errors))


def _moore_errors(
    name: str, series: Series, m: int, taus: Sequence[int], theta: float
) -> Iterator[HindcastError]:
    roots = {tau: math.sqrt(moore_variance(tau, m, theta)) for tau in taus}
    for origin, tau, error, noise in walk_errors(np.array(series.logs), m, taus):
        k = float(noise)
        yield HindcastError(
            name, series.times[origin], tau, float(error), k, k * roots[tau], series.costs[origin + tau]
        )


def walk_errors(logs: Array, m: int, taus: Sequence[int]) -> Iterator[tuple[int, int, Array, Array]]:
    """
    Yield origin, tau, error and K of every Moore-type forecast, in unit steps.

    Args:
        logs: ln(cost), shape (..., n); error and K have the shape of the leading axes.
        m: differences that each forecast uses.
        taus: horizons.
    """
    points = logs.shape[-1]
    changes = np.diff(logs)
    for origin in range(m, points - 1):
        now = logs[..., origin]
        mu = (now - logs[..., origin - m]) / m
        k = np.sqrt(((changes[..., origin - m : origin] - mu[..., None]) ** 2).sum(axis=-1) / (m - 1))
        for tau in taus:
            if origin + tau < points:
                yield origin, tau, logs[..., origin + tau] - now - mu * tau, k


def _wright_errors(
    name: str, series: Series, m: int, taus: Sequence[int], rho: float
) -> Iterator[HindcastError]:
    if series.production is None:
        msg = f"hindcast: {name} has no production, which Wright's law needs"
        raise DeclineError(msg)
    log_z, logs = np.log(experience(series.production)), np.array(series.logs)
    for origin in range(m, len(logs) - 1):
        growth = np.diff(log_z[origin - m : origin + 1]).tolist()
        exponent, noise = exponent_and_noise(growth, np.diff(logs[origin - m : origin + 1]).tolist())
        for tau in taus:
            if origin + tau >= len(logs):
                continue
            ahead = float(log_z[origin + tau] - log_z[origin])
            error = float(logs[origin + tau] - logs[origin]) - exponent * ahead
            scale = noise * math.sqrt(wright_variance(tau, ahead, growth, rho))
            yield HindcastError(
                name, series.times[origin], tau, error, noise, scale, series.costs[origin + tau]
            )


def square_ratio(error: Array, scale: Array) -> Array:
    """Return (error / scale)^2; no error of a noiseless fit is 0, any other is infinite."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(error == 0, 0.0, (error / scale) ** 2)
