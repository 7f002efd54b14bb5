"""`Limits`: budget, deadline and confidence as columns over the runs (part of stage 6)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from trainfare_core.arrays import Column, Flags, Rows
from trainfare_core.ranking.pricing.chances import chances_of_both
from trainfare_core.ranking.pricing.priced_runs import PricedRuns
from trainfare_core.recommendation import Constraints


@dataclass(frozen=True, slots=True)
class Limits:
    """
    What the constraints mean for each run; arrays of shape (r,), infinite where there is no limit.

    Attributes:
        priced: the runs and their offers.
        asked: budget, deadline and the confidence with which both must be kept.
        z: standard deviations from the median to that confidence.
        sure_hours: hours that the run keeps with the asked confidence.
        short_enough: the median is within `Constraints.max_run_hours`.
        in_time: `sure_hours` are within the deadline, and the run is short enough.
        highest_usd_per_hour: price of one machine up to which the budget is kept with the asked confidence, where the
            price is certain, and the limit on the price of an hour.
    """

    priced: PricedRuns
    asked: Constraints
    z: float
    sure_hours: Column
    short_enough: Flags
    in_time: Flags
    highest_usd_per_hour: Column

    @classmethod
    def of(cls, priced: PricedRuns, constraints: Constraints) -> Limits:
        """Return the limits of all runs."""
        z = NormalDist().inv_cdf(constraints.confidence)
        sure_hours = priced.runs.hours * np.exp(z * priced.runs.log_sigma)
        deadline = np.inf if constraints.deadline_hours is None else constraints.deadline_hours
        if constraints.max_usd is None:
            highest = np.full(len(priced.runs), np.inf)
        else:
            with np.errstate(divide="ignore", invalid="ignore"):
                billed = priced.runs.billed_hours / priced.runs.hours
                rate = (constraints.max_usd - priced.side_costs.once_usd) / (sure_hours * billed)
                highest = (rate - priced.side_costs.usd_per_hour) / priced.nodes
        if constraints.max_usd_per_hour is not None:
            # The slack lets three machines of 0.1 USD keep a limit of 0.3, whose third is less than 0.1 in binary.
            highest = np.minimum(highest, constraints.max_usd_per_hour * (1 + 1e-9) / priced.nodes)
        short_enough = priced.runs.hours <= constraints.max_run_hours
        return cls(
            priced, constraints, z, sure_hours, short_enough, short_enough & (sure_hours <= deadline), highest
        )

    def affordable(self, run: Rows, usd_per_hour: Column, price_sigma: Column) -> Flags:
        """
        Mark the pairs of run and price that keep the budget, and the deadline with it, with the asked confidence.

        Args:
            run: rows of `priced.runs`, all of them in time, shape (k,).
            usd_per_hour: price of one machine, shape (k,).
            price_sigma: standard deviation of its logarithm, shape (k,); doubt only narrows what is affordable.
        """
        within: Flags = usd_per_hour <= self.highest_usd_per_hour[run]
        if self.asked.max_usd is None:
            return within
        doubtful = np.flatnonzero(within & (price_sigma > 0))
        if len(doubtful):
            within[doubtful] = self._keep_in_doubt(
                run[doubtful], usd_per_hour[doubtful], price_sigma[doubtful]
            )
        return within

    def _keep_in_doubt(self, run: Rows, usd_per_hour: Column, price_sigma: Column) -> Flags:
        hours, hours_sigma = self.priced.runs.hours[run], self.priced.runs.log_sigma[run]
        # What is paid once has one price; what is left of the budget is for the hours.
        budget = np.maximum((self.asked.max_usd or 0.0) - self.priced.side_costs.once_usd[run], 0.0)
        with np.errstate(divide="ignore"):
            billed_hours = self.priced.runs.billed_hours[run]
            usd_margin = np.log(budget / (billed_hours * self.priced.run_usd_per_hour(run, usd_per_hour)))
        within: Flags = usd_margin >= self.z * np.hypot(hours_sigma, price_sigma)
        if self.asked.deadline_hours is not None:
            # Each limit is kept by itself; the chance of both may be smaller.
            indices = np.flatnonzero(within)
            hours_margin = np.log(self.asked.deadline_hours / hours[indices])
            both = chances_of_both(
                hours_margin, usd_margin[indices], hours_sigma[indices], price_sigma[indices]
            )
            within[indices] = both >= self.asked.confidence
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
