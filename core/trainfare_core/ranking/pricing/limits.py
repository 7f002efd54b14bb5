"""`Limits`: budget, deadline and confidence as columns over the runs (part of stage 6)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from trainfare_core.arrays import Column, Flags, Rows
from trainfare_core.ranking.pricing.chances import find_hours
from trainfare_core.ranking.pricing.priced_runs import PricedRuns
from trainfare_core.recommendation import Constraints


@dataclass(frozen=True, slots=True)
class Limits:
    """
    What the constraints mean for each run; arrays of shape (r,), infinite where there is no limit.

    Attributes:
        priced: the runs and their offers.
        asked: budget, deadline and the confidence with which both must be kept.
        sure_hours: hours that the run keeps with the asked confidence.
        short_enough: the median is within `Constraints.max_run_hours`.
        in_time: `sure_hours` are within the deadline, and the run is short enough.
    """

    priced: PricedRuns
    asked: Constraints
    sure_hours: Column
    short_enough: Flags
    in_time: Flags

    @classmethod
    def of(cls, priced: PricedRuns, constraints: Constraints) -> Limits:
        """Return the limits of all runs."""
        sure_hours = find_hours(priced.runs, np.arange(len(priced.runs)), constraints.confidence)
        deadline = np.inf if constraints.deadline_hours is None else constraints.deadline_hours
        short_enough = priced.runs.hours <= constraints.max_run_hours
        return cls(priced, constraints, sure_hours, short_enough, short_enough & (sure_hours <= deadline))

    def affordable(self, run: Rows, usd_per_hour: Column, price_sigma: Column) -> Flags:
        """
        Mark the pairs of run and price that keep the budget, and the deadline with it, with the asked confidence.

        Args:
            run: rows of `priced.runs`, all of them in time, shape (k,).
            usd_per_hour: price of one machine, shape (k,).
            price_sigma: standard deviation of its logarithm, shape (k,).
        """
        asked, within = self.asked, np.ones(len(run), dtype=np.bool_)
        if (asked.max_usd, asked.max_usd_per_hour) == (None, None):
            return within
        # The budget by itself first: the chance of both limits is smaller, and takes longer to compute.
        budget_alone = asked.model_copy(update={"deadline_hours": None})
        for limits in (budget_alone,) if asked.deadline_hours is None else (budget_alone, asked):
            rows = np.flatnonzero(within)
            chances = self.priced.compute_chances(run[rows], usd_per_hour[rows], price_sigma[rows], limits)
            within[rows] = chances >= asked.confidence
        return within

    def affordable_offers(self) -> Iterator[Flags]:
        """Yield, for each number of machines, which offers a run of so many keeps the limits on, shape (offers,)."""
        priced = self.priced
        for nodes in np.unique(priced.nodes):
            runs = np.flatnonzero((priced.nodes == nodes) & self.in_time)
            run_of_machine = np.full(len(priced.machines), -1)
            run_of_machine[priced.machine_of_run[runs]] = runs
            run = run_of_machine[priced.offers.machine]
            offers = np.flatnonzero(run >= 0)
            marks = np.zeros(len(run), dtype=np.bool_)
            marks[offers] = self.affordable(
                run[offers], priced.offers.usd_per_hour[offers], priced.offers.log_sigma[offers]
            )
            yield marks
