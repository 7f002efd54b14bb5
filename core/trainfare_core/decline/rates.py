"""
Rates of change of a cost, stored as log-rates a year and shown as percentages.

mu is the drift of y = ln(cost) a year, below 0 where the cost falls. Log-rates add; percentages do not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from trainfare_core.decline.records import DeclineError

LN2 = math.log(2)


@dataclass(frozen=True, slots=True)
class LogRate:
    """
    A constant relative change of a cost.

    Attributes:
        log_per_year: mu, the change of ln(cost) a year; -1.204 is 70 % cheaper each year, above 0 is more expensive.
    """

    log_per_year: float

    def __post_init__(self) -> None:
        if not math.isfinite(self.log_per_year):
            raise DeclineError(f"rate: {self.log_per_year} a year is not a finite log-rate")

    @classmethod
    def from_decline(cls, decline: float) -> LogRate:
        """
        Take a yearly decline as a fraction: 0.7 falls by 70 % a year, -0.1 rises by 10 %. mu = ln(1 - d).

        Raises:
            DeclineError: a decline of 100 % or more.
        """
        if not decline < 1:
            raise DeclineError(f"decline: {decline} a year leaves nothing; give a fraction below 1")
        return cls(math.log1p(-decline))

    @classmethod
    def from_points(cls, year_0: float, cost_0: float, year_1: float, cost_1: float) -> LogRate:
        """
        Take the constant rate between two costs; d = 1 - (C1 / C0)^(1 / dt).

        Args:
            year_0: decimal year of `cost_0`.
            cost_0: any unit of money.
            year_1: decimal year of `cost_1`, another than `year_0`.
            cost_1: the same unit.

        Raises:
            DeclineError: a cost that is not above 0, or the same year twice.
        """
        if not (cost_0 > 0 and cost_1 > 0) or year_0 == year_1:
            raise DeclineError(f"two points: {cost_0} in {year_0} and {cost_1} in {year_1} give no rate")
        return cls(math.log(cost_1 / cost_0) / (year_1 - year_0))

    @property
    def decline(self) -> float:
        """Fraction by which the cost falls in a year, d = 1 - exp(mu); negative where it rises."""
        return -math.expm1(self.log_per_year)

    @property
    def factor(self) -> float:
        """Factor by which the cost falls in a year, f = exp(-mu); below 1 where it rises."""
        return math.exp(-self.log_per_year)

    def after(self, years: float) -> float:
        """Return cost after so many years as a fraction of the cost now, exp(mu t)."""
        return math.exp(self.log_per_year * years)


def compose(*rates: LogRate) -> LogRate:
    """Return the rate of a product of costs: log-rates add, so d = 1 - prod(1 - d_i)."""
    return LogRate(math.fsum(rate.log_per_year for rate in rates))
