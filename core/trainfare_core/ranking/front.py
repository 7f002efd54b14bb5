"""
The Pareto front of expected dollars, hours and the chance to keep the limits (part of stage 6).

An option is on the front unless another one is at least as good in all three of its mean dollars, the hours within
which nine of ten such runs end, and the chance to keep budget and deadline, and better in one. Without a limit the
first two decide. A machine that needs porting does not push off the front one that runs the script unchanged (a
"drop-in"), because the work of porting is not in the dollars. It is itself compared with all options.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from trainfare_core.arrays import Column, Flags
from trainfare_core.ranking.entries import Entries
from trainfare_core.ranking.pricing.chances import find_hours
from trainfare_core.ranking.pricing.limits import Limits
from trainfare_core.ranking.pricing.priced_runs import PricedRuns

CHANCE_DIGITS: Final = 3
"""Chances that agree in so many digits are the same: a prediction does not know the next one. A chosen value."""


def on_front(priced: PricedRuns, limits: Limits, entries: Entries) -> Flags:
    """Mark the entries on the front, shape (k,)."""
    late_hours = find_hours(priced.runs, entries.run, 0.9)
    expected_usd = priced.compute_expected_usd(entries.run, entries.usd_per_hour, entries.price_log_sigma)
    chances = priced.compute_chances(entries.run, entries.usd_per_hour, entries.price_log_sigma, limits.asked)
    return _apart_from_porting(priced, entries, expected_usd, late_hours, -np.round(chances, CHANCE_DIGITS))


def median_front(priced: PricedRuns, entries: Entries) -> Flags:
    """Mark the entries that no other one beats in the medians of dollars and hours: every objective's best is one."""
    return _apart_from_porting(priced, entries, entries.usd, entries.hours)


def _apart_from_porting(priced: PricedRuns, entries: Entries, *costs: Column) -> Flags:
    porting = priced.needs_porting[entries.run]
    marks = front(*costs)
    marks[~porting] = front(*(cost[~porting] for cost in costs))
    return marks


def front(*costs: Column) -> Flags:
    """
    Mark the points that no other one dominates; equal ones stand together.

    Args:
        costs: less is better in each, shape (n,).

    >>> front(np.array([1.0, 2.0, 3.0]), np.array([5.0, 4.0, 6.0])).tolist()
    [True, True, False]
    """
    points = np.column_stack(costs)
    marks = np.zeros(len(points), dtype=np.bool_)
    left = np.lexsort(points.T[::-1])
    while len(left):
        # What would dominate the first point would sort before it.
        first, others = points[left[0]], points[left]
        marks[left[(others == first).all(axis=1)]] = True
        left = left[~(others >= first).all(axis=1)]
    return marks
