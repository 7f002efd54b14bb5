"""The rows that a parser makes of a price list, and the count of every row that it does not keep."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Final, TypeVar

import polars as pl

from trainfare_core.prices.facts import ReasonCount
from trainfare_core.prices.intake import BOOK_SCHEMA
from trainfare_providers.machine_types import Machine
from trainfare_providers.refresh import FetchedRows

_MAX_NAMED: Final = 12
"""Unknown machines that the note names: it stays one readable line."""

_MAX_REMEMBERED: Final = 1000
"""Unknown machine names kept in memory: about as many as one cloud has machine types."""

Kept = TypeVar("Kept")


@dataclass(frozen=True, slots=True)
class Refused:
    """
    Why an entry of a price list is not a price that trainfare keeps.

    Attributes:
        reason: in a few words, the same for all entries of its kind.
        quarantined: it looks like a price of ours and cannot be trusted; else it is out of scope (filtered).
        unknown_machine: the machine type, where it has an accelerator and no table says which.
    """

    reason: str
    quarantined: bool = False
    unknown_machine: str = ""


@dataclass(frozen=True, slots=True)
class SourceRow:
    """
    One price of one machine, as a parser read it.

    Attributes:
        usd_per_hour: of the whole machine, in `currency`; a Decimal or decimal text, so that no digit is lost.
        observed_on: the day from which the price holds, YYYY-MM-DD.
        source: address or API call, without secrets.
        zone: None is the whole region.
    """

    machine: Machine
    region: str
    usd_per_hour: Decimal | str
    purchase_option: str
    observed_on: str
    sku: str | None
    source: str
    currency: str
    zone: str | None = None
    caveat: str | None = None
    interruption_band: str | None = None


class RowSink:
    """Collects the rows of one cloud service; `rows_read` is always rows + filtered + quarantined."""

    def __init__(self, provider: str, service: str) -> None:
        self.provider, self.service = provider, service
        self.rows: list[SourceRow] = []
        self.filtered: Counter[str] = Counter()
        self.quarantined: Counter[str] = Counter()
        self._unknown: set[str] = set()

    @property
    def rows_read(self) -> int:
        """Entries that were read, whatever became of them."""
        return len(self.rows) + self.filtered.total() + self.quarantined.total()

    def add(self, reads: Iterable[SourceRow | Refused]) -> None:
        """Keep the rows and count the refused entries."""
        for read in reads:
            row = self.keep(read)
            if row is not None:
                self.rows.append(row)

    def join(self, other: RowSink) -> None:
        """Add the rows and counts of another part of the same service."""
        self.rows += other.rows
        self.filtered += other.filtered
        self.quarantined += other.quarantined
        self._unknown |= set(sorted(other._unknown)[: max(0, _MAX_REMEMBERED - len(self._unknown))])

    def refuse(self, refused: Refused) -> None:
        """Count an entry that is not kept."""
        (self.quarantined if refused.quarantined else self.filtered)[refused.reason] += 1
        if refused.unknown_machine and len(self._unknown) < _MAX_REMEMBERED:
            self._unknown.add(refused.unknown_machine)

    def keep(self, read: Kept | Refused) -> Kept | None:
        """Return what was read, or count it and return None where it is refused."""
        if isinstance(read, Refused):
            self.refuse(read)
            return None
        return read

    def finish(self, notes: Sequence[str] = ()) -> FetchedRows:
        """Return the rows, the counts and the notes."""
        columns: dict[str, list[object]] = {
            field.name: [getattr(row.machine, field.name) for row in self.rows] for field in fields(Machine)
        }
        columns |= {
            field.name: [getattr(row, field.name) for row in self.rows] for field in fields(SourceRow)
        }
        del columns["machine"]
        columns["usd_per_hour"] = [str(row.usd_per_hour) for row in self.rows]
        kinds = {name: pl.String() if name == "usd_per_hour" else BOOK_SCHEMA[name]() for name in columns}
        frame = pl.DataFrame(columns, schema=kinds).with_columns(
            pl.lit(self.provider).alias("provider"),
            pl.lit(self.service).alias("service"),
            pl.lit("price_api").alias("source_class"),
        )
        return FetchedRows(
            self.provider,
            self.service,
            frame,
            _tallies(self.filtered),
            _tallies(self.quarantined),
            (*notes, *self._unknown_note()),
        )

    def _unknown_note(self) -> tuple[str, ...]:
        if not self._unknown:
            return ()
        names = sorted(self._unknown)
        more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
        listed = f"{', '.join(names[:_MAX_NAMED])}{more}"
        return (
            f"{self.service}: machines with an accelerator that trainfare does not know are left out: {listed}",
        )


def _tallies(counts: Counter[str]) -> tuple[ReasonCount, ...]:
    return tuple(ReasonCount(reason, counts[reason]) for reason in sorted(counts))
