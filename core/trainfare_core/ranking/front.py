"""
The cost-time front (part of stage 6).

**Front.** An option is on the cost-time front unless another one costs no more, takes no longer, and is strictly
better in one of the two. A machine that needs porting does not push off the front one that runs the script unchanged
(a "drop-in"), because the work of porting is not in the dollars. It is itself compared with all options.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trainfare_core.ranking.entries import Entries
from trainfare_core.ranking.priced_runs import PricedRuns

__all__ = ["front", "on_front"]

Column = NDArray[np.float64]


def on_front(priced: PricedRuns, entries: Entries) -> NDArray[np.bool_]:
    """Mark the entries on the front, shape (k,)."""
    porting = priced.needs_porting[entries.run]
    marks = front(entries.usd, entries.hours)
    marks[~porting] = front(entries.usd[~porting], entries.hours[~porting])
    return marks


def front(usd: Column, hours: Column) -> NDArray[np.bool_]:
    """
    Mark the options that no other one dominates; equal ones stand together.

    Args:
        usd: dollars, shape (n,).
        hours: hours, shape (n,).
    """
    if not len(usd):
        return np.zeros(0, dtype=np.bool_)
    order = np.lexsort((usd, hours))
    sorted_usd, sorted_hours = usd[order], hours[order]
    starts = np.r_[True, sorted_hours[1:] != sorted_hours[:-1]]
    group = np.cumsum(starts) - 1
    lowest = sorted_usd[starts]
    before = np.r_[np.inf, np.minimum.accumulate(lowest)[:-1]]
    good = (sorted_usd == lowest[group]) & (sorted_usd < before[group])
    marks = np.zeros(len(usd), dtype=np.bool_)
    marks[order] = good
    return marks
