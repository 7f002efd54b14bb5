"""
`PricedRuns`: predicted runs joined with offers, by column (between stages 5 and 6).

A prediction depends on a machine's shape, a price on the offer. Offers that differ only in region, zone and
price form one *machine*; each machine is timed once per number of nodes, and prices are joined to that
afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from trainfare_core.arrays import Column, Flags, Rows
from trainfare_core.ranking.pricing.columns import mark_rows
from trainfare_core.ranking.pricing.machines import PricedMachines, PricedOffers, sort_offers
from trainfare_core.ranking.pricing.plan_search import PlanSearch
from trainfare_core.ranking.pricing.side_costs import SideCosts
from trainfare_core.run_cost import RunTable


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

    def run_usd(self, run: Rows, usd_per_hour: Column) -> Column:
        """Return dollars of each run at a price of one machine, shape (k,)."""
        hourly_usd = self.run_usd_per_hour(run, usd_per_hour)
        return self.runs.billed_hours[run] * hourly_usd + self.side_costs.once_usd[run]

    def compute_expected_usd(self, run: Rows, usd_per_hour: Column, price_log_sigma: Column) -> Column:
        """Return the mean dollars of each run, which are more than the median where hours or price are not sure."""
        hours = self.runs.mean_billed_hours[run] * np.exp(price_log_sigma**2 / 2)
        return hours * self.run_usd_per_hour(run, usd_per_hour) + self.side_costs.once_usd[run]

    @property
    def lowest_usd(self) -> Column:
        """Dollars of each run at its machine's lowest price, shape (r,)."""
        run = np.arange(len(self.runs))
        return self.run_usd(run, self.machines.lowest_usd_per_hour[self.machine_of_run])

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
