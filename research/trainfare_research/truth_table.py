"""What every runner of a truth table does alike: its options, the rows that it reads, and the files that it writes."""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import polars as pl

from trainfare_core.errors import TrainfareError

STEP_TABLES = ("throughput_train.csv", "throughput_train_2.csv")
"""Releases of measured steps. Each was scored before any fit saw it (research/docs/accuracy-first-sight.md)."""
SUBMISSION_TABLES = ("time_to_train.csv", "time_to_train_2.csv")
"""Releases of minutes to a quality target."""
MEMORY_TABLES = ("memory_reference.csv", "memory_reference_2.csv")
"""Releases of measured memory, in the folder `strategy` beside that of the steps; some rows time a step too."""
ROW_OF_RESIDUAL = ("source", "model", "precision", "accelerator", "batch_per_device", "framework")
"""Columns that tell the held-out errors of one device, of `trainfare_research.runners.fit_calibration`, from
each other."""
T = TypeVar("T")
R = TypeVar("R")
P = ParamSpec("P")

_REASON_LENGTH = 120
"""Characters kept of the first line of an error, so that a table of reasons stays readable."""
_DIGITS = 6
"""Significant digits of a prediction in `--rows`: well below any measurement error, and the file stays readable."""


@dataclass(frozen=True)
class Truth:
    """A table of measurements, and the files that its scores and its rows with predictions go to; None: to none."""

    path: Path
    json: Path | None = None
    rows: Path | None = None


def truth_parser(description: str | None, *, several: bool = False) -> argparse.ArgumentParser:
    """
    Return a parser with `--truth`, `--json` and `--rows`.

    Args:
        description: printed as it is written.
        several: whether `--truth` may be given again for another table, see `truths_of`.
    """
    action = "append" if several else "store"
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--truth",
        type=Path,
        required=True,
        action=action,
        help="table of measurements (.csv, .csv.gz or .parquet)",
    )
    parser.add_argument("--json", type=Path, metavar="OUT", action=action, help="write the scores there")
    parser.add_argument(
        "--rows",
        type=Path,
        metavar="OUT.csv",
        action=action,
        help="write the table there, with a prediction for each row",
    )
    return parser


def truths_of(arguments: argparse.Namespace) -> list[Truth]:
    """
    Return the tables of a parser with `several`: the first --json and --rows are of the first --truth, and so on.

    Raises:
        SystemExit: neither as many files as tables are given, nor none.
    """
    count = len(arguments.truth)
    files = [file or [None] * count for file in (arguments.json, arguments.rows)]
    if any(len(file) != count for file in files):
        msg = "give --json and --rows once for every --truth, or not at all"
        raise SystemExit(msg)
    return [Truth(*of_one) for of_one in zip(arguments.truth, *files, strict=True)]


def find_table(path: Path) -> Path:
    """Return the file of a table: the CSV that a path names, or the Parquet file beside where it would be."""
    return path if path.exists() else path.with_name(f"{path.name.partition('.csv')[0]}.parquet")


def has_table(path: Path) -> bool:
    """Return whether a table is there, as CSV or as Parquet."""
    return find_table(path).exists()


def read_rows(path: Path) -> list[dict[str, str]]:
    """
    Return the rows of a table as text: a CSV file, which may be gzipped (`.gz`), or its Parquet twin.

    Raises:
        ValueError: a row has more or fewer cells than the header.
    """
    path = find_table(path)
    if path.suffix == ".parquet":
        return pl.read_parquet(path).cast(pl.String).fill_null("").to_dicts()
    with (
        gzip.open(path, "rt", newline="", encoding="utf-8")
        if path.suffix == ".gz"
        else path.open(newline="", encoding="utf-8")
    ) as stream:
        rows = csv.reader(stream)
        names = next(rows, [])
        rows_read: list[dict[str, str]] = []
        # Not by csv.DictReader, which takes twice as long over the 340,000 kernels.
        for row in filter(None, rows):
            if len(row) != len(names):
                msg = f"{path}, line {rows.line_num}: {len(row)} cells, but {len(names)} in the header"
                raise ValueError(msg)
            rows_read.append(dict(zip(names, row, strict=True)))
        return rows_read


def or_reason(answer: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | str:
    """
    Return what `answer` says of a row, or why it says nothing: an empty cell, text for a number, an unknown name.

    A row that cannot be read costs its own score and not that of its table.
    """
    try:
        return answer(*args, **kwargs)
    except (TrainfareError, ArithmeticError, LookupError, RuntimeError, ValueError) as error:
        return f"cannot be read: {type(error).__name__}: {error}".splitlines()[0][:_REASON_LENGTH]


def answers_together(predicted: Callable[[list[R]], list[T | str]], rows: list[R]) -> list[T | str]:
    """Return what `predicted` says of rows that it predicts together; one that it cannot costs its own answer alone."""
    answers = or_reason(predicted, rows)
    if not isinstance(answers, str):
        return answers
    return (
        [answers]
        if len(rows) == 1
        else [answer for row in rows for answer in answers_together(predicted, [row])]
    )


def memory_tables(data: Path) -> list[Path]:
    """Return the tables of measured memory that lie beside a folder of measured steps; none where there are none."""
    return [path for name in MEMORY_TABLES if has_table(path := data.parent / "strategy" / name)]


def answer_columns(predicted: float, reach_80: float, *, scale: float = 1.0) -> dict[str, str]:
    """
    Return the columns `predicted`, `low_80` and `high_80` of one row.

    Args:
        predicted: in the unit of the measured column, before `scale`.
        reach_80: factor from the prediction to either end of its 80 % interval.
        scale: multiplies all three, e.g. devices where the measured column is a total.
    """
    values = {"predicted": predicted, "low_80": predicted / reach_80, "high_80": predicted * reach_80}
    return {name: f"{value * scale:.{_DIGITS}g}" for name, value in values.items()}


def write_rows(path: Path | None, rows: Sequence[dict[str, str]]) -> None:
    """Write rows that share the columns of the first one; nothing where no path was given."""
    if path is None:
        return
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def read_held_out_errors(residuals: Sequence[dict[str, str]], column: str) -> dict[tuple[str, ...], float]:
    """Return the ln(predicted / measured) in a column of residuals that have one, by `ROW_OF_RESIDUAL`."""
    errors = {tuple(line[name] for name in ROW_OF_RESIDUAL): float(line[column]) for line in residuals}
    return {row: error for row, error in errors.items() if math.isfinite(error)}


def write_json(path: Path | None, document: dict[str, Any], *, sort_keys: bool = False) -> None:
    """Write a document; nothing where no path was given."""
    if path is not None:
        path.write_text(json.dumps(document, indent=1, sort_keys=sort_keys) + "\n", encoding="utf-8")
