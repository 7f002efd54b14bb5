"""Count the offers that are not ranked, by reason, with the nearest miss in words (part of stage 6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Final, get_args

import numpy as np
from numpy.typing import NDArray

from trainfare_core.arrays import find_least, mark_rows
from trainfare_core.number_format import hours_text, percent
from trainfare_core.ranking.pricing.price_doubt import MACHINE_TYPE, Machines, Usable
from trainfare_core.ranking.pricing.priced_runs import Limits, PricedRuns
from trainfare_core.ranking.pricing.quotas import machines_allowed, shortage
from trainfare_core.recommendation import Constraints, Rejection, RejectionReason

_ORDER: Final[tuple[RejectionReason, ...]] = get_args(RejectionReason)
REASON_WORDS: Final[Mapping[RejectionReason, str]] = {
    **{reason: reason.replace("_", " ") for reason in _ORDER},
    "does_not_fit": "does not fit in memory",
    "past_deadline": "past the deadline",
    "price_too_old": "price too old to rank",
    "filtered": "filtered out",
}
"""Each reason as it follows a count of prices."""

_LIMITS: Final = ("over_quota", "over_budget", "past_deadline", "too_long")
"""Reasons that only runs have that are possible otherwise."""
_DETAILS_SHOWN: Final = 3
"""Names in one rejection before "and n more": enough to recognise the cause on one line of a report. A chosen value."""


def rejections_of(
    priced: PricedRuns, limits: Limits, constraints: Constraints, usable: Usable
) -> tuple[Rejection, ...]:
    """
    Count every offer that no option uses under one reason; ranked offers and these add up to the book.

    Args:
        priced: everything priced.
        limits: what the constraints mean for each run.
        constraints: what the user asked for.
        usable: what the filters and the age of prices left out.
    """
    counts = dict.fromkeys(_ORDER, 0)
    details: dict[RejectionReason, str] = {}
    marks: dict[RejectionReason, NDArray[np.bool_]] = {}
    offers_of = np.bincount(priced.offers.machine, minlength=len(priced.machines))
    machine_shape = priced.machines.frame["shape_id"].to_numpy()
    reason_of = priced.search.verdicts.reason[machine_shape]
    for reason in _ORDER[:6]:
        machines = reason_of == reason
        marks[reason] = machines
        counts[reason] = int(offers_of[machines].sum())
        details[reason] = _shape_detail(priced, reason, np.unique(machine_shape[machines]))
    over_quota = priced.machines.over_quota > 0
    marks["over_quota"], counts["over_quota"] = over_quota, int(offers_of[over_quota].sum())
    details["over_quota"] = _over_quota_detail(priced, constraints)
    ranked = _count_limits(priced, limits, constraints, offers_of, counts, details, marks)
    refused = int(offers_of[priced.machines.spot_refused].sum())
    counts["price_too_old"], details["price_too_old"] = usable.too_old, usable.too_old_detail
    counts["filtered"] = usable.left_out.count + refused
    spot = f"{refused} spot offers: {priced.machines.no_spot_because}"
    dropped, filters = usable.left_out.count, usable.left_out.filters
    filters = f"{dropped} offers: {filters}" if refused else filters
    details["filtered"] = "; ".join([*([filters] if dropped else []), *([spot] if refused else [])])
    machine_types = list(priced.machines.frame.select(MACHINE_TYPE).iter_rows())
    types: dict[RejectionReason, Machines] = {
        reason: _types(machine_types, machines) for reason, machines in marks.items()
    }
    types["price_too_old"], types["filtered"] = usable.too_old_machines, usable.left_out.machines
    counted = set(_types(machine_types, ranked))
    rejections: list[Rejection] = []
    for reason in _ORDER:
        new = types[reason] - counted
        counted |= new
        if counts[reason]:
            rejections.append(
                Rejection(reason=reason, count=counts[reason], machines=len(new), detail=details[reason])
            )
    return tuple(rejections)


def _types(machine_types: Sequence[tuple[str, str, str]], machines: NDArray[np.bool_]) -> Machines:
    """Return the types of the marked machines, which differ from each other in purchase option and shape."""
    return frozenset(name for name, has in zip(machine_types, machines.tolist(), strict=True) if has)


def why_nothing(rejections: tuple[Rejection, ...]) -> str:
    """Say why there is no option: the limits where some run is possible, else all that stands against one."""
    if not rejections:
        return "the price book has no offers"
    limits = [item for item in rejections if item.reason in _LIMITS]
    possible = [item for item in rejections if item.reason != "filtered"]
    lines = [
        f"{_format_rejection_count(item)}: {REASON_WORDS[item.reason]} ({item.detail})"
        for item in limits or possible or rejections
    ]
    ported = not limits and any(item.reason == "needs_porting" for item in possible)
    return f"no machine is left: {'; '.join(lines)}{'; leave out --no-porting to rank these' * ported}"


def _format_rejection_count(item: Rejection) -> str:
    """Return how many machine types have the reason as their first, or how many prices where all types have another."""
    number, what = (item.machines, "machine type") if item.machines else (item.count, "price")
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _shape_detail(priced: PricedRuns, reason: RejectionReason, shapes: NDArray[np.int64]) -> str:
    if not len(shapes):
        return ""
    texts = [str(text) for text in priced.search.verdicts.detail[shapes]]
    if reason in ("does_not_fit", "may_not_fit"):
        return min(zip(priced.search.verdicts.miss_bytes[shapes].tolist(), texts, strict=True))[1]
    distinct = sorted(set(texts))
    more = len(distinct) - _DETAILS_SHOWN
    return "; ".join(distinct[:_DETAILS_SHOWN]) + (f"; and {more} more" if more > 0 else "")


def _count_limits(
    priced: PricedRuns,
    limits: Limits,
    constraints: Constraints,
    offers_of: NDArray[np.int64],
    counts: dict[RejectionReason, int],
    details: dict[RejectionReason, str],
    marks: dict[RejectionReason, NDArray[np.bool_]],
) -> NDArray[np.bool_]:
    """
    Count offers none of whose runs keep the limits: too slow at any price, or else too expensive.

    Returns:
        Which machines have a ranked offer, shape (machines,).
    """
    machines = len(priced.machines)
    in_time = mark_rows(machines, priced.machine_of_run[limits.in_time])
    short_enough = mark_rows(machines, priced.machine_of_run[limits.short_enough])
    long = mark_rows(machines, priced.machine_of_run) & ~short_enough
    late = short_enough & ~in_time
    counts["too_long"] = int(offers_of[long].sum())
    details["too_long"] = _too_long_detail(priced, constraints, long)
    counts["past_deadline"] = int(offers_of[late].sum())
    affordable = np.zeros(len(priced.offers.usd_per_hour), dtype=np.bool_)
    for affordable_offers in limits.affordable_offers():
        affordable |= affordable_offers
    too_expensive = in_time[priced.offers.machine] & ~affordable
    counts["over_budget"] = int(too_expensive.sum())
    details["past_deadline"] = _past_deadline_detail(priced, limits, constraints, late)
    details["over_budget"] = _over_budget_detail(priced, limits, constraints, too_expensive)
    marks["too_long"], marks["past_deadline"] = long, late
    marks["over_budget"] = mark_rows(machines, priced.offers.machine[too_expensive])
    return mark_rows(machines, priced.offers.machine[affordable])


def _over_quota_detail(priced: PricedRuns, constraints: Constraints) -> str:
    """Name the offer that misses its quota by least."""
    fewest = priced.machines.over_quota[priced.offers.machine]
    rows = np.flatnonzero(fewest > 0)
    if not len(rows):
        return ""
    share = machines_allowed(priced.offers.frame[rows], constraints.quotas) / fewest[rows]
    nearest = int(rows[np.argmax(share)])
    return shortage(priced.offers.frame.row(nearest, named=True), int(fewest[nearest]), constraints.quotas)


def _past_deadline_detail(
    priced: PricedRuns, limits: Limits, constraints: Constraints, late: NDArray[np.bool_]
) -> str:
    runs = np.flatnonzero(late[priced.machine_of_run])
    if not len(runs) or constraints.deadline_hours is None:
        return ""
    nearest = int(runs[np.argmin(limits.sure_hours[runs])])
    hours = float(limits.sure_hours[nearest])
    return (
        f"{_name(priced, nearest)}: {hours_text(hours)} with {percent(constraints.confidence)} confidence, "
        f"{hours_text(hours - constraints.deadline_hours)} past the deadline of "
        f"{hours_text(constraints.deadline_hours, 4)}"
    )


def _too_long_detail(priced: PricedRuns, constraints: Constraints, long: NDArray[np.bool_]) -> str:
    runs = np.flatnonzero(long[priced.machine_of_run])
    if not len(runs):
        return ""
    nearest = int(runs[np.argmin(priced.runs.hours[runs])])
    return (
        f"{_name(priced, nearest)}: {float(priced.runs.hours[nearest]):,.0f} h, over --max-hours "
        f"{constraints.max_run_hours:g}"
    )


def _over_budget_detail(
    priced: PricedRuns, limits: Limits, constraints: Constraints, refused: NDArray[np.bool_]
) -> str:
    """Name the run that misses the budget by least; `refused` has shape (offers,)."""
    if not refused.any():
        return ""
    if constraints.max_usd is None:
        return _over_hourly_detail(priced, limits, constraints.max_usd_per_hour, refused)
    offers, rows = priced.offers, np.flatnonzero(refused)
    # Of each machine the offer that would be cheapest if hours were sure: enough to name the nearest miss.
    sure_usd = offers.usd_per_hour * np.exp(NormalDist().inv_cdf(constraints.confidence) * offers.log_sigma)
    rows = rows[np.argsort(sure_usd[rows], kind="stable")]
    offer_of = np.full(len(priced.machines), -1)
    offer_of[offers.machine[rows[::-1]]] = rows[::-1]
    offer = offer_of[priced.machine_of_run]
    runs = np.flatnonzero((offer >= 0) & limits.in_time)
    price, doubt = offers.usd_per_hour[offer[runs]], offers.log_sigma[offer[runs]]
    usd = priced.run_usd(runs, price, doubt, constraints.confidence)
    nearest = int(np.argmin(usd))
    cost = float(usd[nearest])
    if cost <= constraints.max_usd and constraints.max_usd_per_hour is not None:
        return _over_hourly_detail(priced, limits, constraints.max_usd_per_hour, refused)
    if cost <= constraints.max_usd:
        both = priced.compute_chances(runs, price, doubt, constraints)
        likeliest = int(np.argmax(both))
        return (
            f"{_name(priced, int(runs[likeliest]))}: budget and deadline together are kept with "
            f"{percent(float(both[likeliest]), 1)}"
        )
    return (
        f"{_name(priced, int(runs[nearest]))}: {cost:,.2f} USD with {percent(constraints.confidence)} confidence, "
        f"{cost - constraints.max_usd:,.2f} over the budget of {constraints.max_usd:,.2f}"
    )


def _over_hourly_detail(
    priced: PricedRuns, limits: Limits, limit: float | None, refused: NDArray[np.bool_]
) -> str:
    """Name the run whose price of an hour misses its limit by least."""
    if limit is None:
        return ""
    offers = priced.offers
    lowest = find_least(offers.usd_per_hour[refused], offers.machine[refused], len(priced.machines))
    prices = np.where(limits.in_time, lowest[priced.machine_of_run] * priced.nodes, np.inf)
    nearest = int(np.argmin(prices))
    price = float(prices[nearest])
    return f"{_name(priced, nearest)}: {price:,.2f} USD an hour, {price - limit:,.2f} over the limit of {limit:,.2f}"


def _name(priced: PricedRuns, run: int) -> str:
    row = priced.machines.frame.row(int(priced.machine_of_run[run]), named=True)
    nodes = int(priced.nodes[run])
    count = f"{nodes} x " if nodes > 1 else ""
    porting = ", needs porting" if priced.needs_porting[run] else ""
    return f"{count}{row['provider']}:{row['instance_type']} ({row['purchase_option']}{porting})"
