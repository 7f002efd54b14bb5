"""
Which price book is used for a cloud service where several have prices of it (part of stage 2).

A plug-in with its cloud's own name (`aws` for aws) has read that cloud's whole price list of the regions that it names.
Its rows of a service, purchase option and region replace all of the snapshot's rows of them, not only those with the
same key. A machine that the list lacks, or whose price there is not usable, keeps its older price for `UNLISTED_DAYS`,
marked. Other plug-ins are joined key by key (`settle_overlaps`). Of what is left, spot prices at their ends are marked:
the on-demand price, and the least that a cloud sells for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import polars as pl

from trainfare_core.clouds import CLOUDS
from trainfare_core.prices.caveats import CAVEATS
from trainfare_core.prices.facts import Intake
from trainfare_core.prices.intake import KEY_COLUMNS, first_day, move_out, set_aside

SNAPSHOT: Final = "snapshot"
"""Origin of the prices that the package ships."""

OTHER_CLOUDS: Final = "other_clouds"
"""Origin of quotes of clouds whose hosts are not described: ranked and listed only when asked for."""

OWN_RATES: Final = "own"
"""Origin of negotiated rates: they are in force by contract, however long ago they were agreed."""

UNLISTED: Final = "no price in the newest list of "
"""Caveat, before a date, of a machine that the newest list lacks."""

UNLISTED_DAYS: Final = 180
"""Its price is kept until the newest list is so many days younger. Chosen: longer than our machine tables lag behind
a cloud's list, shorter than the year's notice that clouds give before a machine ends."""

_REPLACED: Final = "replaced by newer live prices"
_OUTDATED: Final = "fetched before the shipped snapshot's date"

_GROUP: Final = ("provider", "service", "purchase_option", "region")
_MACHINE: Final = (*_GROUP, "instance_type")


def keep_unlisted(rows: pl.DataFrame, newest_list: pl.Expr) -> pl.DataFrame:
    """
    Return the prices seen within `UNLISTED_DAYS` before the newest list, with the caveat `UNLISTED` and its day, once.

    Args:
        rows: prices of machines of which that list has no usable price.
        newest_list: its day.
    """
    known = pl.col("caveat").str.replace(rf"^{UNLISTED}[0-9-]+(; )?", "")
    # `cast` gives the number of a constant day in polars 1.24.
    mark = pl.format("{}{}", pl.lit(UNLISTED), newest_list.dt.to_string("%Y-%m-%d"))
    caveat = pl.concat_str([mark, pl.when(known != "").then(known)], separator="; ", ignore_nulls=True)
    lately = rows.filter((newest_list - _last_day()).dt.total_days() <= UNLISTED_DAYS)
    return lately.with_columns(caveat.alias("caveat"))


def is_unlisted() -> pl.Expr:
    """Return whether a row has the caveat of `keep_unlisted`."""
    return pl.col("caveat").str.starts_with(UNLISTED).fill_null(value=False)


def _last_day() -> pl.Expr:
    fetched = pl.col("fetched_at").str.slice(0, 10).str.to_date("%Y-%m-%d", strict=False)
    return pl.coalesce(fetched, first_day())


def replace_snapshot(
    frame: pl.DataFrame, intakes: tuple[Intake, ...]
) -> tuple[pl.DataFrame, tuple[Intake, ...], pl.DataFrame | None]:
    """
    Leave one list per service, purchase option and region: the cloud's own where it is there, else the snapshot's.

    The newer one stays: a list fetched before the latest date of the snapshot's rows is replaced by them, as happens
    when the package was updated since. Of a machine that the newer list lacks the shipped price stays, marked, while
    it is not too old. Rows that go are counted as filtered.

    Args:
        frame: rows of all books, with the columns of `BOOK_SCHEMA`.
        intakes: of the same books.

    Returns:
        the rows that stay, the intakes, and the rows `set_aside`.
    """
    is_live, is_shipped = pl.col("origin") == pl.col("provider"), pl.col("origin") == SNAPSHOT
    shipped = frame.filter(is_shipped)
    if shipped.is_empty() or not frame.select(is_live.any()).item():
        return frame, intakes, None
    others = frame.filter(~is_shipped)
    # Texts first, dates after: a million rows have a handful of groups.
    live_days = (
        others.filter(is_live)
        .group_by(_GROUP)
        .agg(pl.col("fetched_at", "observed_on").max())
        .select(*_GROUP, _last_day().alias("live_day"))
    )
    both = (
        shipped.group_by(_GROUP)
        .agg(first_day().max().alias("shipped_day"))
        .join(live_days, on=_GROUP)
        .with_columns((pl.col("live_day") < pl.col("shipped_day")).fill_null(value=False).alias("outdated"))
    )
    newer, outdated = both.filter(~pl.col("outdated")), both.filter("outdated")
    old = shipped.join(newer.select(*_GROUP, "live_day"), on=_GROUP)
    machines = others.filter(is_live).join(old, on="instance_type", how="semi").select(_MACHINE).unique()
    kept = keep_unlisted(old.join(machines, on=_MACHINE, how="anti"), pl.col("live_day")).select(
        shipped.columns
    )
    replaced = old.join(kept, on=list(KEY_COLUMNS), how="anti", nulls_equal=True)
    intakes = move_out(intakes, replaced, _REPLACED)
    aside = [set_aside(replaced, pl.lit(_REPLACED))]
    kept_parts = [pl.concat([shipped.join(newer, on=_GROUP, how="anti"), kept]), others]
    if not outdated.is_empty():
        old = others.filter(is_live).join(outdated, on=_GROUP, how="semi")
        intakes = move_out(intakes, old, _OUTDATED)
        aside.append(set_aside(old, pl.lit(_OUTDATED)))
        left = others.filter(is_live).join(outdated, on=_GROUP, how="anti")
        kept_parts = [kept_parts[0], others.filter(~is_live), left]
    return pl.concat(kept_parts), intakes, pl.concat(aside)


NO_SPOT_CAPACITY: Final = "no spot capacity when seen: the price stands at the on-demand price"

LEAST_SPOT_SHARE: Final[Mapping[str, float]] = {
    name: cloud.least_spot_share for name, cloud in CLOUDS.items() if cloud.least_spot_share
}
"""Spot over on demand at a cloud's largest discount, where it is known."""

EQUAL: Final = 1e-3
"""Relative difference up to which two prices are equal: spot prices are rounded to four decimals."""

_RENTED_THERE: Final = ("provider", "service", "instance_type", "region")


def mark_spot_ends(offers: pl.DataFrame) -> pl.DataFrame:
    """
    Add a caveat to every spot price that equals the lowest on-demand price of its machine and region, or its floor.

    Args:
        offers: rows with the columns of `BOOK_SCHEMA`; the order is kept.
    """
    is_spot = pl.col("purchase_option") == "spot"
    if not offers.select(is_spot.any()).item():
        return offers
    on_demand = (
        offers.filter(pl.col("purchase_option") == "on_demand")
        .group_by(_RENTED_THERE)
        .agg(pl.col("usd_per_hour").min().alias("_on_demand"))
    )
    share = pl.when(is_spot).then(pl.col("usd_per_hour") / pl.col("_on_demand"))
    floor = pl.col("provider").replace_strict(LEAST_SPOT_SHARE, default=None, return_dtype=pl.Float64)
    mark = (
        pl.when((share - 1).abs() <= EQUAL)
        .then(pl.lit(NO_SPOT_CAPACITY))
        .when((share / floor - 1).abs() <= EQUAL)
        .then(pl.lit(CAVEATS["at_floor"]))
    )
    marked = pl.col("caveat").str.contains_any([NO_SPOT_CAPACITY, CAVEATS["at_floor"]]).fill_null(value=False)
    caveat = pl.concat_str([mark, pl.col("caveat")], separator="; ", ignore_nulls=True)
    return (
        offers.join(on_demand, on=_RENTED_THERE, how="left", maintain_order="left")
        .with_columns(
            pl.when(mark.is_not_null() & ~marked).then(caveat).otherwise(pl.col("caveat")).alias("caveat")
        )
        .drop("_on_demand")
    )
