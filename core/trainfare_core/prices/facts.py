"""Source, dates and row counts of the prices of one cloud service, for reports."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from trainfare_core.documents import Record

if TYPE_CHECKING:
    import polars as pl

__all__ = ["PriceBookFacts", "ServiceFacts", "facts_by_service"]


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
