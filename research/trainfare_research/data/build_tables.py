"""
Make our tables of measurements from the collected ones.

    python -m trainfare_research.data.build_tables --from DIR [-o FOLDER]

DIR has the folders `calibration`, `strategy`, `cost_decline` and `prices` with CSV files (some gzipped). Each becomes
one Parquet file of the same name: numbers as numbers where every cell reads back as it was written, else text; an
empty cell is null. Remarks keep facts, not sentences (`notes.py`); columns in `LEFT_OUT`, which no command reads, are
left out. Every row keeps the name of its source, and `sources.csv` has the licence of each: a source without a line
there is an error. The same tables give the same bytes (with the same polars).
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import polars as pl

from trainfare_research.data import TABLES
from trainfare_research.data.notes import shorten_network, shorten_notes
from trainfare_research.truth_table import read_rows

COLLECTED: Final = {
    "calibration": (
        "throughput_train.csv", "throughput_train_2.csv", "time_to_train.csv", "time_to_train_2.csv", "kernels.csv.gz",
        "microbench_achieved.csv", "collectives_allreduce.csv.gz",
    ),
    "step_time_4": ("steps.csv",),
    "strategy": (
        "memory_reference.csv", "memory_reference_2.csv", "transfer_results.csv", "learning_curves.csv",
    ),
    "cost_decline": ("technology_curves.csv", "technology_summary.csv"),
    "prices": ("price_history.csv", "offers.csv", "offers_2026-11.csv"),
}  # fmt: skip
"""Files by folder."""
SHORTENED: Final[dict[str, Callable[[str], str]]] = {
    "notes": shorten_notes,
    "other_flags": shorten_notes,
    "interconnect": shorten_network,
    "host_networking": shorten_network,
}
"""Columns of remarks, and what makes facts of them."""
LEFT_OUT: Final = frozenset(
    {"unit_note", "compute", "flags", "grid_x", "grid_y", "grid_z", "threads_per_block", "kernel"}
)
"""Columns that no command reads: explanations, and how a kernel was launched."""
SOURCE_COLUMNS: Final = ("source_id", "source_ref", "source", "source_split")
"""Columns that name the source of a row; the first that a table has counts."""
SOURCES: Final = TABLES / "sources.csv"


def build_table(rows: Sequence[dict[str, str]]) -> pl.DataFrame:
    """Return rows of text as a typed table."""
    names = [name for name in rows[0] if name not in LEFT_OUT]
    return pl.DataFrame([build_column(name, [row[name] for row in rows]) for name in names])


def build_column(name: str, cells: Sequence[str]) -> pl.Series:
    """
    Return a column of text as numbers where each cell reads back as it is written, else as text.

    >>> build_column("devices", ["8", "", "16"]).dtype, build_column("batch", ["8", "8.0"]).dtype
    (Int64, String)
    """
    shorten = SHORTENED.get(name)
    column = pl.Series(
        name, [(shorten(cell) if shorten else cell) or None for cell in cells], dtype=pl.String
    )
    for dtype in (pl.Int64, pl.Float64):
        typed = column.cast(dtype, strict=False)
        if typed.cast(pl.String).equals(column, null_equal=True):
            return typed
    return column


def find_unlisted(rows: Sequence[dict[str, str]], marks: Sequence[str]) -> list[str]:
    """Return the sources of rows that no mark of the list of sources recognizes; a computed table names none."""
    columns = [name for name in SOURCE_COLUMNS if name in rows[0]]
    names = {" ".join(row[name] for name in columns) for row in rows}
    return sorted(name for name in names - {""} if not any(mark in name for mark in marks))


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--from", type=Path, required=True, dest="collected", help="folder of the collected tables"
    )
    parser.add_argument("-o", "--out", type=Path, default=TABLES, help="folder of our tables")
    arguments = parser.parse_args(argv)
    with SOURCES.open(newline="", encoding="utf-8") as stream:
        marks = [line["mark"] for line in csv.DictReader(stream)]
    for folder, files in COLLECTED.items():
        (arguments.out / folder).mkdir(parents=True, exist_ok=True)
        for file in files:
            rows = read_rows(arguments.collected / folder / file)
            unlisted = find_unlisted(rows, marks)
            if unlisted:
                sys.exit(f"{file}: no line of {SOURCES.name} recognizes {unlisted[:5]}")
            out = arguments.out / folder / f"{file.partition('.csv')[0]}.parquet"
            build_table(rows).write_parquet(out, compression="zstd", compression_level=19, statistics=False)
            print(f"{out.relative_to(arguments.out)}: {len(rows):,} rows, {out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
