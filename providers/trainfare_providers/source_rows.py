"""What every parser of a price list needs: values off the wire without guessing, and a count of every row."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date
from decimal import Decimal
from typing import Final, TypeVar, cast

import polars as pl

from trainfare_core.prices.intake import BOOK_SCHEMA, Tally
from trainfare_providers.refresh import FetchedRows

__all__ = [
    "Refused",
    "RowSink",
    "SourceRow",
    "day_of",
    "items_of",
    "name_of",
    "number_of",
    "object_of",
    "text_of",
]

_MAX_TEXT: Final = 200
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")
_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?![0-9])", re.ASCII)

Kept = TypeVar("Kept")


@dataclass(frozen=True, slots=True)
class Refused:
    """
    A row of a price list that is not an offer.

    Attributes:
        reason: in a few words, the same for all rows of its kind.
        quarantined: it claims to be a price and cannot be read; else it is left out by rule.
    """

    reason: str
    quarantined: bool = False


@dataclass(frozen=True, slots=True)
class SourceRow:
    """One offer as a parser read it; a price is decimal text so that no digit is lost."""

    instance_type: str
    region: str
    accelerator: str
    accelerator_count: float
    accelerator_memory_gib: float
    usd_per_hour: Decimal
    purchase_option: str
    observed_on: str
    sku: str
    source: str
    currency: str
    zone: str | None = None
    vcpus: float | None = None
    memory_gib: float | None = None
    network_gbit_per_s: float | None = None
    caveat: str | None = None


class RowSink:
    """Collects the rows of one cloud service and counts what is not one."""

    def __init__(self, provider: str, service: str) -> None:
        self.provider, self.service = provider, service
        self.rows: list[SourceRow] = []
        self._filtered: Counter[str] = Counter()
        self._quarantined: Counter[str] = Counter()

    @property
    def rows_read(self) -> int:
        """Rows that ended here, one way or another."""
        return len(self.rows) + self._filtered.total() + self._quarantined.total()

    def refuse(self, refused: Refused) -> None:
        """Count a row that is not an offer."""
        (self._quarantined if refused.quarantined else self._filtered)[refused.reason] += 1

    def kept(self, read: Kept | Refused) -> Kept | None:
        """Return what was read; a refused row is counted, and None."""
        if isinstance(read, Refused):
            self.refuse(read)
            return None
        return read

    def fetched(self, notes: Sequence[str] = ()) -> FetchedRows:
        """Return the rows and the counts."""
        columns: dict[str, list[object]] = {
            field.name: [getattr(row, field.name) for row in self.rows] for field in fields(SourceRow)
        }
        columns["usd_per_hour"] = [str(row.usd_per_hour) for row in self.rows]
        frame = pl.DataFrame(
            {
                name: pl.Series(values, dtype=pl.String if name == "usd_per_hour" else BOOK_SCHEMA[name]())
                for name, values in columns.items()
            }
        ).with_columns(
            pl.lit(self.provider).alias("provider"),
            pl.lit(self.service).alias("service"),
            pl.lit("price_api").alias("source_class"),
        )
        return FetchedRows(
            self.provider,
            self.service,
            frame,
            _tallies(self._filtered),
            _tallies(self._quarantined),
            tuple(notes),
        )


def _tallies(counts: Counter[str]) -> tuple[Tally, ...]:
    return tuple(Tally(reason, counts[reason]) for reason in sorted(counts))


def object_of(value: object) -> Mapping[str, object] | None:
    """Return a JSON object, or None where it is something else."""
    return cast("dict[str, object]", value) if isinstance(value, dict) else None


def items_of(value: object) -> Sequence[object]:
    """Return the items of a JSON list; none where it is something else."""
    return cast("list[object]", value) if isinstance(value, list) else ()


def text_of(value: object) -> str | None:
    """Return text of 1 to 200 characters that can be written as UTF-8, without the space around it."""
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_TEXT:
        return None
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return None
    return value.strip() or None


def name_of(value: object) -> str | None:
    """Return the name of a machine, region, zone or SKU: ASCII letters, digits and a few signs."""
    return value if isinstance(value, str) and _NAME.fullmatch(value) else None


def number_of(value: object) -> Decimal | None:
    """Return a finite number as it was written; None for text, true and false."""
    if isinstance(value, bool) or not isinstance(value, (int, Decimal)):
        return None
    number = Decimal(value)
    return number if number.is_finite() else None


def day_of(value: object) -> str | None:
    """Return the day, YYYY-MM-DD, of a time such as 2023-03-24T10:52:50.681Z."""
    if not isinstance(value, str) or not _DAY.match(value):
        return None
    try:
        return date.fromisoformat(value[:10]).isoformat()
    except ValueError:
        return None
