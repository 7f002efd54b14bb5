"""
Sums of a bill by run, service, month and account: all that is kept of its lines.

The queries of `trainfare_core.bills.query` return the same table, so that their result is a bill, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Final

import polars as pl

from trainfare_core.bills.files import BillFile
from trainfare_core.bills.formats import COSTS, FORMATS, LARGEST, BillFormat, find_bad_numbers, is_tag_column
from trainfare_core.errors import InputError

KEYS: Final = ("run", "period", "account", "currency", "service", "resource", "adjusted", "doubt")
"""Of a row: `resource` of what carries a run's tag, and of what may be found by it; `period` as `2026-10`."""
MEASURES: Final = (*COSTS, "credit", "hours")
"""Each has a sum of the lines that say it, and the number of lines that do not, `<measure>_unknown`."""
SUMS: Final = (*MEASURES, *(f"{name}_unknown" for name in MEASURES), "lines")
_TABLE: Final = "sums by run and month"


def add_lines(file: BillFile) -> tuple[str, pl.DataFrame, str | None]:
    """
    Return the format of a file, its sums by `KEYS`, and a note on its columns.

    Raises:
        InputError: the file cannot be read, lacks a mandatory column, or has text where a number belongs.
    """
    with file.name_faults():
        frame = file.scan()
        schema = frame.collect_schema()
        if set(schema) >= {*KEYS, *SUMS, "bill_format"}:
            return _read_sums(frame.collect(engine="streaming"), file.name)
        bill_format = _find_format(file.name, schema)
        # One pass: what is bad is found beside the sums.
        bad = find_bad_numbers(schema)
        lines = frame.select(
            *bill_format.select_lines(schema), *(value.alias(f"bad {name}") for name, value in bad.items())
        )
        sums = _add(lines, [*bad]).collect(engine="streaming")
    wrong = [name for name in bad if sums[f"bad {name}"].any()]
    if not wrong and (sums["hours"].abs() >= LARGEST).any():
        wrong.append("hours")
    if wrong:
        raise InputError(f"{file.name}: {', '.join(wrong)}: a value is not a number below {LARGEST:g}")
    tags = " or ".join(bill_format.tags)
    has_tags = any(name in bill_format.tags or is_tag_column(name) for name in schema)
    note = (
        None
        if has_tags
        else f"{PurePath(file.name).name} has no column of tags ({tags}): no run can be found"
    )
    return bill_format.name, sums.select(*KEYS, *SUMS), note


def merge_sums(table: pl.DataFrame) -> pl.DataFrame:
    """Add up months and accounts, so that a bill of many files takes no more memory than its runs and services."""
    keys = [name for name in KEYS if name not in ("period", "account")]
    return table.group_by(keys).agg(pl.col(SUMS).sum())


def _add(lines: pl.LazyFrame, bad: list[str]) -> pl.LazyFrame:
    # Of other lines the resource is of no use, and there may be millions.
    named = pl.when(pl.col("run").is_not_null() | pl.col("adjusted")).then("resource")
    return (
        lines.with_columns(resource=named)
        .group_by(KEYS)
        .agg(
            pl.col(MEASURES).sum(),
            pl.col(MEASURES).null_count().name.suffix("_unknown"),
            pl.len().alias("lines"),
            *(pl.col(f"bad {name}").any() for name in bad),
        )
    )


def _read_sums(table: pl.DataFrame, name: str) -> tuple[str, pl.DataFrame, str | None]:
    """Return what a query gave, with its types."""
    counts = [column for column in SUMS if column not in MEASURES]
    try:
        sums = table.select(
            pl.col("bill_format"),
            pl.col(KEYS).cast(pl.String),
            pl.col(MEASURES).cast(pl.Float64),
            pl.col(counts).cast(pl.Int64),
        ).with_columns(pl.col("adjusted").str.to_lowercase() == "true")
    except pl.exceptions.InvalidOperationError:
        raise InputError(f"{name}: a sum is not a number: is it the result of the printed query?") from None
    formats = sums["bill_format"].unique().to_list()
    known = {item.name for item in FORMATS}
    good = sums.select((pl.col(MEASURES).is_null() | (pl.col(MEASURES).abs() < LARGEST)).all())
    if len(formats) != 1 or formats[0] not in known or sums["lines"].has_nulls() or not all(good.row(0)):
        raise InputError(f"{name}: these are no {_TABLE} as the printed query gives them")
    return formats[0], sums.select(*KEYS, *SUMS), None


def _find_format(name: str, schema: Mapping[str, object]) -> BillFormat:
    """Return the format with most of its mandatory columns, which must be all."""
    missing = {item.name: [column for column in item.mandatory if column not in schema] for item in FORMATS}
    nearest = min(FORMATS, key=lambda item: len(missing[item.name]) / len(item.mandatory))
    if missing[nearest.name]:
        names = ", ".join(missing[nearest.name])
        raise InputError(f"{name}: not a bill in FOCUS 1.2 or CUR 2.0: of {nearest.name} it lacks {names}")
    return nearest
