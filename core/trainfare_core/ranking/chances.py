"""
Chances that a run keeps its budget and its deadline (part of stage 6).

Hours H and the price P are independent and log-normal, and dollars are H x P. A price that does not move leaves one
uncertain quantity, and the tighter limit alone decides.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Final

import numpy as np

__all__ = ["probability", "probability_of_both"]

_NORMAL: Final = NormalDist()
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(40)
"""Of Gauss-Legendre quadrature over sixteen standard deviations: 40 nodes give a chance to 1e-6."""
_CERTAIN: Final = 1e-9
"""Standard deviation of a logarithm up to which a quantity is certain: below the last digit of any figure here."""
_FARTHEST: Final = 8.0
"""Standard deviations beyond which a normal distribution holds less than 1e-15."""


def probability(limit: float, median: float, log_sigma: float) -> float:
    """Chance that a log-normal quantity is at most `limit`; all in the same unit."""
    if limit <= 0:
        return 0.0
    if math.isinf(limit) or median <= 0:
        return 1.0
    return _below(math.log(limit / median), log_sigma)


def probability_of_both(
    hours_margin: float, usd_margin: float, hours_sigma: float, price_sigma: float
) -> float:
    """
    Chance that hours and dollars both stay within their limits.

    Args:
        hours_margin: ln(deadline / median hours); inf where there is no deadline.
        usd_margin: ln(budget / median dollars); inf where there is no budget.
        hours_sigma: standard deviation of ln(hours).
        price_sigma: standard deviation of ln(price).
    """
    if price_sigma <= _CERTAIN:
        return _below(min(hours_margin, usd_margin), hours_sigma)
    if math.isinf(hours_margin):
        return _below(usd_margin, math.hypot(hours_sigma, price_sigma))
    if math.isinf(usd_margin):
        return _below(hours_margin, hours_sigma)
    # Integrate over the surer of the two, so that the chance of the other is a smooth function of it.
    if price_sigma >= hours_sigma:
        latest = min(hours_margin / hours_sigma, _FARTHEST) if hours_sigma > _CERTAIN else _FARTHEST
        if hours_sigma <= _CERTAIN and hours_margin < 0:
            return 0.0
        return _mean_below(usd_margin, hours_sigma, price_sigma, -_FARTHEST, latest)
    # Below this deviation of the price the deadline is the tighter limit, above it the budget.
    turn = min(max((usd_margin - hours_margin) / price_sigma, -_FARTHEST), _FARTHEST)
    in_time = _NORMAL.cdf(turn) * _below(hours_margin, hours_sigma)
    return in_time + _mean_below(usd_margin, price_sigma, hours_sigma, turn, _FARTHEST)


def _mean_below(margin: float, slope: float, log_sigma: float, low: float, high: float) -> float:
    """Integrate, over a standard normal x from low to high, the chance that a deviate is at most margin - slope x."""
    if high <= low:
        return 0.0
    half = (high - low) / 2
    points = zip((low + half * (1 + _NODES)).tolist(), (half * _WEIGHTS).tolist(), strict=True)
    total = sum(weight * _NORMAL.pdf(x) * _below(margin - slope * x, log_sigma) for x, weight in points)
    return min(1.0, float(total))


def _below(margin: float, log_sigma: float) -> float:
    """Chance that a normal deviate of mean 0 is at most `margin`."""
    if math.isinf(margin):
        return 1.0 if margin > 0 else 0.0
    if log_sigma <= _CERTAIN:
        return 1.0 if margin >= 0 else 0.0
    return _NORMAL.cdf(margin / log_sigma)
