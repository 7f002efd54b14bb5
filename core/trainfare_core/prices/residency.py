"""The offers whose region lies in a continent, the European Union or a country."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from trainfare_core.prices.book import PriceBook
from trainfare_core.region_places import lies_in


def filter_by_residency(book: PriceBook, places: Sequence[str]) -> PriceBook:
    """
    Return the offers whose region lies in one of some places.

    Args:
        book: offers.
        places: see `region_places.lies_in`; an offer whose country is not known lies in none.

    Raises:
        UnknownNameError: a name that is no place.
    """
    lies_in("", "", places)  # a wrong name is an error in an empty book, too
    regions: dict[str, list[str]] = {}
    for provider, region in book.frame.select("provider", "region").unique().iter_rows():
        if lies_in(provider, region, places):
            regions.setdefault(provider, []).append(region)
    inside = pl.lit(value=False)
    for provider, names in regions.items():
        inside |= (pl.col("provider") == provider) & pl.col("region").is_in(names)
    # `provider` gives the column its length where the expression is a literal.
    marks = book.frame.select("provider", inside.alias("inside"))["inside"]
    return book.where(marks.to_numpy())
