"""Mark spot prices that stand at the on-demand price: the sign of a zone without spot capacity (part of stage 2)."""

from __future__ import annotations

from typing import Final

import polars as pl

NO_SPOT_CAPACITY: Final = "no spot capacity when seen: the price stands at the on-demand price"

_EQUAL: Final = 1e-3
"""Relative difference up to which two prices are equal: spot prices are rounded to four decimals."""

_MACHINE: Final = ("provider", "service", "instance_type", "region")


def mark_no_spot_capacity(offers: pl.DataFrame) -> pl.DataFrame:
    """
    Add a caveat to every spot price that equals the lowest on-demand price of its machine and region.

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
    equal = is_spot & ((pl.col("usd_per_hour") / pl.col("_on_demand") - 1).abs() <= _EQUAL)
    unmarked = ~pl.col("caveat").str.contains(NO_SPOT_CAPACITY, literal=True).fill_null(value=False)
    caveat = pl.concat_str([pl.lit(NO_SPOT_CAPACITY), pl.col("caveat")], separator="; ", ignore_nulls=True)
    return (
        offers.join(on_demand, on=_MACHINE, how="left", maintain_order="left")
        .with_columns(pl.when(equal & unmarked).then(caveat).otherwise(pl.col("caveat")).alias("caveat"))
        .drop("_on_demand")
    )
