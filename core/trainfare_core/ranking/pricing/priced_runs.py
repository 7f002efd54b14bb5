"""
`PricedRuns`: predicted runs joined with offers, by column (between stages 5 and 6), and the `Limits` of each.

A prediction depends on a machine's shape, a price on the offer. Offers that differ only in region, zone and
price form one *machine*; each machine is timed once per number of nodes, and prices are joined to that
afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from trainfare_core.arrays import Column, Flags, Rows, mark_rows
from trainfare_core.ranking.pricing.chances import find_billed_hours, find_chances, find_hours
from trainfare_core.ranking.pricing.machines import PricedMachines, PricedOffers, sort_offers
from trainfare_core.ranking.pricing.plan_search import PlanSearch
from trainfare_core.recommendation import Constraints
from trainfare_core.run_cost.table import RunTable


@dataclass(frozen=True, slots=True)
class SideCosts:
    """
    Dollars beside the machines; arrays have shape (r,).

    Attributes:
        transfer_usd: of bringing the data to the run's region.
        model_usd: of sending the trained model from the run's region.
        kept_usd: of object storage after the run, and of the requests that read the data.
        disks_usd_per_hour: disks for the checkpoints and of the machines.
        checkpoints_usd_per_hour: the part of them that stays while a run waits for capacity.
        waiting_hours: of that wait, which no machine is billed for.
        object_usd_per_hour: of the data in object storage where they lie, while the run lasts; the same for every run.
    """

    transfer_usd: Column
    model_usd: Column
    kept_usd: Column
    disks_usd_per_hour: Column
    checkpoints_usd_per_hour: Column
    waiting_hours: Column
    object_usd_per_hour: float

    @property
    def once_usd(self) -> Column:
        """Dollars of each run that do not grow with its billed hours, and are sure, shape (r,)."""
        waiting_usd = self.waiting_hours * (self.checkpoints_usd_per_hour + self.objects_usd_per_hour)
        return self.transfer_usd + self.model_usd + self.kept_usd + waiting_usd

    @property
    def objects_usd_per_hour(self) -> Column:
        """Dollars an hour of the data set, and as many of its copy in the region of a run elsewhere, shape (r,)."""
        return self.object_usd_per_hour * np.where(self.transfer_usd > 0, 2.0, 1.0)

    @property
    def usd_per_hour(self) -> Column:
        """Dollars an hour of disks and object storage, shape (r,)."""
        return self.disks_usd_per_hour + self.objects_usd_per_hour


@dataclass(frozen=True, slots=True)
class PricedRuns:
    """
    Runs, one a machine x number of nodes that fits, r of them; arrays have shape (r,).

    Attributes:
        offers: the offers that could be rented.
        machines: the machines that they rent.
        search: the plans that were tried.
        runs: the runs, timed.
        side_costs: what each pays beside its machines.
        machine_of_run: row of `machines`.
        nodes: machines of each.
        needs_porting: the script does not run there as it is.
        faster_plan: row of `search.candidates` of the fastest plan of the run's machines that fits, or of the run's own
            where the whole run gains too little (`worth_changing`).
    """

    offers: PricedOffers
    machines: PricedMachines
    search: PlanSearch
    runs: RunTable
    side_costs: SideCosts
    machine_of_run: Rows
    nodes: Rows
    needs_porting: Flags
    faster_plan: Rows

    def run_usd_per_hour(self, run: Rows, usd_per_hour: Column) -> Column:
        """Return dollars an hour for all machines of each run and what is stored, shape (k,)."""
        return usd_per_hour * self.nodes[run] + self.side_costs.usd_per_hour[run]

    def run_usd(
        self, run: Rows, usd_per_hour: Column, price_log_sigma: Column, chance: float | Column = 0.5
    ) -> Column:
        """Return dollars that each run does not exceed with a probability, at a price of one machine, shape (k,)."""
        hours = find_billed_hours(self.runs, run, price_log_sigma, chance)
        return hours * self.run_usd_per_hour(run, usd_per_hour) + self.side_costs.once_usd[run]

    def compute_chances(
        self, run: Rows, usd_per_hour: Column, price_log_sigma: Column, limits: Constraints
    ) -> Column:
        """Return the chance that each run keeps all limits, shape (k,); the price of an hour is taken as listed."""
        deadline = np.inf if limits.deadline_hours is None else limits.deadline_hours
        hourly_usd = self.run_usd_per_hour(run, usd_per_hour)
        billed_hours = np.full(len(run), np.inf)
        if limits.max_usd is not None:
            # What is paid once has one price; what is left of the budget is for the hours.
            left_usd = np.maximum(limits.max_usd - self.side_costs.once_usd[run], 0.0)
            np.divide(left_usd, hourly_usd, out=billed_hours, where=hourly_usd > 0)
        chances = find_chances(self.runs, run, deadline, billed_hours, price_log_sigma)
        return np.where(self.compute_hourly_excess(run, usd_per_hour, limits) > 1, 0.0, chances)

    def compute_hourly_excess(self, run: Rows, usd_per_hour: Column, limits: Constraints) -> Column:
        """Return the price of an hour of all machines as a multiple of the limit on it; 0 where there is none."""
        limit = limits.max_usd_per_hour
        if limit is None:
            return np.zeros(len(run))
        # The slack lets three machines of 0.1 USD keep a limit of 0.3, whose third is less than 0.1 in binary.
        price = usd_per_hour * self.nodes[run] * (1 - 1e-9)
        return price / limit if limit > 0 else np.full(len(run), np.inf)

    def compute_expected_usd(self, run: Rows, usd_per_hour: Column, price_log_sigma: Column) -> Column:
        """Return the mean dollars of each run, which are more than the median where hours or price are not sure."""
        hours = self.runs.mean_billed_hours[run] * np.exp(price_log_sigma**2 / 2)
        return hours * self.run_usd_per_hour(run, usd_per_hour) + self.side_costs.once_usd[run]

    @property
    def lowest_usd(self) -> Column:
        """Median dollars of each run at its machine's lowest price, shape (r,)."""
        machine, lowest = self.machine_of_run, self.machines
        price, doubt = lowest.lowest_usd_per_hour[machine], lowest.lowest_log_sigma[machine]
        return self.run_usd(np.arange(len(self.runs)), price, doubt)

    def cheapest_offers(self, machines: Rows) -> pl.DataFrame:
        """
        Return the cheapest offer of each given machine, one row each, with columns `machine` and `row` (of
        `offers`).

        Equal prices are decided by how sure they are, region, zone, date (newest first) and source.
        """
        offers, marks = self.offers, mark_rows(len(self.machines), machines)
        lowest = offers.usd_per_hour == self.machines.lowest_usd_per_hour[offers.machine]
        rows = np.flatnonzero(marks[offers.machine] & lowest)
        cheapest = offers.frame[rows].with_columns(
            pl.Series("machine", offers.machine[rows]), pl.Series("row", rows)
        )
        return sort_offers(cheapest).unique(subset="machine", keep="first", maintain_order=True)


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
