"""Offers that a request can use, and how far their prices may have moved since they were seen (part of stage 6)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Final, TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trainfare_core.clouds.region_places import lies_in
from trainfare_core.prices.age_doubt import TOO_OLD_FACTOR, Z_80, price_log_sigma, too_old_to_rank
from trainfare_core.prices.book import PriceBook
from trainfare_core.prices.commitments import CAPACITY_BLOCK, MAX_COMMITMENT_AGE_DAYS, TERM_HOURS
from trainfare_core.prices.freshness import end_of_day, with_ages
from trainfare_core.prices.intake import PURCHASE_OPTIONS
from trainfare_core.prices.precedence import OWN_RATES
from trainfare_core.prices.shapes import distinct_numbers
from trainfare_core.ranking.pricing.data_costs import explain_unknown_transfer, price_transfer
from trainfare_core.ranking.pricing.request import DEFAULT_PURCHASE
from trainfare_core.recommendation import Constraints

MACHINE_TYPE: Final = ("provider", "service", "instance_type")
"""Columns that name a machine type."""

Machines: TypeAlias = frozenset[tuple[str, str, str]]
"""Machine types: provider, service and instance type."""

_NAMED: Final = 3
"""Groups of prices that are too old, named in one line of a report. A chosen value."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """
    What the filters of a request leave out.

    Attributes:
        count: offers.
        filters: what the filters are, in words.
        whole: the book before the filters.
        other_clouds: those of them that pass every filter but are quotes of other clouds.
    """

    count: int
    filters: str
    whole: PriceBook
    other_clouds: PriceBook

    @property
    def machines(self) -> Machines:
        """Machine types of the whole book; those that the filters keep have other reasons or are ranked."""
        return machine_types(self.whole.frame)


@dataclass(frozen=True, slots=True)
class Usable:
    """
    The offers to rank, and the counts of the others.

    Attributes:
        book: the offers to rank.
        log_sigma: standard deviation of ln(price now / price seen) of each, shape (offers,).
        transfer_usd: dollars of bringing the data to each, shape (offers,).
        left_out: what the filters leave out.
        too_old: spot offers whose price is too old to rank.
        too_old_detail: which they are, in words.
        too_old_machines: machine types that have an offer among them.
    """

    book: PriceBook
    log_sigma: NDArray[np.float64]
    transfer_usd: NDArray[np.float64]
    left_out: LeftOut
    too_old: int = 0
    too_old_detail: str = ""
    too_old_machines: Machines = frozenset()


def machine_types(offers: pl.DataFrame) -> Machines:
    """Return the distinct machine types of some rows of a price book."""
    _, first = distinct_numbers(offers["machine_id"].to_numpy().astype(np.int64))
    return frozenset(offers.select(MACHINE_TYPE)[first].rows())


def offers_asked_for(book: PriceBook, constraints: Constraints) -> PriceBook:
    """
    Return the offers that the constraints leave: the one definition, for the ranking and for the ages of its prices.

    Args:
        book: all offers.
        constraints: names as the book spells them; quotes of other clouds count where a provider or `all_clouds` is
            named.
    """
    return _of_clouds(_filter_book(book, constraints), constraints)


def _of_clouds(book: PriceBook, constraints: Constraints) -> PriceBook:
    return (
        book if constraints.all_clouds or constraints.providers is not None else book.without_other_clouds()
    )


def charge_use(offers: pl.DataFrame, use: float | None) -> pl.DataFrame:
    """Return offers at the price of an hour that is used: of a term, only the share `use` of it is."""
    binding = pl.col("purchase_option").cast(pl.String).is_in(list(TERM_HOURS))
    used_usd = pl.when(binding).then(pl.col("usd_per_hour") / (use or 1.0)).otherwise(pl.col("usd_per_hour"))
    return offers if use is None else offers.with_columns(used_usd.alias("usd_per_hour"))


def _name_purchase(constraints: Constraints) -> tuple[str, ...]:
    """Return the purchase options that are ranked: commitments where it is said what share of them is used."""
    asked = constraints.purchase or DEFAULT_PURCHASE
    if constraints.use is not None:
        return asked
    every = PURCHASE_OPTIONS if "any" in asked else asked
    return tuple(option for option in every if option not in TERM_HOURS)


def _filter_book(book: PriceBook, constraints: Constraints) -> PriceBook:
    if constraints.residency is not None:
        book = filter_by_residency(book, constraints.residency)
    return book.filter(
        providers=constraints.providers,
        regions=constraints.regions,
        purchase=_name_purchase(constraints),
        accelerators=constraints.accelerators,
        services=constraints.services,
        instance_types=constraints.instance_types,
        excluded=constraints.excluded,
        max_accelerators=constraints.max_accelerators,
        min_network_gbit_per_s=constraints.min_network_gbit_per_s,
    )


def usable_offers(book: PriceBook, constraints: Constraints, as_of: datetime | None) -> Usable:
    """
    Filter a book, and count the ages of its prices.

    Args:
        book: all offers.
        constraints: names of providers, regions and purchase options, as the book spells them.
        as_of: an aware moment; ages are counted to the end of its day in UTC. None takes every price as of now.
    """
    passed = _filter_book(book, constraints)
    usable = _of_clouds(passed, constraints)
    other = PriceBook.empty() if usable is passed else passed.of_other_clouds()
    filters_by_name = (
        ("purchase option", _name_purchase(constraints)),
        ("provider", constraints.providers),
        ("service", constraints.services),
        ("region", constraints.regions),
        ("instance type", constraints.instance_types),
        ("accelerator", constraints.accelerators),
    )
    filters = [
        f"{what} other than {' or '.join(names)}" for what, names in filters_by_name if names is not None
    ]
    if constraints.residency is not None:
        filters.append(f"not known to lie in {' or '.join(constraints.residency)}")
    if constraints.max_accelerators is not None:
        filters.append(f"more than {constraints.max_accelerators} accelerators")
    if constraints.min_network_gbit_per_s is not None:
        filters.append(f"a network below {constraints.min_network_gbit_per_s:g} Gbit/s, or not published")
    if constraints.excluded:
        filters.append(f"excluded: {', '.join(constraints.excluded)}")
    if len(other):
        filters.append("quotes of other clouds, ranked with --all-clouds")
    left_out = LeftOut(len(book) - len(usable), ", ".join(filters), book, other)
    transfer_usd = price_transfer(usable.frame, constraints)
    known = ~np.isnan(transfer_usd)
    if not known.all():
        reasons = ", ".join([*filters, explain_unknown_transfer(constraints)])
        left_out = replace(left_out, count=left_out.count + int((~known).sum()), filters=reasons)
        usable, transfer_usd = usable.where(known), transfer_usd[known]
    if as_of is None:
        return Usable(usable, np.zeros(len(usable)), transfer_usd, left_out)
    # Ages count to the end of the day, so that a request gives the same answer all day.
    aged = with_ages(usable.frame, end_of_day(as_of.astimezone(timezone.utc).date()))
    log_sigma = price_log_sigma(aged)
    purchase = aged["purchase_option"].to_numpy().astype(np.str_)
    old = too_old_to_rank(purchase, log_sigma) | too_old_to_commit(aged).to_numpy()
    if not old.any():
        return Usable(usable, log_sigma, transfer_usd, left_out)
    aged = aged.filter(pl.Series(old))
    detail = _too_old_detail(aged, log_sigma[old])
    return Usable(
        usable.where(~old),
        log_sigma[~old],
        transfer_usd[~old],
        left_out,
        int(old.sum()),
        detail,
        too_old_machines=machine_types(aged),
    )


def too_old_to_commit(aged: pl.DataFrame) -> pl.Series:
    """Mark commitments whose price is older than `MAX_COMMITMENT_AGE_DAYS`; contracts are in force at any age."""
    binding = aged["purchase_option"].cast(pl.String).is_in([*TERM_HOURS, CAPACITY_BLOCK])
    old = aged["age_hours"].cast(pl.Float64).fill_null(np.inf) > 24.0 * MAX_COMMITMENT_AGE_DAYS
    return binding & old & (aged["origin"] != OWN_RATES)


def _too_old_detail(old: pl.DataFrame, log_sigma: NDArray[np.float64]) -> str:
    """Name the largest groups of prices that are too old."""
    factors = pl.Series("factor", np.exp(2 * Z_80 * log_sigma))
    groups = (
        old.with_columns(factors)
        .group_by("provider", "service", "purchase_option")
        .agg(pl.len().alias("rows"), pl.col("observed_on").max(), pl.col("factor").min())
        .sort("rows", "provider", "service", "purchase_option", descending=[True, False, False, False])
    )
    old_rows = [
        f"{row['provider']}/{row['service']} {row['purchase_option']} of {row['observed_on']} and before: "
        f"the 80 % interval spans a factor of {_factor(row['factor'])}"
        for row in groups.head(_NAMED).iter_rows(named=True)
    ]
    more = [f"and {groups.height - _NAMED} more services"] if groups.height > _NAMED else []
    return (
        "; ".join([*old_rows, *more])
        + f" (limit {TOO_OLD_FACTOR:g}); `trainfare prices update` fetches today's, "
        "`trainfare offers --purchase spot` lists them"
    )


def _factor(value: float) -> str:
    return f"{value:.1f}" if math.isfinite(value) else "more than any number"


def filter_by_residency(book: PriceBook, places: Sequence[str]) -> PriceBook:
    """
    Return the offers whose region lies in one of some places.

    Args:
        book: offers.
        places: see `region_places.lies_in`; an offer whose country is not known lies in none.

    Raises:
        UnknownNameError: a name that is no place.
    """
    lies_in("", "", places)  # a wrong name is an error in an empty book, too
    regions: dict[str, list[str]] = {}
    for provider, region in book.frame.select("provider", "region").unique().iter_rows():
        if lies_in(provider, region, places):
            regions.setdefault(provider, []).append(region)
    inside = pl.lit(value=False)
    for provider, names in regions.items():
        inside |= (pl.col("provider") == provider) & pl.col("region").is_in(names)
    # `provider` gives the column its length where the expression is a literal.
    marks = book.frame.select("provider", inside.alias("inside"))["inside"]
    return book.where(marks.to_numpy())
