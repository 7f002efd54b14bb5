"""`RunEnds`: when runs end and what they are billed until then, as a joint distribution."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np

from trainfare_core.arrays import Array, Column, Rows

CHANCES: Final = np.concatenate(
    [(0, 0.005, 0.01, 0.02, 0.03, 0.05), np.arange(3, 38) / 40, (0.95, 0.97, 0.98, 0.99, 0.995, 1)]
)
"""Chances whose hours are kept, denser at the ends. Chosen: 0.1, 0.5 and 0.9 are among them, and between two neighbours
the distribution changes by at most a fortieth."""

_SHARES: Final = np.diff(CHANCES)

_HALVINGS: Final = 12
"""Of the bracket of a quantile, before the line through its ends: the rest is below a ten-thousandth."""

find_normals = np.vectorize(NormalDist().inv_cdf, otypes=[np.float64])
"""Standard normal deviates of chances."""

_LEAST: Final = 1e-9
"""Standard deviation of a logarithm, or hours, that keep quotients finite where there is no doubt or no work."""


@dataclass(frozen=True, slots=True)
class RunEnds:
    """
    When n runs end: hours at `CHANCES`, and log-normal billed hours of the runs that end between two of them.

    Attributes:
        table: hours within which each run ends with each chance, and, from each chance to the next, mean and standard
            deviation of ln(billed hours); shape (n, 3, chances), of which the last chance has no next one.
    """

    table: Array

    @classmethod
    def of_scenarios(cls, total_s: Array, billed_s: Array) -> RunEnds:
        """Return the distribution of equally likely scenarios, both of shape (n, ..., scenarios)."""
        hours, billed_hours = (values.reshape(len(values), -1) / 3600 for values in (total_s, billed_s))
        scenarios = hours.shape[1]
        order = np.argsort(hours, axis=1)
        ordered = np.take_along_axis(hours, order, axis=1)
        log_billed = np.log(np.maximum(np.take_along_axis(billed_hours, order, axis=1), _LEAST))
        edge = np.rint(CHANCES * scenarios).astype(np.int64)
        count = np.diff(edge)
        table = np.zeros((len(hours), 3, len(CHANCES)))
        table[:, 0] = (ordered[:, np.maximum(edge - 1, 0)] + ordered[:, np.minimum(edge, scenarios - 1)]) / 2
        table[:, 1, :-1] = np.add.reduceat(log_billed, edge[:-1], axis=1) / count
        beside = (log_billed - np.repeat(table[:, 1, :-1], count, axis=1)) ** 2
        table[:, 2, :-1] = np.sqrt(np.add.reduceat(beside, edge[:-1], axis=1) / count)
        return cls(table)

    def select(self, rows: Rows) -> RunEnds:
        """Return some of the runs, of which one may be there several times."""
        return RunEnds(self.table[rows])

    def _sigma(self, price_log_sigma: Column) -> Array:
        return np.maximum(np.hypot(self.table[:, 2, :-1], price_log_sigma[:, None]), _LEAST)

    def find_hours(self, chance: float | Column) -> Column:
        """Return the hours within which each run ends with a probability, one for all or one each, shape (n,)."""
        below = np.minimum(np.searchsorted(CHANCES, chance, side="right") - 1, len(_SHARES) - 1)
        rows = np.arange(len(self.table))
        low, high = self.table[rows, 0, below], self.table[rows, 0, below + 1]
        return np.asarray(low + (high - low) * (chance - CHANCES[below]) / _SHARES[below])

    def find_billed_hours(self, chance: float | Column, price_log_sigma: Column) -> Column:
        """
        Return what the billed hours, times what the price may have moved, do not exceed with a probability.

        Args:
            chance: above 0 and below 1; one for all runs, or one each.
            price_log_sigma: standard deviation of ln(price), shape (n,).
        """
        sigma = self._sigma(price_log_sigma)
        # A quantile of a mixture lies between those of its parts.
        of_parts = self.table[:, 1, :-1] + np.reshape(find_normals(chance), (-1, 1)) * sigma
        low: Column = of_parts.min(axis=1)
        high: Column = of_parts.max(axis=1)
        for _ in range(_HALVINGS):
            middle: Column = (low + high) / 2
            enough = self._find_share_below(middle, sigma) >= chance
            low, high = np.where(enough, low, middle), np.where(enough, middle, high)
        below, above = self._find_share_below(low, sigma), self._find_share_below(high, sigma)
        part = np.clip((chance - below) / np.maximum(above - below, _LEAST), 0.0, 1.0)
        return np.asarray(np.exp(low + part * (high - low)))

    def find_chances(self, hours: Column, billed_hours: Column, price_log_sigma: Column) -> Column:
        """
        Return the chance that each run keeps both limits, shape (n,).

        Args:
            hours: until the deadline; inf: there is none.
            billed_hours: that the budget pays at the price seen; inf: there is none.
            price_log_sigma: standard deviation of ln(price).
        """
        low, width, limit = self.table[:, 0, :-1], np.diff(self.table[:, 0], axis=1), hours[:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.where(width > 0, np.clip((limit - low) / width, 0.0, 1.0), limit >= low)
            log_billed = np.log(billed_hours)
        return self._find_share_below(log_billed, self._sigma(price_log_sigma), share)

    def _find_share_below(self, log_limit: Column, sigma: Array, share: Array | float = 1.0) -> Column:
        z = (log_limit[:, None] - self.table[:, 1, :-1]) / sigma
        return np.asarray((_SHARES * share * _normal_cdf(z)).sum(axis=1))


def _normal_cdf(z: Array) -> Array:
    """Return the standard normal distribution function (Abramowitz and Stegun 26.2.17, error below 7.5e-8)."""
    t: Array = 1 / (1 + 0.2316419 * np.abs(z))
    tail: Array = t * (
        0.319381530 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429)))
    )
    with np.errstate(under="ignore", over="ignore"):
        tail = tail * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    upper: Array = 1.0 - tail
    return np.asarray(np.where(z > 0, upper, tail))
