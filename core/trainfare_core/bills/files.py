"""Files of a bill, which polars reads in pieces, and only the columns that count."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from trainfare_core.errors import InputError

ENDINGS: Final = (".parquet", ".csv", ".csv.gz")
_NULLS: Final = ["", "NULL"]
"""Of CSV, also quoted: exports that quote every field, and the sample data of the FinOps Foundation."""


@dataclass(frozen=True, slots=True)
class BillFile:
    """A file of a bill."""

    name: str
    """A path, or the address of an object: `s3://bucket/key`."""
    source: str
    """What was named: the file, or the folder that it was found in, whose files are parts of one export."""
    options: dict[str, Any]
    """For polars, of an object: its storage."""

    def scan(self) -> pl.LazyFrame:
        """
        Return its lines, of which nothing is read yet.

        Raises:
            InputError: its name has another ending.
        """
        if self.name.endswith(".parquet"):
            return pl.scan_parquet(self.name, glob=False, hive_partitioning=False, **self.options)
        if self.name.endswith(ENDINGS):
            return pl.scan_csv(self.name, glob=False, infer_schema=False, null_values=_NULLS, **self.options)
        raise InputError(f"{self.name}: name a .parquet, .csv or .csv.gz file")

    @contextmanager
    def name_faults(self) -> Generator[None, None, None]:
        """
        Turn what polars raises on a file that cannot be read into an error that names it.

        Raises:
            InputError: with the name of the file, and nothing of what a storage said, which may quote a credential.
        """
        hint = (
            "check the address, the network and the credentials" if "://" in self.name else "is it damaged?"
        )
        try:
            yield
        except FileNotFoundError as error:
            raise InputError(f"{self.name}: there is no such file") from error
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
            raise InputError(f"{self.name}: it cannot be read ({type(error).__name__}): {hint}") from error
