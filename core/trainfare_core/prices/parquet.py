"""Read Parquet from anywhere: a damaged file is an exception that a caller can catch, whatever polars makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import polars as pl


def read_table(source: str | Path | BinaryIO) -> pl.DataFrame:
    """
    Return the rows of a Parquet file.

    Args:
        source: a file, a path, or an address or pattern that polars can read.

    Raises:
        pl.exceptions.PolarsError: it is no Parquet, or damaged.
        OSError: it cannot be read.
    """
    try:
        return pl.read_parquet(source)
    except pl.exceptions.PanicException:  # a BaseException: some damage breaks an assumption of the library
        pass
    # Raised outside the handler, so that no address is in its context.
    raise pl.exceptions.ComputeError("the Parquet file is damaged")
