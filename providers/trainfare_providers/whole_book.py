"""
Plausibility of a whole price book: every price beside its siblings, for `trainfare prices verify --snapshot`.

`prices.sanity` refuses what cannot be a price. The rules here find what is improbable beside the rest of the book; what
was looked into and is right is named in `data/accepted_prices.csv` with the reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import polars as pl

from trainfare_core.clouds import CLOUDS
from trainfare_core.prices.book import PriceBook
from trainfare_core.prices.facts import ReasonCount
from trainfare_core.prices.intake import KEY_COLUMNS
from trainfare_core.prices.precedence import EQUAL, LEAST_SPOT_SHARE, NO_SPOT_CAPACITY
from trainfare_core.prices.sanity import MACHINE, LastPrices
from trainfare_providers.conformance import Finding
from trainfare_providers.machine_types import table_rows

# Chosen: 10 of the snapshot's 491 machines and regions with several zones, half of them with a zone at on demand.
_ZONES_APART: Final = 4.0
# Chosen: of the snapshot's 4,189 list prices with siblings 17 are more than 1 % off, 5 more than 3 %.
_SIBLINGS: Final = 0.03
_FEWEST_SIBLINGS: Final = 3  # of two sizes nothing says which one is out of proportion
_HOST: Final = 0.02  # chosen: list prices of sizes with the same host are multiples; what differs is rounding
# Chosen: the host of one accelerator may be four times another's, a price in another unit is further off.
_FAR: Final = (0.4, 2.5)

_PLACE: Final = ("provider", "service", "region", "zone", "purchase_option")
_FAMILY: Final = (*_PLACE, "_family", "accelerator")


def check_whole_book(
    rows: pl.DataFrame, accepted: Iterable[Mapping[str, str]] | None = None
) -> tuple[tuple[Finding, ...], tuple[ReasonCount, ...]]:
    """
    Check every price of a book beside the others.

    Args:
        rows: the columns of `BOOK_SCHEMA`, with the caveats of `PriceBook.concat`.
        accepted: lines of `data/accepted_prices.csv`: a rule, regular expressions of whole names ("" is any), the
            number of prices, and a reason; None takes the shipped ones. Another number of prices is a finding.

    Returns:
        the findings, and how many prices each line accepted.
    """
    columns = [*KEY_COLUMNS, "usd_per_hour"]
    book = _add_neighbours(rows)
    judged = PriceBook.from_rows(rows, origin="whole book", last=LastPrices())
    parts = [odd.select(*columns, pl.col("set_aside").alias("rule")) for odd in judged.set_aside]
    for rule, wrong in _rules().items():
        parts.append(book.filter(wrong).select(*columns, pl.lit(rule).alias("rule")))
    suspects = pl.concat(parts).sort("rule", *KEY_COLUMNS)
    counts: list[ReasonCount] = []
    findings: list[Finding] = []
    for line in table_rows("accepted_prices.csv") if accepted is None else accepted:
        names = [name for name in ("provider", "instance_type", "region", "purchase_option") if line[name]]
        named = (pl.col(name).str.contains(f"^(?:{line[name]})$") for name in names)
        here = pl.all_horizontal(pl.col("rule") == line["rule"], *named)
        needed = suspects.filter(here).height
        suspects = suspects.filter(~here)
        counts.append(ReasonCount(f"{line['rule']}: {line['reason']}", needed))
        if needed != int(line["rows"]):
            what = " ".join(line[name] for name in names)
            findings.append(
                Finding(line["rule"], f"accepted for {line['rows']} prices, {needed} need it: {what}")
            )
    for row in suspects.iter_rows(named=True):
        place, option = row["zone"] or row["region"], row["purchase_option"]
        price = f"{row['provider']}:{row['instance_type']}@{place} {option} {row['usd_per_hour']:g} USD/hour"
        findings.append(Finding(row["rule"], price))
    return tuple(findings), tuple(counts)


def _add_neighbours(rows: pl.DataFrame) -> pl.DataFrame:
    """Add the family of each machine, its price per accelerator, on demand and in blocks, and its fit to siblings."""
    name, price, option = pl.col("instance_type"), pl.col("usd_per_hour"), pl.col("purchase_option")
    family = pl.coalesce(
        pl.when(pl.col("provider") == cloud.name).then(name.str.replace(cloud.size_in_name, "$1"))
        for cloud in CLOUDS.values()
    )
    spot_is_listed = pl.col("provider").is_in(
        [cloud.name for cloud in CLOUDS.values() if cloud.spot_is_listed]
    )
    book = rows.with_columns(
        pl.coalesce(family, name).alias("_family"),
        (price / pl.col("accelerator_count")).alias("_each"),
        pl.when(option == "on_demand").then(price).min().over(MACHINE).alias("_on_demand"),
        pl.when(option == "capacity_block").then(price).max().over(MACHINE).alias("_block"),
        ((option != "spot") | spot_is_listed).alias("_listed"),
        pl.lit(1.0).alias("_factor"),
    )
    book = book.with_columns(
        (pl.col("_listed") & (pl.len().over(_FAMILY) >= _FEWEST_SIBLINGS)).alias("_fitted")
    )
    for _ in range(4):  # medians in turn settle on one factor a region and one price a size
        whole = pl.when("_fitted").then(price / pl.col("_factor")).median()
        book = book.with_columns((price / whole.over(*MACHINE[:3], "purchase_option")).alias("_ratio"))
        book = book.with_columns(
            pl.when("_fitted").then(pl.col("_ratio")).median().over(_FAMILY).alias("_factor")
        )
    return book


def _rules() -> dict[str, pl.Expr]:
    """Return what marks a price as implausible, by the rule in words, of the rows of `_add_neighbours`."""
    price, each, count = pl.col("usd_per_hour"), pl.col("_each"), pl.col("accelerator_count")
    on_demand, listed = pl.col("_on_demand"), pl.col("_listed")
    spot = pl.col("purchase_option") == "spot"
    floor = pl.col("provider").replace_strict(LEAST_SPOT_SHARE, default=min(LEAST_SPOT_SHARE.values()))
    waiting = pl.col("caveat").str.contains(NO_SPOT_CAPACITY, literal=True).fill_null(value=False)
    size = ("accelerator_count", "vcpus", "memory_gib")
    host = ((pl.col("vcpus") / count).round(1), (pl.col("memory_gib") / count).round(0))
    whole = pl.when(count >= 1).then(each).min().over(*_PLACE, "accelerator")
    median = each.median().over("provider", "service", "accelerator", "purchase_option")
    sizes = pl.struct(size).n_unique().over(*_PLACE, "accelerator", "usd_per_hour")
    names = pl.col("instance_type").n_unique().over(*_PLACE, "accelerator", *size, "usd_per_hour")
    apart = price > _ZONES_APART * price.min().over(*MACHINE, "purchase_option")
    unlike = (pl.col("_ratio") / pl.col("_factor") - 1).abs() > _SIBLINGS
    alone = (each / each.median().over(*_FAMILY, *host) - 1).abs() > _HOST
    share = (count < 1) & (each <= whole * (1 + EQUAL))
    far = ~(each / median).is_between(*_FAR) & (~spot | on_demand.is_null())
    unbought = on_demand.is_null() & (price > pl.col("_block"))
    rules = {
        "spot below the largest discount of its cloud": spot & (price < on_demand * floor * (1 - EQUAL)),
        f"spot more than {_ZONES_APART:g} times another zone of its region": spot & ~waiting & apart,
        "spot above the capacity block of a machine without an on-demand price": spot & unbought,
        "not in proportion to the other sizes of its family, region by region": listed & unlike,
        "another price per accelerator than sizes with the same host": listed & alone,
        "a share of an accelerator for no more than its share of the whole one": listed & share,
        "the price of a machine of another size, to the cent": listed & (sizes > 1),
        "one machine under two names": listed & pl.col("vcpus").is_not_null() & (names > 1),
        "price per accelerator far from the median of its accelerator and purchase option": far,
    }
    return {rule: wrong.fill_null(value=False) for rule, wrong in rules.items()}
