"""What every runner of a truth table does alike: its options, the rows that it reads, and the files that it writes."""

from __future__ import annotations

import argparse
import csv
import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = [
    "MEMORY_TABLES",
    "STEP_TABLES",
    "SUBMISSION_TABLES",
    "answer_columns",
    "memory_tables",
    "read_rows",
    "truth_parser",
    "write_json",
    "write_rows",
]

STEP_TABLES = ("throughput_train.csv", "throughput_train_2.csv")
"""Releases of measured steps. Each was scored before any fit saw it (docs/accuracy-first-sight.md)."""
SUBMISSION_TABLES = ("time_to_train.csv", "time_to_train_2.csv")
"""Releases of minutes to a quality target."""
MEMORY_TABLES = ("memory_reference.csv", "memory_reference_2.csv")
"""Releases of measured memory, in the folder `strategy` beside that of the steps; some rows time a step too."""
_DIGITS = 6
"""Significant digits of a prediction in `--rows`: well below any measurement error, and the file stays readable."""


def truth_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with `--truth`, `--json` and `--rows`, and `description` printed as it is written."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--truth", type=Path, required=True, help="table of measurements (.csv or .csv.gz)")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the scores there")
    parser.add_argument(
        "--rows", type=Path, metavar="OUT.csv", help="write the table there, with a prediction for each row"
    )
    return parser


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file, which may be gzipped (`.gz`)."""
    with (
        gzip.open(path, "rt", newline="", encoding="utf-8")
        if path.suffix == ".gz"
        else path.open(newline="", encoding="utf-8")
    ) as stream:
        return list(csv.DictReader(stream))


def memory_tables(data: Path) -> list[Path]:
    """Return the tables of measured memory that lie beside a folder of measured steps; none where there are none."""
    return [path for name in MEMORY_TABLES if (path := data.parent / "strategy" / name).exists()]


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


def write_json(path: Path | None, document: dict[str, Any], *, sort_keys: bool = False) -> None:
    """Write a document; nothing where no path was given."""
    if path is not None:
        path.write_text(json.dumps(document, indent=1, sort_keys=sort_keys) + "\n", encoding="utf-8")
