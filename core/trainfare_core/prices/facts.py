"""`PriceBookFacts`: source, dates and row counts of the prices of one cloud service, for reports."""

from __future__ import annotations

from pydantic import Field

from trainfare_core.documents import Record

__all__ = ["PriceBookFacts"]


class PriceBookFacts(Record):
    """Where the prices of one cloud service came from."""

    provider: str
    service: str
    origin: str = Field(description="the provider plug-in: 'snapshot', 'aws', ...")
    rows: int
    oldest: str
    newest: str
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
