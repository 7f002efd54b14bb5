"""
Feasible options as columns: which there are, and their total order (part of stage 6).

**Order.** Options are sorted by the objective, then by the other of dollars and hours (by dollars where both are
weighed), then drop-in before
needs porting, then by provider, service, instance type, purchase option, shape, nodes, region, zone, price
date and source: no two options are equal in all of these, so the order is total and does not depend on how
the rows came in.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from trainfare_core.arrays import Column, Rows
from trainfare_core.candidates import take
from trainfare_core.ranking.pricing.columns import find_least, pair_rows
from trainfare_core.ranking.pricing.limits import Limits
from trainfare_core.ranking.pricing.machines import sort_offers
from trainfare_core.ranking.pricing.priced_runs import PricedRuns
from trainfare_core.recommendation import Objective


@dataclass(frozen=True, slots=True)
class Entries:
    """
    Feasible options as columns, shape (k,).

    Attributes:
        run: row of `PricedRuns.runs`.
        offer: row of `PricedRuns.offers`, or -1: the cheapest of its machine, not looked up yet.
        usd_per_hour: price of one machine.
        price_log_sigma: of ln(price now / price seen).
        usd, hours: medians of the run.
        worth: dollars with the asked value of each hour; dollars alone where none is asked for.
    """

    run: Rows
    offer: Rows
    usd_per_hour: Column
    price_log_sigma: Column
    usd: Column
    hours: Column
    worth: Column

    def leads(self, objective: Objective) -> tuple[Column, Column]:
        """Return what is least in the best option, and what decides between equal ones."""
        if objective == "best_value":
            return self.worth, self.usd
        return (self.usd, self.hours) if objective == "cheapest" else (self.hours, self.usd)


def lowest_offers(priced: PricedRuns, limits: Limits) -> Entries:
    """Return every feasible run at its machine's lowest price, with that offer still to be looked up."""
    run = np.flatnonzero(limits.in_time)
    machine = priced.machine_of_run[run]
    run = run[
        limits.affordable(
            run, priced.machines.lowest_usd_per_hour[machine], priced.machines.lowest_log_sigma[machine]
        )
    ]
    run = run[_cheapest_of_kinds(priced, run)]
    machine = priced.machine_of_run[run]
    price, doubt = priced.machines.lowest_usd_per_hour[machine], priced.machines.lowest_log_sigma[machine]
    return _entries(priced, limits, run, np.full(len(run), -1), price, doubt)


def _cheapest_of_kinds(priced: PricedRuns, run: Rows) -> Rows:
    """Return the places of the cheapest runs of machines that differ only in how often they are taken back."""
    kind, nodes, usd = (
        priced.machines.kind[priced.machine_of_run[run]],
        priced.nodes[run],
        priced.lowest_usd[run],
    )
    order = np.lexsort((run, priced.runs.hours[run], usd, nodes, kind))
    first = np.ones(len(run), dtype=np.bool_)
    first[1:] = (np.diff(kind[order]) != 0) | (np.diff(nodes[order]) != 0)
    return np.sort(order[first])


def every_offer(priced: PricedRuns, limits: Limits) -> Entries:
    """Return every feasible run on every offer."""
    order = np.argsort(priced.offers.machine, kind="stable")
    run, position = pair_rows(priced.machine_of_run, priced.offers.machine[order])
    offer = order[position]
    price = priced.offers.usd_per_hour[offer]
    keep = limits.in_time[run] & limits.affordable(run, price, priced.offers.log_sigma[offer])
    run, offer, price = run[keep], offer[keep], price[keep]
    return _entries(priced, limits, run, offer, price, priced.offers.log_sigma[offer])


def _entries(
    priced: PricedRuns, limits: Limits, run: Rows, offer: Rows, usd_per_hour: Column, doubt: Column
) -> Entries:
    hours, usd = priced.runs.hours[run], priced.run_usd(run, usd_per_hour, doubt)
    return Entries(
        run, offer, usd_per_hour, doubt, usd, hours, usd + (limits.asked.value_usd_per_hour or 0.0) * hours
    )


def best_entries(priced: PricedRuns, entries: Entries, objective: Objective, limit: int) -> Rows:
    """Return the rows of the best `limit` entries; only those that can be among them are sorted by name."""
    rows = np.arange(len(entries.run))
    if limit < len(rows):
        lead, _ = entries.leads(objective)
        rows = np.flatnonzero(lead <= np.partition(lead, limit)[limit])
    return rows[in_order(priced, take(entries, rows), objective)[:limit]]


def best_of_each(priced: PricedRuns, entries: Entries, objective: Objective, group: tuple[str, ...]) -> Rows:
    """Return the best entry of every group of offers, drop-in and needs porting apart, in order, drop-ins first."""
    machines = priced.machines.frame
    accelerators = priced.search.shapes.accelerator[machines["shape_id"].to_numpy()].tolist()
    named = machines.with_columns(pl.Series("accelerator", accelerators, dtype=pl.String))
    keys = named.select(pl.concat_str(group, separator="\0").rank("dense"))
    porting = priced.needs_porting[entries.run]
    group_of = 2 * keys.to_series().to_numpy().astype(np.int64)[priced.machine_of_run[entries.run]] + porting
    lead, _ = entries.leads(objective)
    lowest = find_least(lead, group_of, int(group_of.max(initial=0)) + 1)
    rows = np.flatnonzero(lead == lowest[group_of])
    rows = rows[in_order(priced, take(entries, rows), objective)]
    rows = rows[np.argsort(porting[rows], kind="stable")]
    _, first = np.unique(group_of[rows], return_index=True)
    return rows[np.sort(first)]


def in_order(priced: PricedRuns, entries: Entries, objective: Objective) -> Rows:
    """Sort entries by the total order in this module's docstring; machines are numbered in theirs already."""
    lead, second = entries.leads(objective)
    return np.lexsort(
        (
            _places(priced, entries.offer),
            priced.nodes[entries.run],
            priced.machine_of_run[entries.run],
            priced.needs_porting[entries.run],
            second,
            lead,
        )
    )


def _places(priced: PricedRuns, offer: Rows) -> Rows:
    """Number offers by region, zone, date and source; all 0 where they are not looked up, one a machine."""
    rows, inverse = np.unique(offer, return_inverse=True)
    if not len(rows) or rows[0] < 0:
        return np.zeros(len(offer), dtype=np.int64)
    ordered = sort_offers(priced.offers.frame[rows].with_columns(pl.Series("place", np.arange(len(rows)))))
    places = np.empty(len(rows), dtype=np.int64)
    places[ordered["place"].to_numpy()] = np.arange(len(rows))
    return places[inverse]


def look_up_entries(priced: PricedRuns, entries: Entries) -> Entries:
    """Put the cheapest offer of its machine where an entry has none yet."""
    if not len(entries.run) or entries.offer[0] >= 0:
        return entries
    machine = priced.machine_of_run[entries.run]
    offers = priced.cheapest_offers(machine)
    offer_of = np.full(len(priced.machines), -1)
    offer_of[offers["machine"].to_numpy()] = offers["row"].to_numpy()
    return replace(entries, offer=offer_of[machine])
