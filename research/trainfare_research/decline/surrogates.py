"""
Hindcast errors to expect if the model were true: simulate, refit, pool, many times.

The analytic Xi is biased at small m when theta is above 0, and the errors of one series overlap, so the model is judged
against simulated series of the same lengths, drifts and noise (Farmer & Lafond 2016, section 4).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from trainfare_core.decline import DeclineError, Series, fit_moore
from trainfare_research.decline.hindcast import Array, square_ratio, walk_errors


@dataclass(frozen=True, slots=True)
class SurrogateBand:
    """
    Xi at one horizon over many simulated data sets.

    Attributes:
        tau: steps ahead.
        mean: of Xi.
        low: 2.5 % quantile.
        high: 97.5 % quantile.
    """

    tau: int
    mean: float
    low: float
    high: float

    def holds(self, value: float) -> bool:
        """Return whether a measured Xi lies inside the 95 % band."""
        return self.low <= value <= self.high


def surrogate_bands(
    series_set: Mapping[str, Series], m: int, taus: Sequence[int], theta: float, *, runs: int, seed: int
) -> tuple[SurrogateBand, ...]:
    """
    Simulate IMA(1,1) series with the fitted mu, K and length of each series, hindcast them, and return the bands.

    Args:
        series_set: series by name, evenly spaced, at least 5 points each.
        m: differences that each forecast uses.
        taus: horizons in steps.
        theta: moving-average coefficient of the simulated noise, whose total variance is K^2.
        runs: data sets to simulate, at least 2.
        seed: the same seed gives the same bands.

    Raises:
        DeclineError: fewer than 2 runs.
    """
    if runs < 2:
        msg = f"surrogates: {runs} runs give no band; 2 at least"
        raise DeclineError(msg)
    random = np.random.default_rng(seed)
    sums = {tau: np.zeros(runs) for tau in taus}
    counts = dict.fromkeys(taus, 0)
    for series in series_set.values():
        fit = fit_moore(series)
        drift = fit.rate.log_per_year * (fit.step_years or 1.0)
        logs = _simulate_series(random, (runs, len(series.times)), drift, fit.k_per_sqrt_year, theta)
        for _, tau, error, k in walk_errors(logs, m, taus):
            sums[tau] += square_ratio(error, k)
            counts[tau] += 1
    means = {tau: sums[tau] / counts[tau] for tau in taus if counts[tau]}
    return tuple(
        SurrogateBand(tau, float(xi.mean()), *np.quantile(xi, (0.025, 0.975)).tolist())
        for tau, xi in means.items()
    )


def _simulate_series(
    random: np.random.Generator, shape: tuple[int, int], drift: float, k: float, theta: float
) -> Array:
    """Return ln(cost) of simulated series, shape (runs, points)."""
    noise = random.normal(0.0, k / np.sqrt(1 + theta * theta), shape)
    steps = drift + noise[:, 1:] + theta * noise[:, :-1]
    return np.concatenate([noise[:, :1], noise[:, :1] + np.cumsum(steps, axis=1)], axis=1)
