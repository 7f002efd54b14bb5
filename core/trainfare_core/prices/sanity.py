"""
Checks of prices beside each other, and the rule by which a refresh may replace the last good prices.

`intake.judge_alone` looks at each row alone. The checks here compare it with the same machine on demand, with smaller
machines of the same accelerator, with the maker's data sheet, and with the last good prices.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import polars as pl

from trainfare_core.hardware.accelerators import accelerators
from trainfare_core.number_format import percent
from trainfare_core.prices.intake import BOOK_SCHEMA, KEY_COLUMNS, ROUNDING

MAX_JUMP: Final = 5.0
"""A price that moves by more than this factor is accepted only when a second fetch confirms it.

A chosen value, above true cuts: AWS cut the p5's price by a factor of 1.8 in 2025-06."""

_CONFIRMED_WITHIN: Final = 1.5
"""A second fetch confirms a price within this factor. A chosen value: spot prices move by the hour."""

_MEMORY_TOLERANCE: Final = 0.10
"""A10G and B200 report 1-7 % less than they are sold with; the five times too much of Trainium2 is an error."""

_MIN_ROWS_KEPT: Final = 0.5
"""A list that loses more than half of its rows is taken for incomplete. A chosen value."""

_MAX_FACTOR: Final = 10.0
_MIN_WITHIN_FACTOR: Final = 0.95
"""More than 5 % of the prices moving tenfold is taken for a change of unit or currency. Both are chosen values."""

MACHINE: Final = ("provider", "service", "instance_type", "region")
_WHY: Final = "_quarantine"

_LEAST_COMMITTED: Final = 0.1
"""A committed price below this share of the on-demand price is one hour's price divided by the hours of a whole term.

A chosen value: the lowest true one in the snapshot is 0.34 (a2-highgpu, us-west3, 3 years), or 0.27 beside the
most expensive zone of a region, with which it is compared; a price divided twice is below 0.0002."""

ABOVE_ON_DEMAND: Final = "spot price above the on-demand price"
COMMITTED_ABOVE: Final = "reservation or savings plan above the on-demand price"
BLOCK_ABOVE: Final = "Capacity Block or training plan above the on-demand price"
COMMITTED_BELOW: Final = (
    f"reservation or savings plan below {percent(_LEAST_COMMITTED)} of the on-demand price"
)
MORE_FOR_LESS: Final = "more accelerators for less than fewer of them cost"
MEMORY: Final = "accelerator memory is not what the maker says"
COUNT: Final = "accelerator count is neither whole nor a share of one"
TWO_SHAPES: Final = "one machine with two different accelerators or counts"
JUMPED: Final = (
    f"price moved more than {MAX_JUMP:g} times since the last fetch; a second fetch must confirm it"
)
RESHAPED: Final = "accelerators of the machine changed since the last fetch; a second fetch must confirm it"


CONFIRMABLE: Final = (JUMPED, RESHAPED)
"""Reasons of rows that the next fetch can confirm."""


@dataclass(frozen=True, slots=True)
class LastPrices:
    """
    What new prices are compared with; without either they are compared only with each other.

    Attributes:
        rows: the prices they would replace.
        unconfirmed: rows of the fetch before this one that await confirmation.
    """

    rows: pl.DataFrame | None = None
    unconfirmed: pl.DataFrame | None = None


def judge_beside(accepted: pl.DataFrame, last: LastPrices) -> pl.DataFrame:
    """
    Return rows, each a price by itself, sorted and with the reason in `_quarantine` where others contradict them.

    Args:
        accepted: of `intake.judge_alone`.
        last: what they are compared with.
    """
    known, previous = (
        accepted.select(*BOOK_SCHEMA).head(0) if rows is None else rows.select(*BOOK_SCHEMA)
        for rows in (last.rows, last.unconfirmed)
    )
    judged = _two_shapes(_wrong_count(_wrong_memory(accepted)))
    judged = _refuse_changed_prices(judged, known, previous)
    # These two compare rows with each other, so rows that are refused already are left out of them.
    judged = _more_for_less(_beside_on_demand(judged, known))
    return judged.sort(list(KEY_COLUMNS))


def why_not_replaced(new: pl.DataFrame, old: pl.DataFrame) -> str | None:
    """
    Return why new prices may not replace old ones of the same cloud service, or None where they may.

    They must be at least half as many, and 95 % of the prices that both have within a factor of 10.
    """
    if new.is_empty():
        return "not one usable price came"
    if new.height < _MIN_ROWS_KEPT * old.height:
        return f"only {new.height:,} prices came, {old.height:,} were there"
    both = new.join(old, on=list(KEY_COLUMNS), how="inner", nulls_equal=True, suffix="_old")
    factor = pl.col("usd_per_hour") / pl.col("usd_per_hour_old")
    within = both.filter(factor.is_between(1 / _MAX_FACTOR, _MAX_FACTOR)).height
    if within < _MIN_WITHIN_FACTOR * both.height:
        far = both.height - within
        return f"{far:,} of {both.height:,} prices moved by more than a factor of {_MAX_FACTOR:g}"
    return None


def _mark(rows: pl.DataFrame, wrong: pl.Expr, why: str) -> pl.DataFrame:
    """Set the reason of the rows that are wrong and have none yet."""
    return rows.with_columns(
        pl.when(pl.col(_WHY).is_null() & wrong.fill_null(value=False))
        .then(pl.lit(why))
        .otherwise(pl.col(_WHY))
        .alias(_WHY)
    )


def _wrong_memory(rows: pl.DataFrame) -> pl.DataFrame:
    stated = pl.DataFrame(
        {
            "accelerator": [accelerator.name for accelerator in accelerators()],
            "_stated": [accelerator.memory_bytes / 2**30 for accelerator in accelerators()],
        }
    )
    off = (pl.col("accelerator_memory_gib") / pl.col("_stated") - 1).abs() > _MEMORY_TOLERANCE
    return _mark(rows.join(stated, on="accelerator", how="left"), off, MEMORY).drop("_stated")


def _wrong_count(rows: pl.DataFrame) -> pl.DataFrame:
    count = pl.col("accelerator_count")
    return _mark(rows, (count > 1) & (count != count.round()), COUNT)


def _two_shapes(rows: pl.DataFrame) -> pl.DataFrame:
    """Refuse the rarer shape of a machine that has two; where both are equally frequent, refuse both."""
    machine = ["provider", "instance_type"]
    shape = [*machine, "accelerator", "accelerator_count"]
    counts = rows.filter(pl.col(_WHY).is_null()).group_by(shape).agg(pl.len().alias("_rows"))
    top = counts.with_columns(pl.col("_rows").max().over(machine).alias("_most"))
    top = top.filter(pl.col("_rows") == pl.col("_most"))
    top = top.filter(pl.len().over(machine) == 1).select(*shape, pl.lit(value=True).alias("_right"))
    marked = rows.join(top, on=shape, how="left")
    return _mark(marked, pl.col("_right").is_null(), TWO_SHAPES).drop("_right")


def _refuse_changed_prices(rows: pl.DataFrame, known: pl.DataFrame, previous: pl.DataFrame) -> pl.DataFrame:
    """Refuse a price too far from the last good one, unless the previous fetch confirms it."""
    shape = ["accelerator", "accelerator_count"]
    beside = rows
    for frame, end in ((known, "_last"), (previous, "_previous")):
        facts = frame.select(*KEY_COLUMNS, *shape, "usd_per_hour").unique(subset=KEY_COLUMNS, keep="any")
        facts = facts.rename({name: name + end for name in (*shape, "usd_per_hour")})
        beside = beside.join(facts, on=list(KEY_COLUMNS), how="left", nulls_equal=True)
    confirmed = (
        _within("usd_per_hour_previous", _CONFIRMED_WITHIN)
        & (pl.col("accelerator_previous") == pl.col("accelerator"))
        & (pl.col("accelerator_count_previous") == pl.col("accelerator_count"))
    ).fill_null(value=False)
    reshaped = (pl.col("accelerator_last") != pl.col("accelerator")) | (
        pl.col("accelerator_count_last") != pl.col("accelerator_count")
    )
    marked = _mark(beside, reshaped & ~confirmed, RESHAPED)
    return _mark(marked, ~_within("usd_per_hour_last", MAX_JUMP) & ~confirmed, JUMPED).select(rows.columns)


def _within(other: str, factor: float) -> pl.Expr:
    return (pl.col("usd_per_hour") / pl.col(other)).is_between(1 / factor, factor)


def _beside_on_demand(rows: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
    """
    Refuse spot and committed prices that the on-demand price contradicts: of the same fetch, else the last good one.

    No reservation, block or spot capacity is sold above the on-demand price of the same machine.
    """
    refused: list[pl.DataFrame] = []
    for frame in (rows.filter(pl.col(_WHY).is_null()), known):
        on_demand = frame.filter(pl.col("purchase_option") == "on_demand")
        refused.append(on_demand.group_by(MACHINE).agg(pl.col("usd_per_hour").max().alias("_on_demand")))
    ours, theirs = refused
    compared = pl.concat([ours, theirs.join(ours, on=list(MACHINE), how="anti")])
    above = pl.col("usd_per_hour") > pl.col("_on_demand") * (1 + ROUNDING)
    below = pl.col("usd_per_hour") < pl.col("_on_demand") * _LEAST_COMMITTED
    committed = pl.col("purchase_option").str.contains("^(reserved|savings)_")
    marked = rows.join(compared, on=list(MACHINE), how="left")
    marked = _mark(marked, (pl.col("purchase_option") == "spot") & above, ABOVE_ON_DEMAND)
    marked = _mark(marked, committed & above, COMMITTED_ABOVE)
    marked = _mark(marked, (pl.col("purchase_option") == "capacity_block") & above, BLOCK_ABOVE)
    return _mark(marked, committed & below, COMMITTED_BELOW).drop("_on_demand")


def _more_for_less(rows: pl.DataFrame) -> pl.DataFrame:
    """
    Refuse a price below that of a machine with fewer of the same accelerator and no more of anything else.

    Spot is left out: its markets are independent. One of the two prices is wrong, and nothing says which, so both
    are refused.
    """
    machine_columns = ["provider", "service", "region", "zone", "purchase_option", "accelerator"]
    size = ["accelerator_count", "vcpus", "memory_gib", "usd_per_hour"]
    firm = rows.filter(pl.col(_WHY).is_null() & (pl.col("purchase_option") != "spot"))
    some = firm.select(*machine_columns, *size).unique()
    pairs = some.join(some, on=machine_columns, how="inner", nulls_equal=True, suffix="_more")
    host = pl.all_horizontal(
        (pl.col(f"{name}_more") >= pl.col(name)).fill_null(value=True) for name in ("vcpus", "memory_gib")
    )
    odd = pairs.filter(
        (pl.col("accelerator_count_more") > pl.col("accelerator_count"))
        & (pl.col("usd_per_hour_more") < pl.col("usd_per_hour") * (1 - ROUNDING))
        & host
    )
    smaller = odd.select(*machine_columns, *size)
    larger = odd.select(*machine_columns, *(pl.col(f"{name}_more").alias(name) for name in size))
    both = pl.concat([smaller, larger]).unique().with_columns(pl.lit(value=True).alias("_odd"))
    marked = rows.join(both, on=[*machine_columns, *size], how="left", nulls_equal=True)
    return _mark(marked, pl.col("_odd"), MORE_FOR_LESS).drop("_odd")
