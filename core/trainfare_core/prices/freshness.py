"""
Age of a price at a given moment, and whether it counts as fresh (part of stage 2).

A price's age is counted from the last time its source confirmed it: `fetched_at` where it was fetched, else the first
day that its date can mean. The moment is always an argument; nothing here reads a clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, timedelta, timezone
from typing import Final

import polars as pl

from trainfare_core.prices.intake import first_day
from trainfare_core.prices.precedence import OWN_RATES, UNLISTED_DAYS, is_unlisted

FRESH_HOURS: Final = 24.0
"""Age up to which a list price counts as fresh: one daily update keeps it so. A chosen value."""

SPOT_FRESH_HOURS: Final = 1.0
"""The same of a spot price, which clouds may change within the hour. A chosen value."""

USABLE_DAYS: Final = 30
"""Prices that were fetched longer ago are ranked only when the user allows it. A chosen value."""

CLOCK_SLACK_HOURS: Final = 1.0
"""Tolerated difference between the clocks of two machines: a price dated further ahead has an unknown age."""

_FRESH_HOURS: Final[Mapping[str, float]] = {"spot": SPOT_FRESH_HOURS}


def fresh_hours(purchase_option: str) -> float:
    """Return for how many hours a price of this purchase option counts as fresh."""
    return _FRESH_HOURS.get(purchase_option, FRESH_HOURS)


def end_of_day(day: date) -> datetime:
    """Return the last second of a day in UTC: an age counted to it is an upper bound."""
    return datetime(day.year, day.month, day.day, 23, 59, 59, tzinfo=timezone.utc)


def with_ages(offers: pl.DataFrame, now: datetime) -> pl.DataFrame:
    """
    Add the age of each price.

    Args:
        offers: columns `observed_on`, `fetched_at`, `purchase_option`, `origin` and `caveat`.
        now: an aware moment.

    Returns:
        the rows with `age_hours`, never negative, null where it is not known; `ahead`, dated later than now;
        `fresh`; and `outlived`, fetched more than USABLE_DAYS ago (UNLISTED_DAYS where the newest list lacks it) or by
        a clock that cannot be right.
    """
    fetched = pl.col("fetched_at").str.to_datetime("%+", strict=False, time_zone="UTC", time_unit="us")
    dated = first_day().cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    was_fetched = pl.col("fetched_at").is_not_null()
    seen_at = pl.when(was_fetched).then(fetched).otherwise(dated)
    moment = pl.lit(now.astimezone(timezone.utc).replace(tzinfo=None), dtype=pl.Datetime("us"))
    hours = (moment.dt.replace_time_zone("UTC") - seen_at).dt.total_microseconds() / _US_PER_HOUR
    limit = pl.when(pl.col("purchase_option") == "spot").then(SPOT_FRESH_HOURS).otherwise(FRESH_HOURS)
    aged = offers.with_columns(
        pl.when(hours >= -CLOCK_SLACK_HOURS).then(hours.clip(lower_bound=0.0)).alias("age_hours"),
        (hours < -CLOCK_SLACK_HOURS).fill_null(value=False).alias("ahead"),
    )
    known = pl.col("age_hours").is_not_null()
    usable_days = pl.when(is_unlisted()).then(UNLISTED_DAYS).otherwise(USABLE_DAYS)
    contract = (pl.col("origin") == OWN_RATES) & known
    return aged.with_columns(
        (contract | (known & (pl.col("age_hours") <= limit))).alias("fresh"),
        (was_fetched & ~(pl.col("age_hours") <= usable_days * 24.0).fill_null(value=False)).alias("outlived"),
    )


_US_PER_HOUR: Final = timedelta(hours=1) / timedelta(microseconds=1)
