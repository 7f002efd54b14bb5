"""Counts, dates and rejected rows of a price book: the report of `trainfare prices status`."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from trainfare_core.documents import Document
from trainfare_core.installation import __version__
from trainfare_core.prices.facts import ReasonCount, ServiceFacts, facts_by_service

if TYPE_CHECKING:
    import polars as pl

    from trainfare_core.prices.book import PriceBook

_NO_DATES = {"oldest": "", "newest": "", "fetched_at": None}


class ServiceStatus(ServiceFacts):
    """The prices of one cloud service from one origin."""

    fetched_at: str | None = Field(
        description="when the first of them was fetched; None: shipped, not fetched"
    )
    age_days: int = Field(description="of the youngest price: since its fetch, else its date's first day")
    oldest_age_days: int
    fresh_rows: int = Field(description="seen at their source within 24 hours, spot within 1 hour")
    old_rows: int = Field(description="rows older than old_after_days, or dated after as_of")
    rows_after_as_of: int = Field(description="rows dated later than as_of: that clock may be wrong")
    estimated_dates: int = Field(description="rows whose date was inferred")
    caveats: int = Field(description="rows with a caveat")
    rows_read: int
    accepted: int
    filtered: tuple[ReasonCount, ...]
    quarantined: tuple[ReasonCount, ...]
    degraded: bool = Field(description="more than 5 % of what looked like a price of ours is quarantined")


class PricesStatus(Document):
    """Every cloud service in the price book, sorted by name."""

    schema_version: Literal[1] = 1
    tool_version: str
    as_of: datetime
    old_after_days: int
    problems: tuple[str, ...] = Field(default=(), description="price sources that gave nothing")
    notes: tuple[str, ...] = Field(default=(), description="where the prices are from")
    services: tuple[ServiceStatus, ...]


def price_status(
    book: PriceBook, *, as_of: datetime, problems: tuple[str, ...] = (), notes: tuple[str, ...] = ()
) -> PricesStatus:
    """
    Return the content and age of a book at a given moment.

    An age is never negative: a price dated later counts as old, since one of the two clocks is wrong.
    """
    import polars as pl

    from trainfare_core.prices.freshness import USABLE_DAYS, with_ages

    days = (pl.col("age_hours") / 24).floor().fill_null(0).cast(pl.Int64)
    past = ~(pl.col("age_hours") < (USABLE_DAYS + 1) * 24).fill_null(value=False)
    by_service = facts_by_service(
        with_ages(book.frame, as_of),
        days.min().alias("age_days"),
        days.max().alias("oldest_age_days"),
        pl.col("fresh").sum().alias("fresh_rows"),
        past.sum().alias("old_rows"),
        pl.col("ahead").sum().alias("rows_after_as_of"),
        pl.col("observed_on_estimated").sum().alias("estimated_dates"),
        pl.col("caveat").is_not_null().sum().alias("caveats"),
    )
    return PricesStatus(
        tool_version=__version__,
        as_of=as_of,
        old_after_days=USABLE_DAYS,
        problems=problems,
        notes=notes,
        services=_services(book, by_service),
    )


def _services(book: PriceBook, frame: pl.DataFrame) -> tuple[ServiceStatus, ...]:
    """Join the book with the rows read: a service of which every row was rejected is shown too."""
    rows_by_service = {
        (row["provider"], row["service"], row["origin"]): row for row in frame.iter_rows(named=True)
    }
    services = [
        ServiceStatus.model_validate(
            {
                **dict.fromkeys(frame.columns, 0),
                **_NO_DATES,
                **rows_by_service.get((intake.provider, intake.service, intake.origin), {}),
                "provider": intake.provider,
                "service": intake.service,
                "origin": intake.origin,
                **intake.counts(),
                "filtered": intake.filtered,
                "quarantined": intake.quarantined,
            }
        )
        for intake in book.intakes
    ]
    return tuple(sorted(services, key=lambda status: (status.provider, status.service, status.origin)))
