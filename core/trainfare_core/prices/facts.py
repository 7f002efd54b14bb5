"""One offer of a price book, and source, dates and row counts of the prices of one cloud service, for reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, Field

from trainfare_core.documents import Record

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True, slots=True)
class ReasonCount:
    """Number of rows filtered or quarantined for one reason."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    reason: str
    rows: int


@dataclass(frozen=True, slots=True)
class Intake:
    """
    Counts of the rows that were read for one cloud service.

    Raises:
        ValueError: accepted + filtered + quarantined is not rows_read: a row was lost.
    """

    origin: str
    provider: str
    service: str
    rows_read: int
    accepted: int
    filtered: tuple[ReasonCount, ...] = ()
    quarantined: tuple[ReasonCount, ...] = ()

    def __post_init__(self) -> None:
        ended = self.accepted + self.filtered_rows + self.quarantined_rows
        if ended != self.rows_read or self.accepted < 0:
            where = f"{self.origin}/{self.provider}/{self.service}"
            raise ValueError(f"{where}: read {self.rows_read} rows, {ended} accounted for")

    @property
    def filtered_rows(self) -> int:
        """Rows left out by rule."""
        return sum(count.rows for count in self.filtered)

    @property
    def quarantined_rows(self) -> int:
        """Rows that are not a usable price."""
        return sum(count.rows for count in self.quarantined)

    def counts(self) -> dict[str, int | bool]:
        """Return the counts by name, without their reasons."""
        return {
            "rows_read": self.rows_read,
            "accepted": self.accepted,
            "filtered": self.filtered_rows,
            "quarantined": self.quarantined_rows,
            "degraded": self.degraded,
        }

    def add(
        self,
        filtered: tuple[ReasonCount, ...] = (),
        quarantined: tuple[ReasonCount, ...] = (),
        *,
        accepted: int = 0,
    ) -> Intake:
        """Return the counts with those of more rows that were read."""
        more = accepted + sum(count.rows for count in (*filtered, *quarantined))
        return replace(
            self,
            rows_read=self.rows_read + more,
            accepted=self.accepted + accepted,
            filtered=(*self.filtered, *filtered),
            quarantined=(*self.quarantined, *quarantined),
        )

    def drop(self, filtered: tuple[ReasonCount, ...], quarantined: tuple[ReasonCount, ...]) -> Intake:
        """Return the counts with rows that were accepted filtered or quarantined instead."""
        counts = self.add(filtered, quarantined)
        dropped = counts.rows_read - self.rows_read
        return replace(counts, rows_read=self.rows_read, accepted=self.accepted - dropped)

    @property
    def degraded(self) -> bool:
        """
        Whether more than 5 % of the rows in scope are quarantined; a chosen value, see docs/prices.md.

        Filtered rows do not count: in a list of 30,000 SKUs with 500 in scope they would hide any fault in those.
        """
        return self.quarantined_rows > 0.05 * (self.accepted + self.quarantined_rows)


class ServiceFacts(Record):
    """The prices of one cloud service from one origin."""

    provider: str
    service: str
    origin: str = Field(description="the provider plug-in: 'snapshot', 'aws', ...")
    rows: int
    oldest: str
    newest: str


class PriceBookFacts(ServiceFacts):
    """Where the prices of one cloud service came from."""

    fetched_at: str | None = Field(
        default=None, description="when the first of them was fetched, ISO 8601; None: shipped, not fetched"
    )
    rows_read: int | None = Field(
        default=None,
        description="rows that the source gave: accepted + filtered + quarantined; None: not counted",
    )
    accepted: int | None = None
    filtered: int | None = Field(default=None, description="left out by a rule")
    quarantined: int | None = Field(default=None, description="not usable as a price")
    degraded: bool = Field(
        default=False, description="more than 5 % of what looked like a price of ours is quarantined"
    )


def facts_by_service(frame: pl.DataFrame, *more: pl.Expr) -> pl.DataFrame:
    """
    Return one row a cloud service and origin, sorted by name: its number of prices, their dates and first fetch.

    Args:
        frame: prices with the columns of `BOOK_SCHEMA`.
        more: what else to say of each.
    """
    import polars as pl

    keys = ("provider", "service", "origin")
    return (
        frame.group_by(*keys)
        .agg(
            pl.len().alias("rows"),
            pl.col("observed_on").min().alias("oldest"),
            pl.col("observed_on").max().alias("newest"),
            pl.col("fetched_at").min(),
            *more,
        )
        .sort(*keys)
    )


class OfferRow(Record):
    """One offer; prices in USD, memory in GiB, None is 'not known'."""

    machine: str
    """The name `PriceBook.find` takes, e.g. aws:p4d.24xlarge@us-east-1."""
    provider: str
    service: str
    instance_type: str
    region: str
    zone: str | None
    accelerator: str
    accelerator_count: float
    accelerator_memory_gib: float
    vcpus: float | None
    memory_gib: float | None
    network_gbit_per_s: float | None
    purchase_option: str
    usd_per_hour: float
    """Of the whole machine."""
    usd_per_accelerator_hour: float
    """For a shared device, of the whole device."""
    observed_on: str
    observed_on_estimated: bool
    source: str
    source_class: str
    sku: str | None
    fetched_at: str | None
    origin: str
    caveat: str | None
    interruption_band: str | None = Field(
        description="spot: capacity taken back in the last month, by the cloud's own word; None: not known"
    )

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> OfferRow:
        """Take a row of a price book, by column."""
        known = {name: row[name] for name in cls.model_fields if name in row}
        machine = f"{row['provider']}:{row['instance_type']}@{row['region']}"
        usd = row["usd_per_hour"] / row["accelerator_count"]
        return cls.model_validate({**known, "machine": machine, "usd_per_accelerator_hour": usd})
