"""Mark spot prices at their ends: the on-demand price, and the least that a cloud sells for (part of stage 2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import polars as pl

from trainfare_core.clouds import CLOUDS

NO_SPOT_CAPACITY: Final = "no spot capacity when seen: the price stands at the on-demand price"
AT_FLOOR: Final = "the provider's floor: the least share of the on-demand price at which it sells spot"

LEAST_SPOT_SHARE: Final[Mapping[str, float]] = {
    name: cloud.least_spot_share for name, cloud in CLOUDS.items() if cloud.least_spot_share
}
"""Spot over on demand at a cloud's largest discount, where it is known."""

EQUAL: Final = 1e-3
"""Relative difference up to which two prices are equal: spot prices are rounded to four decimals."""

_MACHINE: Final = ("provider", "service", "instance_type", "region")


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
        .group_by(_MACHINE)
        .agg(pl.col("usd_per_hour").min().alias("_on_demand"))
    )
    share = pl.when(is_spot).then(pl.col("usd_per_hour") / pl.col("_on_demand"))
    floor = pl.col("provider").replace_strict(LEAST_SPOT_SHARE, default=None, return_dtype=pl.Float64)
    mark = (
        pl.when((share - 1).abs() <= EQUAL)
        .then(pl.lit(NO_SPOT_CAPACITY))
        .when((share / floor - 1).abs() <= EQUAL)
        .then(pl.lit(AT_FLOOR))
    )
    marked = pl.col("caveat").str.contains_any([NO_SPOT_CAPACITY, AT_FLOOR]).fill_null(value=False)
    caveat = pl.concat_str([mark, pl.col("caveat")], separator="; ", ignore_nulls=True)
    return (
        offers.join(on_demand, on=_MACHINE, how="left", maintain_order="left")
        .with_columns(
            pl.when(mark.is_not_null() & ~marked).then(caveat).otherwise(pl.col("caveat")).alias("caveat")
        )
        .drop("_on_demand")
    )
