"""
The other laws that have been proposed, as regressions on levels, for comparison.

Nagy, Farmer, Bui & Trancik 2013, "Statistical basis for predicting technological progress", PLoS ONE 8(2), with 62
technologies: Wright best, Moore close. Trend-stationary fits such as these lose to the difference-stationary ones of
`trainfare_core.decline` when they forecast (Farmer & Lafond 2016), and give no usable interval.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from trainfare_core.decline import DeclineError, Series, TooLittleDataError, experience

Array: TypeAlias = NDArray[np.float64]

Law: TypeAlias = Literal["moore", "wright", "lagged_wright", "goddard", "sinclair_klepper_cohen", "nordhaus"]
Term: TypeAlias = Literal["time", "production", "cumulative", "cumulative_before"]

LAWS: Final[dict[Law, tuple[Term, ...]]] = {
    "moore": ("time",),
    "wright": ("cumulative",),
    "lagged_wright": ("cumulative_before",),
    "goddard": ("production",),
    "sinclair_klepper_cohen": ("production", "cumulative"),
    "nordhaus": ("time", "cumulative"),
}
"""What each law explains ln(cost) by, besides a constant: time in years, or the ln of an amount."""


@dataclass(frozen=True, slots=True)
class LawFit:
    """
    A law fitted to levels.

    Attributes:
        law: its name.
        constant: b.
        coefficients: one a term of `LAWS[law]`: a year for time, an exponent for amounts.
        residual_std: of ln(cost).
    """

    law: Law
    constant: float
    coefficients: tuple[float, ...]
    residual_std: float

    def cost(self, year: float, production: float = 1.0, cumulative_before: float = 1.0) -> float:
        """
        Return the fitted cost.

        Args:
            year: decimal year.
            production: units made in that period, where the law uses it.
            cumulative_before: units made before that period, where the law uses it.
        """
        terms = _terms(self.law, year, production, cumulative_before)
        return math.exp(
            self.constant + math.fsum(a * b for a, b in zip(self.coefficients, terms, strict=True))
        )


def fit_law(series: Series, law: Law, z0: Literal["growth"] | float = "growth") -> LawFit:
    """
    Fit one law to the levels of a series, by least squares on ln(cost).

    Args:
        series: with production, unless the law is "moore".
        law: a name in `LAWS`.
        z0: see `experience`.

    Raises:
        DeclineError: no production, production that did not grow, or terms that depend on each other.
        TooLittleDataError: no more points than coefficients.
    """
    if series.production is None and law != "moore":
        msg = f"{law} needs production in every period"
        raise DeclineError(msg)
    production = series.production or (1.0,) * len(series.times)
    before = experience(production, z0) if law != "moore" else production
    rows = [_terms(law, *point) for point in zip(series.times, production, before, strict=True)]
    constant, *slopes = _least_squares(np.column_stack([np.ones(len(rows)), rows]), np.array(series.logs))
    residuals = np.array(series.logs) - constant - np.array(rows) @ slopes
    return LawFit(
        law, constant, tuple(slopes), float(np.sqrt(residuals @ residuals / (len(rows) - 1 - len(slopes))))
    )


def _least_squares(columns: Array, target: Array) -> list[float]:
    """Return the coefficients of the columns, shape (n, p)."""
    n, p = columns.shape
    if n <= p:
        msg = f"least squares: {n} points for {p} coefficients"
        raise TooLittleDataError(msg)
    # Scaled to length 1, so that the test for dependent columns does not depend on units.
    lengths = np.linalg.norm(columns, axis=0)
    lengths[lengths == 0] = 1.0
    coefficients, _, rank, _ = np.linalg.lstsq(columns / lengths, target, rcond=1e-9)
    if rank < p:
        msg = "least squares: the columns are linearly dependent, so that no coefficient is determined"
        raise DeclineError(msg)
    return [float(value) for value in coefficients / lengths]


def _terms(law: Law, year: float, production: float, before: float) -> tuple[float, ...]:
    values: dict[Term, float] = {
        "time": year - 2000,
        "production": math.log(production),
        "cumulative": math.log(before + production),
        "cumulative_before": math.log(before),
    }
    return tuple(values[term] for term in LAWS[law])
