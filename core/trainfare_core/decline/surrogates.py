"""
What hindcast errors would look like if the model were true: simulate, refit, pool, many times.

The analytic Xi is biased at small m when theta is above 0, and the errors of one series overlap, so the model is judged
against simulated series of the same lengths, drifts and noise (Farmer & Lafond 2016, section 4).
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .errors import DeclineError
from .hindcast import walk_errors
from .moore import fit_moore
from .series import Series

__all__ = ["SurrogateBand", "surrogate_bands"]


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
        m: differences each forecast knows.
        taus: horizons in steps.
        theta: moving-average coefficient of the simulated noise, whose variance is K^2 in all.
        runs: data sets to simulate, at least 2.
        seed: same seed, same bands.

    Raises:
        DeclineError: fewer than 2 runs.
    """
    if runs < 2:
        msg = f"surrogates: {runs} runs give no band; 2 at least"
        raise DeclineError(msg)
    draw = random.Random(seed)  # noqa: S311 - statistics, not secrets
    shapes = [
        (len(series.times), fit.rate.log_per_year * (fit.step_years or 1.0), fit.k_per_sqrt_year)
        for series in series_set.values()
        for fit in (fit_moore(series),)
    ]
    pooled: dict[int, list[float]] = {tau: [] for tau in taus}
    for _ in range(runs):
        sums, counts = dict.fromkeys(taus, 0.0), dict.fromkeys(taus, 0)

        def note(
            tau: int, square: float, sums: dict[int, float] = sums, counts: dict[int, int] = counts
        ) -> None:
            sums[tau] += square
            counts[tau] += 1

        for points, mu, k in shapes:
            walk_errors(_simulated(draw, points, mu, k, theta), m, taus, note)
        for tau in taus:
            if counts[tau]:
                pooled[tau].append(sums[tau] / counts[tau])
    return tuple(_band(tau, sorted(values)) for tau, values in pooled.items() if values)


def _simulated(draw: random.Random, points: int, mu: float, k: float, theta: float) -> list[float]:
    sigma = k / math.sqrt(1 + theta * theta)
    value, before = 0.0, draw.gauss(0.0, sigma)
    logs = [value]
    for _ in range(points - 1):
        now = draw.gauss(0.0, sigma)
        value += mu + now + theta * before
        before = now
        logs.append(value)
    return logs


def _band(tau: int, values: list[float]) -> SurrogateBand:
    def quantile(p: float) -> float:
        place = p * (len(values) - 1)
        low = int(place)
        high = min(low + 1, len(values) - 1)
        return values[low] + (values[high] - values[low]) * (place - low)

    return SurrogateBand(tau, math.fsum(values) / len(values), quantile(0.025), quantile(0.975))
