"""
Forecasting the past: how wrong the models were on series whose end is known.

For each series, each origin with m differences behind it and each horizon: fit, forecast, note the error. Errors of one
series overlap and depend on each other, so that bands come from `surrogates`, not from a square root of n.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, TypeAlias

from .errors import DeclineError, TooLittleDataError
from .forecast import RHO, THETA
from .moore import moore_variance
from .series import Series
from .special import t_quantile
from .wright import experience, exponent_and_noise, wright_variance

__all__ = ["Hindcast", "HindcastError", "Model", "hindcast", "walk_errors"]

Model: TypeAlias = Literal["moore", "wright"]


@dataclass(frozen=True, slots=True)
class HindcastError:
    """
    One forecast of the past.

    Attributes:
        series: name of the series.
        origin_year: last year the forecast knew.
        tau: steps ahead.
        log_error: ln(actual / forecast median); above 0: slower than forecast.
        noise: K (Moore) or s (Wright) of the fit.
        standard_error: noise times sqrt(variance); what the error is compared with.
        actual: the cost that came.
    """

    series: str
    origin_year: float
    tau: int
    log_error: float
    noise: float
    standard_error: float
    actual: float

    @property
    def predicted(self) -> float:
        """The median that was forecast, in the unit of the series."""
        return self.actual * math.exp(-self.log_error)


@dataclass(frozen=True, slots=True)
class Hindcast:
    """
    All forecasts of the past, pooled.

    Attributes:
        model: "moore" or "wright".
        m: differences each forecast knew.
        errors: one a forecast.
    """

    model: Model
    m: int
    errors: tuple[HindcastError, ...]

    def at(self, tau: int) -> Hindcast:
        """Return the forecasts so many steps ahead alone."""
        return Hindcast(self.model, self.m, tuple(each for each in self.errors if each.tau == tau))

    def of(self, names: Iterable[str]) -> Hindcast:
        """Return the forecasts of some series alone."""
        wanted = frozenset(names)
        return Hindcast(self.model, self.m, tuple(each for each in self.errors if each.series in wanted))

    def mean_square(self) -> float:
        """
        Return Xi, the mean of (error / noise)^2.

        Raises:
            TooLittleDataError: there is no forecast.
        """
        return self._mean([_ratio(each.log_error, each.noise) ** 2 for each in self.errors])

    def coverage(self, level: float, inflation: float = 1.0) -> float:
        """
        Return the share of forecasts whose Student t interval of this level held what came.

        Args:
            level: nominal coverage, e.g. 0.9.
            inflation: factor on the width of the interval.

        Raises:
            TooLittleDataError: there is no forecast.
        """
        bound = t_quantile((1 + level) / 2, self.m - 1) * inflation
        return self._mean(
            [float(abs(_ratio(each.log_error, each.standard_error)) <= bound) for each in self.errors]
        )

    def rmse_log(self) -> float:
        """
        Return the root mean square of the log error.

        Raises:
            TooLittleDataError: there is no forecast.
        """
        return math.sqrt(self._mean([each.log_error**2 for each in self.errors]))

    def share_slower(self) -> float:
        """
        Return the share of forecasts that came out dearer than forecast.

        Raises:
            TooLittleDataError: there is no forecast.
        """
        return self._mean([float(each.log_error > 0) for each in self.errors])

    def _mean(self, values: list[float]) -> float:
        if not values:
            msg = f"hindcast: no series is long enough for m = {self.m}"
            raise TooLittleDataError(msg)
        return math.fsum(values) / len(values)


def hindcast(
    series_set: Mapping[str, Series],
    m: int,
    taus: Sequence[int] = tuple(range(1, 21)),
    *,
    model: Model = "moore",
    moving_average: float | None = None,
) -> Hindcast:
    """
    Forecast every series from every origin, over every horizon.

    Args:
        series_set: series by name, evenly spaced; one that is too short adds nothing.
        m: differences each forecast knows, at least 2.
        taus: horizons in steps, at least 1 each.
        model: "moore", or "wright" with production known (so also beyond the origin: its intervals are conditional).
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
    maker = _moore_errors if model == "moore" else _wright_errors
    errors = [error for name, series in series_set.items() for error in maker(name, series, m, taus, average)]
    return Hindcast(model, m, tuple(errors))


def _moore_errors(
    name: str, series: Series, m: int, taus: Sequence[int], theta: float
) -> Iterable[HindcastError]:
    roots = {tau: math.sqrt(moore_variance(tau, m, theta)) for tau in taus}
    for origin, tau, error, k in walk_errors(series.logs, m, taus):
        yield HindcastError(
            name, series.times[origin], tau, error, k, k * roots[tau], series.costs[origin + tau]
        )


def walk_errors(
    logs: Sequence[float], m: int, taus: Sequence[int], note: Callable[[int, float], None] | None = None
) -> list[tuple[int, int, float, float]]:
    """
    Return origin, tau, error and K of every Moore-type forecast of one series of ln(cost), in unit steps.

    Args:
        logs: ln(cost).
        m: differences each forecast knows.
        taus: horizons.
        note: instead of collecting, is given tau and (error / K)^2; surrogates call this a million times.
    """
    changes = [later - earlier for earlier, later in pairwise(logs)]
    found: list[tuple[int, int, float, float]] = []
    for origin in range(m, len(logs) - 1):
        now = logs[origin]
        mu = (now - logs[origin - m]) / m
        k = math.sqrt(sum((change - mu) ** 2 for change in changes[origin - m : origin]) / (m - 1))
        for tau in taus:
            if origin + tau >= len(logs):
                continue
            error = logs[origin + tau] - now - mu * tau
            if note is None:
                found.append((origin, tau, error, k))
            else:
                note(tau, _ratio(error, k) ** 2)
    return found


def _wright_errors(
    name: str, series: Series, m: int, taus: Sequence[int], rho: float
) -> Iterable[HindcastError]:
    if series.production is None:
        msg = f"hindcast: {name} has no production, which Wright's law needs"
        raise DeclineError(msg)
    log_z = [math.log(value) for value in experience(series.production)]
    logs = series.logs
    for origin in range(m, len(logs) - 1):
        growth = [later - earlier for earlier, later in pairwise(log_z[origin - m : origin + 1])]
        change = [later - earlier for earlier, later in pairwise(logs[origin - m : origin + 1])]
        exponent, noise = exponent_and_noise(growth, change)
        for tau in taus:
            if origin + tau >= len(logs):
                continue
            ahead = log_z[origin + tau] - log_z[origin]
            error = logs[origin + tau] - logs[origin] - exponent * ahead
            wide = noise * math.sqrt(wright_variance(tau, ahead, growth, rho))
            yield HindcastError(
                name, series.times[origin], tau, error, noise, wide, series.costs[origin + tau]
            )


def _ratio(error: float, scale: float) -> float:
    if scale == 0:
        return 0.0 if error == 0 else math.inf
    return error / scale
