"""
`accept`, the only function that judges a price row; its one caller is the door of the book, `PriceBook.from_rows`.

What has been accepted is not judged again: the files of `prices update` are read as they were written.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from trainfare_core.prices.facts import Intake
from trainfare_core.prices.intake import BOOK_SCHEMA, count_rows, judge_alone, set_aside, split_rows
from trainfare_core.prices.sanity import LastPrices, judge_beside


@dataclass(frozen=True, slots=True)
class Judged:
    """
    The result of `accept`.

    Attributes:
        rows: accepted, with all columns of `BOOK_SCHEMA`.
        intakes: counts of every row, per cloud service.
        set_aside: the rows that name an accelerator and were not accepted; see `intake.set_aside`.
    """

    rows: pl.DataFrame
    intakes: tuple[Intake, ...]
    set_aside: pl.DataFrame


def accept(rows: pl.DataFrame, *, origin: str, last: LastPrices | None = None) -> Judged:
    """
    Judge rows: each is accepted, filtered or quarantined, and counted.

    Args:
        rows: the columns of `BOOK_SCHEMA`; numbers may be decimal text, optional columns may be absent.
        origin: the provider plug-in that read them.
        last: compares them beside each other and with these, as rows of a price list; None looks at each row alone, as
            at rows that a person or another program chose.

    Raises:
        PricesUnavailableError: a required column is missing.
    """
    accepted, refused = judge_alone(rows, origin=origin)
    if last is not None:
        accepted, contradicted = split_rows(judge_beside(accepted, last))
        refused = pl.concat([refused, contradicted])
    aside = refused.filter(pl.col("accelerator").is_not_null())
    return Judged(
        accepted.select(*BOOK_SCHEMA),
        count_rows(accepted, refused, origin),
        set_aside(aside, pl.coalesce("_quarantine", "_filter")),
    )
