"""What `trainfare decline` reads: a time series as CSV, and errors of its numbers as those of trainfare."""

from __future__ import annotations

import csv
import io
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from trainfare_core.decline import DeclineError, Series
from trainfare_core.errors import InputError
from trainfare_providers.disk.files import read_input

MAX_SERIES_BYTES = 10 * 1024 * 1024
"""About 400,000 rows; a larger file is another one, named by mistake. Chosen."""


def read_series(path: Path) -> Series:
    """
    Read a CSV file with the columns date and cost, and perhaps production.

    Raises:
        InputError: no such file, columns missing, or invalid values.
    """
    data = read_input(path, MAX_SERIES_BYTES, kind="a series of costs")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: cannot be read as UTF-8 text") from error
    reader = csv.DictReader(io.StringIO(text), restval="")
    try:
        columns = set(reader.fieldnames or ())
        rows = list(reader)
    except csv.Error as error:
        raise InputError(f"{path}: line {reader.line_num + 1} is not CSV: {error}") from error
    if not {"date", "cost"} <= columns:
        raise InputError(f"{path}: it needs the columns date and cost, and for Wright's law production")
    try:
        costs = [float(row["cost"]) for row in rows]
        production = [float(row["production"]) for row in rows] if "production" in columns else None
    except ValueError as error:
        raise InputError(f"{path}: a cost or production is not a number") from error
    with decline_errors_as_input():
        return Series.of([row["date"] for row in rows], costs, production=production)


@contextmanager
def decline_errors_as_input() -> Generator[None, None, None]:
    """
    Re-raise a `DeclineError` as trainfare's own `InputError`.

    Raises:
        InputError: in place of a DeclineError, or of an answer that is beyond the numbers of a computer.
    """
    try:
        yield
    except DeclineError as error:
        raise InputError(str(error)) from error
    except (ArithmeticError, ValueError) as error:  # out of range, or not finite in the answer
        raise InputError(
            "the answer is no finite number: check the costs and dates, which are far larger, smaller or closer than "
            "those of any run"
        ) from error
