"""
Feasible options as columns: which there are, their total order, and their Pareto front (part of stage 6).

**Order.** Drop-ins stand before machines that need porting, whose work is in no figure. Each are sorted by the
objective, then by the other of dollars and hours (by dollars where both are weighed), then by provider, service,
instance type, purchase option, shape, nodes, region, zone, price date and source: no two options are equal in all of
these, so the order is total and does not depend on how the rows came in.

**Front.** An option is on the front of expected dollars, hours and the chance to keep the limits unless another one is
at least as good in all three of its mean dollars, the hours within
which nine of ten such runs end, and the chance to keep budget and deadline, and better in one. Without a limit the
first two decide. A machine that needs porting does not push off the front one that runs the script unchanged (a
"drop-in"), because the work of porting is not in the dollars. It is itself compared with all options.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import polars as pl

from trainfare_core.arrays import Column, Flags, Rows, find_least, pair_rows
from trainfare_core.candidates import take
from trainfare_core.ranking.pricing.chances import find_hours
from trainfare_core.ranking.pricing.machines import sort_offers
from trainfare_core.ranking.pricing.priced_runs import Limits, PricedRuns
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
        lead = np.where(priced.needs_porting[entries.run], lead + np.ptp(lead) + 1.0, lead)
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
            second,
            lead,
            priced.needs_porting[entries.run],
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
