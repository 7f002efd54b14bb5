"""Filter, sort and list offers of a price book: the report of `trainfare offers`."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import Field

from trainfare_core.documents import Document, Record
from trainfare_core.errors import InputError, NoOffersError
from trainfare_core.installation import __version__
from trainfare_core.prices.facts import OfferRow

if TYPE_CHECKING:
    from typing_extensions import Self

    from trainfare_core.prices.book import PriceBook


class Sort(str, enum.Enum):
    """Order of a list of offers."""

    price = "price"
    price_per_accelerator = "price-per-accelerator"
    memory = "memory"


class OfferFilters(Record):
    """Names of the offers to keep; None is 'any'."""

    providers: tuple[str, ...] | None = None
    services: tuple[str, ...] | None = None
    regions: tuple[str, ...] | None = None
    accelerators: tuple[str, ...] | None = None
    purchase: tuple[str, ...] | None = None

    def names(self) -> dict[str, tuple[str, ...] | None]:
        """Return the names by field."""
        return {field: getattr(self, field) for field in _COLUMNS if field in type(self).model_fields}

    def resolve(self, book: PriceBook) -> Self:
        """
        Return the filters with the names as the book spells them.

        Raises:
            UnknownNameError: a name that the book does not have.
        """
        names = self.names().items()
        return self.model_copy(update={field: book.resolve(_COLUMNS[field], texts) for field, texts in names})

    def apply(self, book: PriceBook) -> PriceBook:
        """Return the offers that match filters whose names are the book's own."""
        names: dict[str, Any] = {**self.names()}
        return book.filter(**names)


_COLUMNS: Final = {
    "providers": "provider",
    "services": "service",
    "regions": "region",
    "instance_types": "instance_type",
    "accelerators": "accelerator",
    "purchase": "purchase_option",
}
"""Column of the book that each filter is about."""


class Query(OfferFilters):
    """Filters and order of a list, in the spelling of the book; None is 'any'."""

    instance_types: tuple[str, ...] | None = None
    max_usd_per_hour: float | None = None
    all_clouds: bool = Field(
        default=False,
        description="list the quotes of other clouds too; naming a provider does so for that one",
    )
    sort: Literal["price", "price-per-accelerator", "memory"] = "price"


class OffersReport(Document):
    """The offers that match a query, best first."""

    schema_version: Literal[1] = 1
    tool_version: str
    query: Query
    matched: int
    shown: int
    oldest: str
    newest: str
    problems: tuple[str, ...] = Field(default=(), description="price sources that gave nothing")
    notes: tuple[str, ...] = Field(default=(), description="where the prices are from")
    offers: tuple[OfferRow, ...]


def select(
    book: PriceBook,
    listing_query: Query,
    *,
    limit: int = 20,
    problems: tuple[str, ...] = (),
    notes: tuple[str, ...] = (),
) -> OffersReport:
    """
    Return the offers of a book that match, best first.

    Args:
        book: all prices.
        listing_query: names as `PriceBook.resolve` takes them; the report has them as the book spells them.
        limit: rows to return; 0 returns all.
        problems: price sources that gave nothing.
        notes: where the prices are from.

    Raises:
        UnknownNameError: a name that the book does not have.
        InputError: the price limit is not a number above 0.
        NoOffersError: all names are known and nothing matches.
    """
    limit_usd = listing_query.max_usd_per_hour
    if limit_usd is not None and not (math.isfinite(limit_usd) and limit_usd > 0):
        raise InputError(f"--max-usd-per-hour {limit_usd}: give a number above 0")
    query = listing_query.resolve(book)
    offers = matching(book, query)
    if not len(offers):
        others = len(matching(book, query.model_copy(update={"all_clouds": True})))
        hint = f"{others} quotes of other clouds do: add --all-clouds" if others else "drop a filter"
        raise NoOffersError(f"none of {len(book)} known prices matches {_words(query)}; {hint}")
    best = offers.sort_by(query.sort)
    rows = tuple((best.head(limit) if limit else best).offers())
    dates = [(facts.oldest, facts.newest) for facts in offers.facts()]
    return OffersReport(
        tool_version=__version__,
        query=query,
        matched=len(offers),
        shown=len(rows),
        oldest=min(oldest for oldest, _ in dates),
        newest=max(newest for _, newest in dates),
        problems=problems,
        notes=notes,
        offers=rows,
    )


@dataclass(frozen=True, slots=True)
class AcceleratorPrices:
    """
    Who rents an accelerator, and for how little.

    Attributes:
        cheapest: of each purchase option the offer of the lowest price by the accelerator; on demand first.
        providers: clouds that have it, that of the first offer first.
    """

    cheapest: tuple[OfferRow, ...]
    providers: tuple[str, ...]


def list_accelerators(book: PriceBook, query: Query) -> tuple[AcceleratorPrices, ...]:
    """
    Return the lowest prices of each accelerator of the offers that match, in the order of the query.

    Args:
        book: all prices.
        query: names as the report of `select` has them.
    """
    offers = matching(book, query).sort_by("price-per-accelerator").frame
    providers: dict[str, set[str]] = {}
    for accelerator, provider in offers.select("accelerator", "provider").unique().iter_rows():
        providers.setdefault(accelerator, set()).add(provider)
    cheapest: dict[str, list[OfferRow]] = {}
    first = offers.unique(["accelerator", "purchase_option"], keep="first", maintain_order=True)
    for row in first.iter_rows(named=True):
        cheapest.setdefault(row["accelerator"], []).append(OfferRow.of(row))
    listed: list[AcceleratorPrices] = []
    for name, rows in cheapest.items():
        rows.sort(key=lambda offer: offer.purchase_option != "on_demand")
        clouds = (rows[0].provider, *sorted(providers[name] - {rows[0].provider}))
        listed.append(AcceleratorPrices(tuple(rows), clouds))
    return tuple(sorted(listed, key=lambda prices: _order(prices.cheapest[0], query.sort)))


def _order(offer: OfferRow, sort: str) -> float:
    return -offer.accelerator_memory_gib if sort == "memory" else offer.usd_per_accelerator_hour


def matching(book: PriceBook, query: Query) -> PriceBook:
    """Return the offers that match a query whose names are the book's own; a machine that it does not name, once."""
    offers = query.apply(book).filter(
        max_usd_per_hour=query.max_usd_per_hour, instance_types=query.instance_types
    )
    if not query.all_clouds and query.providers is None:
        offers = offers.without_other_clouds()
    return offers if query.instance_types else offers.drop_second_names()


def _words(query: Query) -> str:
    words = [
        f"{_COLUMNS[field].replace('_', ' ')} {' or '.join(texts)}"
        for field, texts in query.names().items()
        if texts
    ]
    if query.max_usd_per_hour is not None:
        words.append(f"at most {query.max_usd_per_hour:g} USD per hour")
    return ", ".join(words) or "an empty price book"
