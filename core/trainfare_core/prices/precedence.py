"""
Which price book is used for a cloud service where several have prices of it (part of stage 2).

A plug-in with its cloud's own name (`aws` for aws) has read that cloud's whole price list of the regions that it names.
Its rows of a service, purchase option and region replace all of the snapshot's rows of them, not only those with the
same key: a machine that the list no longer has is not offered any more. Other plug-ins are joined key by key
(`settle_overlaps`).
"""

from __future__ import annotations

from typing import Final

import polars as pl

from trainfare_core.prices.facts import Intake
from trainfare_core.prices.intake import first_day, move_out, set_aside

SNAPSHOT: Final = "snapshot"
"""Origin of the prices that the package ships."""

OTHER_CLOUDS: Final = "other_clouds"
"""Origin of quotes of clouds whose hosts are not described: ranked and listed only when asked for."""

OWN_RATES: Final = "own"
"""Origin of negotiated rates: they are in force by contract, however long ago they were agreed."""

_REPLACED: Final = "replaced by newer live prices"
_OUTDATED: Final = "fetched before the shipped snapshot's date"

_GROUP: Final = ("provider", "service", "purchase_option", "region")


def replace_snapshot(
    frame: pl.DataFrame, intakes: tuple[Intake, ...]
) -> tuple[pl.DataFrame, tuple[Intake, ...], pl.DataFrame | None]:
    """
    Leave one list per service, purchase option and region: the cloud's own where it is there, else the snapshot's.

    The newer one stays: a list fetched before the latest date of the snapshot's rows is replaced by them, as happens
    when the package was updated since. Replaced rows are counted as filtered.

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
    fetched = pl.col("fetched_at").str.slice(0, 10).str.to_date("%Y-%m-%d", strict=False)
    live_days = (
        others.filter(is_live)
        .group_by(_GROUP)
        .agg(pl.col("fetched_at", "observed_on").max())
        .select(*_GROUP, pl.coalesce(fetched, first_day()).alias("live_day"))
    )
    both = (
        shipped.group_by(_GROUP)
        .agg(first_day().max().alias("shipped_day"))
        .join(live_days, on=_GROUP)
        .with_columns((pl.col("live_day") < pl.col("shipped_day")).fill_null(value=False).alias("outdated"))
    )
    newer, outdated = both.filter(~pl.col("outdated")), both.filter("outdated")
    old = shipped.join(newer, on=_GROUP, how="semi")
    intakes = move_out(intakes, old, _REPLACED)
    aside = [set_aside(old, pl.lit(_REPLACED))]
    kept_parts = [shipped.join(newer, on=_GROUP, how="anti"), others]
    if not outdated.is_empty():
        old = others.filter(is_live).join(outdated, on=_GROUP, how="semi")
        intakes = move_out(intakes, old, _OUTDATED)
        aside.append(set_aside(old, pl.lit(_OUTDATED)))
        left = others.filter(is_live).join(outdated, on=_GROUP, how="anti")
        kept_parts = [kept_parts[0], others.filter(~is_live), left]
    return pl.concat(kept_parts), intakes, pl.concat(aside)
