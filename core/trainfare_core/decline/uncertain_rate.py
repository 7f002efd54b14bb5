"""An uncertain rate of decline: equally likely values of lambda, each with normally distributed error."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from operator import mul
from statistics import NormalDist, fmean

from trainfare_core.decline.rates import LN2, LogRate
from trainfare_core.decline.records import DeclineError
from trainfare_core.decline.student_t import StudentT, check_probability, solve

ATOMS = 201
"""
Equally likely values that stand for a skewed distribution; odd, so that its median is one of them. Each value stands
for half a percent of probability; more would cost time in proportion (a mixture's quantile sums over all of them).
"""
STANDARD_NORMAL = NormalDist()
_SQRT_HALF = math.sqrt(0.5)
_LOG_SQRT_2_PI = 0.5 * math.log(2 * math.pi)


@dataclass(frozen=True, slots=True)
class UncertainRate:
    """
    The distribution of lambda = -mu, the log-rate of decline a year; above 0 is cheaper, below 0 more expensive.

    Attributes:
        centres: equally likely values, rising.
        std: standard deviation of the normal error about each of them.
    """

    centres: tuple[float, ...]
    std: float = 0.0

    @classmethod
    def certain(cls, rate: LogRate) -> UncertainRate:
        """Take one rate as known exactly."""
        return cls((-rate.log_per_year,))

    @classmethod
    def normal(cls, mean: float, std: float) -> UncertainRate:
        """
        Take lambda as normally distributed.

        Raises:
            DeclineError: a negative standard deviation.
        """
        if not std >= 0:
            raise DeclineError(f"rate: standard deviation {std} is negative")
        return cls((mean,), std)

    @classmethod
    def halving(cls, months: float, low_months: float, high_months: float, level: float) -> UncertainRate:
        """
        Take the halving time as log-normal about a published median, as wide as its published interval.

        Args:
            months: the published value, taken as the median.
            low_months: lower end of the interval.
            high_months: upper end.
            level: probability that the interval covers, e.g. 0.9.

        Raises:
            DeclineError: not 0 < low < months < high, or a level that is no probability.
        """
        if not 0 < low_months < months < high_months:
            raise DeclineError(f"halving time: {months} months is not inside {low_months} to {high_months}")
        check_probability(level)
        sigma = math.log(high_months / low_months) / (2 * STANDARD_NORMAL.inv_cdf((1 + level) / 2))
        at = (STANDARD_NORMAL.inv_cdf((i + 0.5) / ATOMS) for i in range(ATOMS))
        return cls(tuple(12 * LN2 / months * math.exp(sigma * z) for z in at))

    def plus(self, other: UncertainRate) -> UncertainRate:
        """Return the sum of two independent rates (log-rates add), its centres thinned to ATOMS."""
        sums = sorted(centre + two for centre in self.centres for two in other.centres)
        if len(sums) > ATOMS:
            sums = [sums[int((i + 0.5) / ATOMS * len(sums))] for i in range(ATOMS)]
        return UncertainRate(tuple(sums), math.hypot(self.std, other.std))

    def quantile(self, p: float) -> float:
        """
        Return the lambda below which the rate lies with probability p.

        Raises:
            DeclineError: p is not strictly between 0 and 1.
        """
        return mixture_quantile([(centre, self.std) for centre in self.centres], p)

    def chance_above(self, decline_log_per_year: float) -> float:
        """Return the probability that lambda is above a value."""
        if self.std == 0:
            return fmean(centre > decline_log_per_year for centre in self.centres)
        return fmean(
            STANDARD_NORMAL.cdf((centre - decline_log_per_year) / self.std) for centre in self.centres
        )


def mixture_quantile(
    parts: Sequence[tuple[float, float]], p: float, unit: NormalDist | StudentT = STANDARD_NORMAL
) -> float:
    """
    Return x with P(X <= x) = p for equally likely parts (centre, scale).

    Args:
        parts: at least one; a scale of 0 is a certain value.
        p: strictly between 0 and 1.
        unit: distribution of (X - centre) / scale in every part, with centre 0 and scale 1.

    Raises:
        DeclineError: p is not strictly between 0 and 1.
    """
    check_probability(p)
    if not any(scale for _, scale in parts):
        # The slack keeps p = k / n on the k-th value: p * n may come out a rounding error above k.
        return sorted(centre for centre, _ in parts)[math.ceil(p * len(parts) - 1e-9) - 1]
    z_at_p = unit.inv_cdf(p)
    quantiles = [centre + z_at_p * scale for centre, scale in parts]
    centres = [centre for centre, scale in parts if scale > 0]
    inverses = [1 / scale for _, scale in parts if scale > 0]
    certain = [centre for centre, scale in parts if scale == 0]

    def chance_and_density(x: float) -> tuple[float, float]:
        zs = [(x - centre) * inverse for centre, inverse in zip(centres, inverses, strict=True)]
        chances, densities = (
            _compute_normal(zs) if unit is STANDARD_NORMAL else (map(unit.cdf, zs), map(unit.pdf, zs))
        )
        below = sum(chances) + sum(x >= centre for centre in certain)
        return below / len(parts), sum(map(mul, densities, inverses)) / len(parts)

    return solve(chance_and_density, p, min(quantiles), max(quantiles))


def _compute_normal(zs: list[float]) -> tuple[list[float], list[float]]:
    """Return P(Z <= z) and the density at every z, standard normal; `NormalDist` does one at a time, 4 x slower."""
    chances = [0.5 + 0.5 * value for value in map(math.erf, [z * _SQRT_HALF for z in zs])]
    return chances, list(map(math.exp, [-0.5 * z * z - _LOG_SQRT_2_PI for z in zs]))
