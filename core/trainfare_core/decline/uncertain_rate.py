"""A decline rate that is itself uncertain: equally likely values of lambda, each with a normal doubt about it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from .errors import DeclineError
from .rates import LN2, LogRate
from .special import normal_cdf, normal_density, normal_quantile

__all__ = ["ATOMS", "UncertainRate", "mixture_quantile"]

ATOMS = 201
"""Equally likely values a skewed distribution is kept as; odd, so that its median is one of them."""


@dataclass(frozen=True, slots=True)
class UncertainRate:
    """
    The distribution of lambda = -mu, the log-rate of decline a year; above 0 is cheaper, below 0 dearer.

    Attributes:
        centres: equally likely values, rising.
        std: standard deviation of the normal doubt about each of them.
    """

    centres: tuple[float, ...]
    std: float = 0.0

    @classmethod
    def certain(cls, rate: LogRate) -> UncertainRate:
        """Take one rate as known."""
        return cls((-rate.log_per_year,))

    @classmethod
    def normal(cls, mean: float, std: float) -> UncertainRate:
        """
        Take lambda as normally distributed.

        Raises:
            DeclineError: a negative standard deviation.
        """
        if not std >= 0:
            msg = f"rate: standard deviation {std} is negative"
            raise DeclineError(msg)
        return cls((mean,), std)

    @classmethod
    def halving(cls, months: float, low_months: float, high_months: float, level: float) -> UncertainRate:
        """
        Take the halving time as log-normal about a published median, as wide as its published interval.

        Args:
            months: the published value, taken as the median.
            low_months: lower end of the interval.
            high_months: upper end.
            level: what the interval covers, e.g. 0.9.

        Raises:
            DeclineError: not 0 < low < months < high, or a level that is no probability.
        """
        if not 0 < low_months < months < high_months:
            msg = f"halving time: {months} months is not inside {low_months} to {high_months}"
            raise DeclineError(msg)
        sigma = math.log(high_months / low_months) / (2 * normal_quantile((1 + level) / 2))
        return cls(
            tuple(
                12 * LN2 / months * math.exp(sigma * normal_quantile((i + 0.5) / ATOMS)) for i in range(ATOMS)
            )
        )

    def plus(self, other: UncertainRate) -> UncertainRate:
        """Return the sum of two independent rates (log-rates add), its centres thinned to ATOMS."""
        sums = sorted(one + two for one in self.centres for two in other.centres)
        if len(sums) > ATOMS:
            sums = [sums[int((i + 0.5) / ATOMS * len(sums))] for i in range(ATOMS)]
        return UncertainRate(tuple(sums), math.hypot(self.std, other.std))

    def quantile(self, p: float) -> float:
        """
        Return lambda below which the rate lies with chance p.

        Raises:
            DeclineError: p is not strictly between 0 and 1.
        """
        return mixture_quantile([(centre, self.std) for centre in self.centres], p)

    def chance_above(self, decline_log_per_year: float) -> float:
        """Return the chance that lambda is above a value."""
        if self.std == 0:
            return sum(centre > decline_log_per_year for centre in self.centres) / len(self.centres)
        return math.fsum(
            normal_cdf((centre - decline_log_per_year) / self.std) for centre in self.centres
        ) / len(self.centres)


def mixture_quantile(
    parts: list[tuple[float, float]],
    p: float,
    cdf: Callable[[float], float] = normal_cdf,
    density: Callable[[float], float] = normal_density,
    quantile: Callable[[float], float] = normal_quantile,
) -> float:
    """
    Return x with P(X <= x) = p for equally likely parts (centre, scale), by Newton steps kept inside a bracket.

    Args:
        parts: at least one; a scale of 0 is a certain value.
        p: strictly between 0 and 1.
        cdf: of the standard variable.
        density: of the standard variable.
        quantile: of the standard variable.

    Raises:
        DeclineError: p is not strictly between 0 and 1.
    """
    unit = quantile(p)
    ends = [centre + unit * scale for centre, scale in parts]
    low, high = min(ends), max(ends)
    x = (low + high) / 2
    while high - low > 1e-12 * max(1.0, abs(high)):
        below = slope = 0.0
        for centre, scale in parts:
            if scale > 0:
                z = (x - centre) / scale
                below += cdf(z)
                slope += density(z) / scale
            else:
                below += x >= centre
        excess = below / len(parts) - p
        low, high = (low, x) if excess >= 0 else (x, high)
        step = excess * len(parts) / slope if slope > 0 else math.inf
        if abs(step) <= 1e-13 * max(1.0, abs(x)):
            return x - step
        x = x - step if low < x - step < high else (low + high) / 2
    return (low + high) / 2
