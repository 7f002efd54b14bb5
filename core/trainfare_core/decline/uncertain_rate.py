"""
An uncertain rate of decline: equally likely values of lambda, each with normally distributed error; and Student's t
distribution, with the method names of `statistics.NormalDist`: the standard library has none.

For whole degrees of freedom the distribution function is a finite sum in the angle atan(x / sqrt(dof)) (Abramowitz &
Stegun 26.7.3 and 26.7.4). Accurate to about 1e-13, which the tests check against tabulated values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import mul
from statistics import NormalDist, fmean

from trainfare_core.decline.rates import LN2, LogRate
from trainfare_core.decline.records import DeclineError


@dataclass(frozen=True, slots=True)
class StudentT:
    """
    Student's t, centred on 0 with unit scale.

    Attributes:
        dof: degrees of freedom, a whole number above 0.

    Raises:
        DeclineError: dof is not above 0.
    """

    dof: int

    def __post_init__(self) -> None:
        if not self.dof > 0:
            raise DeclineError(f"degrees of freedom: {self.dof} is not above 0")

    def cdf(self, x: float) -> float:
        """Return P(T <= x)."""
        odd = self.dof % 2
        angle = math.atan(x / math.sqrt(self.dof))
        term, total = math.cos(angle) if odd else 1.0, 0.0
        for k in range(2 + odd, self.dof + 1, 2):
            total += term
            term *= math.cos(angle) ** 2 * (k - 1) / k
        central = math.sin(angle) * total
        return 0.5 + (angle + central) / math.pi if odd else 0.5 + central / 2

    def pdf(self, x: float) -> float:
        """Return the density at x."""
        dof = self.dof
        log_norm = math.lgamma((dof + 1) / 2) - math.lgamma(dof / 2) - 0.5 * math.log(dof * math.pi)
        return math.exp(log_norm - (dof + 1) / 2 * math.log1p(x * x / dof))

    def inv_cdf(self, p: float) -> float:
        """
        Return x with P(T <= x) = p, solved in the lower tail.

        Raises:
            DeclineError: p is not strictly between 0 and 1.
        """
        check_probability(p)
        if p == 0.5:
            return 0.0
        if p > 0.5:
            return -self.inv_cdf(1 - p)
        low, high = -1.0, 0.0
        while self.cdf(low) > p:
            low, high = 2 * low, low
        return solve(lambda x: (self.cdf(x), self.pdf(x)), p, low, high)


def solve(
    chance_and_density: Callable[[float], tuple[float, float]], p: float, low: float, high: float
) -> float:
    """Return x between `low` and `high` with a chance of p to be below it, by Newton steps kept inside a bracket."""
    x = (low + high) / 2
    while high - low > 1e-12 * max(1.0, abs(high)):
        chance, density = chance_and_density(x)
        excess = chance - p
        low, high = (low, x) if excess >= 0 else (x, high)
        step = excess / density if density > 0 else math.inf
        if abs(step) <= 1e-13 * max(1.0, abs(x)):
            return x - step
        x = x - step if low < x - step < high else (low + high) / 2
    return (low + high) / 2


def check_probability(p: float) -> None:
    """
    Refuse a number that is not strictly between 0 and 1.

    Raises:
        DeclineError: it is not.
    """
    if not 0 < p < 1:
        raise DeclineError(f"probability: {p} is not strictly between 0 and 1")


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
