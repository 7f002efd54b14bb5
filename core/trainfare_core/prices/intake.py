"""
Checks that a row alone passes to become an offer, and counts of the rows that do not; `accept` makes them.

Each row is either accepted, filtered (out of scope by a rule, whose name is kept), or quarantined (it claims to be a
price and is not credible). `book.PriceBook` holds the accepted rows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Final

import polars as pl

from trainfare_core.clouds import INTERRUPTION_BANDS
from trainfare_core.errors import PricesUnavailableError
from trainfare_core.prices.facts import Intake, ReasonCount

PURCHASE_OPTIONS: Final = (
    "on_demand",
    "spot",
    "reserved_1y",
    "reserved_3y",
    "savings_1y",
    "savings_3y",
    "capacity_block",
)
SOURCE_CLASSES: Final = ("price_api", "api_copy", "catalogue", "quote", "own", "unstated")
"""price_api: read from the cloud's own price API; api_copy: a public copy of one; catalogue: a third party's
list; quote: text that quotes a price page; own: the user's negotiated rate."""

KEY_COLUMNS: Final = ("provider", "service", "instance_type", "region", "zone", "purchase_option")
"""What has exactly one price, and the tie-break of every sort."""

BOOK_SCHEMA: Final[Mapping[str, type[pl.DataType]]] = {
    "provider": pl.String,
    "service": pl.String,
    "instance_type": pl.String,
    "region": pl.String,
    "zone": pl.String,
    "accelerator": pl.String,
    "accelerator_count": pl.Float64,
    "accelerator_memory_gib": pl.Float64,
    "vcpus": pl.Float64,
    "memory_gib": pl.Float64,
    "network_gbit_per_s": pl.Float64,
    "usd_per_hour": pl.Float64,
    "purchase_option": pl.String,
    "observed_on": pl.String,
    "observed_on_estimated": pl.Boolean,
    "source": pl.String,
    "source_class": pl.String,
    "sku": pl.String,
    "currency": pl.String,
    "fetched_at": pl.String,
    "origin": pl.String,
    "caveat": pl.String,
    "interruption_band": pl.String,
}
_NEEDED_TEXTS: Final = ("provider", "service", "instance_type", "region", "purchase_option", "source")
_NEEDED_NUMBERS: Final = ("usd_per_hour", "accelerator_count", "accelerator_memory_gib")
_REQUIRED: Final = (*_NEEDED_TEXTS, *_NEEDED_NUMBERS, "accelerator", "observed_on", "currency")
_NUMBERS: Final = tuple(name for name, kind in BOOK_SCHEMA.items() if kind is pl.Float64)

# Stricter than float(): no nan, inf, 1_000, hexadecimal or digits of other scripts.
_DECIMAL: Final = r"^[+-]?[0-9]{1,30}(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?$"
# The longest name in the shipped snapshot has 34 bytes: a name past this limit is a damaged or hostile file.
_MAX_NAME_BYTES: Final = 200
# The most expensive slice sold, 2,048 TPU v4 chips, is under 10,000 USD an hour: more is a placeholder or another unit.
_MAX_USD_PER_HOUR: Final = 1e6

ROUNDING: Final = 1e-4
"""Prices that differ by no more than this share are one price: some lists round to 4 decimals."""


def first_day() -> pl.Expr:
    """
    Return the first day that a date such as 2026, 2026-03 or 2026-03-05 can mean; null where it is no date.

    An age counted from that day is an upper bound.
    """
    text = pl.col("observed_on")
    day = (
        pl.when(text.str.contains(r"^[0-9]{4}$"))
        .then(text + "-01-01")
        .when(text.str.contains(r"^[0-9]{4}-[0-9]{2}$"))
        .then(text + "-01")
        .when(text.str.contains(r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"))
        .then(text)
    )
    return day.str.to_date("%Y-%m-%d", strict=False)


def check_columns(rows: pl.DataFrame, *, origin: str) -> None:
    """
    Check that a table may be one of prices.

    Raises:
        PricesUnavailableError: a required column is missing, or a column of prices has neither text nor numbers.
    """
    missing = [name for name in _REQUIRED if name not in rows.columns]
    if missing:
        raise PricesUnavailableError(f"{origin}: not a price table, it has no column {', '.join(missing)}")
    unread = [name for name in BOOK_SCHEMA if name in rows.columns and not _is_read(name, rows.schema[name])]
    if unread:
        raise PricesUnavailableError(
            f"{origin}: not a price table, {', '.join(unread)} has neither text nor numbers"
        )


def _is_read(name: str, kind: pl.DataType) -> bool:
    """Whether a column of a type can be one of prices: polars cannot convert bytes, durations and nested types."""
    if kind.is_nested() or isinstance(kind, pl.Binary | pl.Duration | pl.Object):
        return False
    return not kind.is_temporal() or BOOK_SCHEMA[name] is pl.String


def judge_alone(rows: pl.DataFrame, *, origin: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """
    Look at each row alone and at the other rows of its key.

    Returns:
        the rows that are prices and those that are not, with all columns of `BOOK_SCHEMA`; and with the reason in
        `_quarantine` or `_filter`.

    Raises:
        PricesUnavailableError: a required column is missing.
    """
    check_columns(rows, origin=origin)
    typed = _cast_columns(rows, origin)
    out_of_scope = _first_true({"machine without an accelerator": pl.col("accelerator").is_null()})
    accepted, refused = split_rows(typed.with_columns(_quarantine_reason(), out_of_scope.alias("_filter")))
    if _has_repeats(accepted):
        accepted, repeated = split_rows(_judge_repeats(accepted))
        refused = pl.concat([refused, repeated])
    return accepted, refused


def split_rows(marked: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the rows without a reason in `_quarantine` or `_filter`, and those with one."""
    sound = pl.col("_quarantine").is_null() & pl.col("_filter").is_null()
    return marked.filter(sound), marked.filter(~sound)


def set_aside(dropped: pl.DataFrame, reason: pl.Expr) -> pl.DataFrame:
    """Return rows that are not used as prices: the columns of `BOOK_SCHEMA`, and `set_aside`, the reason in words."""
    return dropped.select(*BOOK_SCHEMA, reason.alias("set_aside"))


def _cast_columns(rows: pl.DataFrame, origin: str) -> pl.DataFrame:
    """Give every column its type; a number that cannot be read becomes NaN, which no rule treats as blank."""
    columns: list[pl.Expr] = []
    for name, kind in BOOK_SCHEMA.items():
        if name == "origin":
            columns.append(pl.lit(origin).alias(name))
        elif name not in rows.columns:
            blank = False if kind is pl.Boolean else None
            columns.append(pl.lit("unstated" if name == "source_class" else blank, dtype=kind()).alias(name))
        elif kind is pl.Float64:
            columns.append(_number(name, is_text=rows.schema[name] == pl.String))
        elif kind is pl.String:
            text = pl.col(name).cast(pl.String)
            # Another text than the Spot Advisor's is read as not known.
            known = text.is_in(INTERRUPTION_BANDS) if name == "interruption_band" else text != ""
            columns.append(pl.when(known).then(text).alias(name))
        else:
            columns.append(pl.col(name).cast(kind()).fill_null(value=False))
    return rows.select(columns)


def _number(name: str, *, is_text: bool) -> pl.Expr:
    if not is_text:
        return pl.col(name).cast(pl.Float64)
    text = pl.col(name)
    number = pl.when(text.str.contains(_DECIMAL)).then(text).cast(pl.Float64, strict=False)
    return pl.when(text != "").then(number.fill_null(float("nan"))).alias(name)


def _quarantine_reason() -> pl.Expr:
    """Return the first reason why a row is not a price, or null."""
    price, count = pl.col("usd_per_hour"), pl.col("accelerator_count")
    blank = pl.any_horizontal(pl.col(name).is_null() for name in _NEEDED_TEXTS)
    long = pl.any_horizontal(
        pl.col(name).str.len_bytes().fill_null(0) > _MAX_NAME_BYTES for name in (*KEY_COLUMNS, "accelerator")
    )
    odd = pl.any_horizontal(
        pl.col(name).is_not_null() & ~(pl.col(name).is_finite() & (pl.col(name) >= 0))
        for name in _NUMBERS
        if name not in ("usd_per_hour", "accelerator_count")
    )
    rules = {
        "a name, the purchase option or the source is blank": blank,
        f"a name is longer than {_MAX_NAME_BYTES} bytes": long,
        "unknown purchase option": ~pl.col("purchase_option").is_in(PURCHASE_OPTIONS),
        "unknown source class": ~pl.col("source_class").is_in(SOURCE_CLASSES).fill_null(value=False),
        "currency is not USD": (pl.col("currency") != "USD").fill_null(value=True),
        "price is not a finite number above 0": ~(price.is_finite() & (price > 0)).fill_null(value=False),
        f"price is above {_MAX_USD_PER_HOUR:,.0f} USD an hour": price > _MAX_USD_PER_HOUR,
        "date is not YYYY, YYYY-MM or YYYY-MM-DD": first_day().is_null(),
        "accelerator count is not a finite number above 0": pl.col("accelerator").is_not_null()
        & ~(count.is_finite() & (count > 0)).fill_null(value=False),
        "accelerator memory is not above 0": pl.col("accelerator").is_not_null()
        & ~(pl.col("accelerator_memory_gib") > 0).fill_null(value=False),
        "a size is not a finite number": odd,
    }
    return _first_true(rules).alias("_quarantine")


def _first_true(rules: Mapping[str, pl.Expr]) -> pl.Expr:
    return pl.coalesce([pl.when(test).then(pl.lit(reason)) for reason, test in rules.items()])


def _join_key() -> pl.Expr:
    return pl.struct([pl.col(name) for name in KEY_COLUMNS])


def _has_repeats(frame: pl.DataFrame) -> bool:
    # Equal keys have equal hashes: as many hashes as rows proves that no key repeats, at a tenth of the cost.
    return int(frame.select(_join_key().hash().n_unique()).item() or 0) < frame.height


def _judge_repeats(frame: pl.DataFrame) -> pl.DataFrame:
    """Quarantine keys with two prices; of rows that repeat one price, or a rounding of it, keep the newest."""
    keys, price = list(KEY_COLUMNS), pl.col("usd_per_hour")
    differ = price.max().over(keys) > price.min().over(keys) * (1 + ROUNDING)
    newest_first = frame.sort(
        ["observed_on", "fetched_at", "source", "origin", *BOOK_SCHEMA],
        descending=[True, True, *[False] * (2 + len(BOOK_SCHEMA))],
        nulls_last=True,
    )
    return newest_first.with_columns(
        pl.when(differ)
        .then(pl.lit("two different prices for one machine, region, zone and option"))
        .alias("_quarantine"),
        pl.when(~differ & ~_join_key().is_first_distinct())
        .then(pl.lit("the same price again"))
        .alias("_filter"),
    )


def _counts_by_reason(frame: pl.DataFrame, column: str) -> dict[tuple[str, str], tuple[ReasonCount, ...]]:
    """Return the number of rows for each reason in a column, by provider and service."""
    groups = frame.filter(pl.col(column).is_not_null()).group_by("provider", "service", column).len()
    found: dict[tuple[str, str], list[ReasonCount]] = defaultdict(list)
    for provider, service, reason, rows in groups.sort("provider", "service", column).iter_rows():
        found[provider, service].append(ReasonCount(reason, rows))
    return {key: tuple(counts) for key, counts in found.items()}


def count_rows(accepted_rows: pl.DataFrame, refused: pl.DataFrame, origin: str) -> tuple[Intake, ...]:
    """Return the counts of accepted rows and of `judge_alone`' others, one `Intake` per cloud service."""
    group = [pl.col(name).fill_null("(none)").str.slice(0, 100) for name in ("provider", "service")]
    refused = refused.with_columns(group)
    totals = accepted_rows.group_by("provider", "service").len().iter_rows()
    accepted: dict[tuple[str, str], int] = {(provider, service): rows for provider, service, rows in totals}
    quarantined = _counts_by_reason(refused, "_quarantine")
    filtered = _counts_by_reason(refused.filter(pl.col("_quarantine").is_null()), "_filter")
    return tuple(
        Intake(origin, *key, 0, 0).add(
            filtered.get(key, ()), quarantined.get(key, ()), accepted=accepted.get(key, 0)
        )
        for key in sorted({*accepted, *quarantined, *filtered})
    )


def settle_overlaps(
    frame: pl.DataFrame, intakes: tuple[Intake, ...]
) -> tuple[pl.DataFrame, tuple[Intake, ...], pl.DataFrame | None]:
    """
    Leave one price a key where books overlap: the newest; where the newest differ, none.

    Returns:
        the rows that stay, the intakes with what was dropped moved out of `accepted`, and the rows `set_aside`.
    """
    if not _has_repeats(frame):
        return frame, intakes, None
    keys = list(KEY_COLUMNS)
    # A fetched price is as new as its fetch, however long it has been in force.
    seen_at = pl.coalesce(pl.col("fetched_at"), pl.col("observed_on"))
    aged = frame.with_columns(seen_at.alias("_seen_at"))
    newest = aged.filter(pl.col("_seen_at") == pl.col("_seen_at").max().over(keys))
    older = aged.filter(pl.col("_seen_at") < pl.col("_seen_at").max().over(keys))
    accepted, repeated = split_rows(_judge_repeats(newest))
    dropped = pl.concat(
        [
            repeated,
            older.with_columns(
                pl.lit(None, dtype=pl.String).alias("_quarantine"),
                pl.lit("an older price than another source's").alias("_filter"),
            ).select(repeated.columns),
        ]
    )
    accepted = accepted.select(*BOOK_SCHEMA)
    aside = set_aside(dropped, pl.coalesce("_quarantine", "_filter"))
    return accepted, tuple(_move_rows(intake, dropped) for intake in _merge_intakes(intakes)), aside


def move_out(intakes: tuple[Intake, ...], dropped: pl.DataFrame, reason: str) -> tuple[Intake, ...]:
    """
    Return the intakes with rows that were accepted once and are left out now counted as filtered.

    Args:
        intakes: of the book that the rows come from.
        dropped: the rows, with `origin`, `provider` and `service`.
        reason: the rule that left them out.
    """
    if dropped.is_empty():
        return intakes
    marked = dropped.with_columns(
        pl.lit(None, dtype=pl.String).alias("_quarantine"), pl.lit(reason).alias("_filter")
    )
    return tuple(_move_rows(intake, marked) for intake in _merge_intakes(intakes))


def _merge_intakes(intakes: tuple[Intake, ...]) -> tuple[Intake, ...]:
    """Add up the intakes of one origin and cloud service."""
    intakes_by_key: dict[tuple[str, str, str], Intake] = {}
    for intake in intakes:
        key = (intake.origin, intake.provider, intake.service)
        was = intakes_by_key.get(key)
        intakes_by_key[key] = (
            intake if was is None else was.add(intake.filtered, intake.quarantined, accepted=intake.accepted)
        )
    return tuple(intakes_by_key.values())


def _move_rows(intake: Intake, dropped: pl.DataFrame) -> Intake:
    """Return the intake with the rows that an overlap dropped counted as filtered or quarantined."""
    ours = dropped.filter(pl.col("origin") == intake.origin)
    key = (intake.provider, intake.service)
    quarantined = _counts_by_reason(ours, "_quarantine").get(key, ())
    filtered = _counts_by_reason(ours.filter(pl.col("_quarantine").is_null()), "_filter").get(key, ())
    return intake.drop(filtered, quarantined)
