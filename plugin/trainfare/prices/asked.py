"""Load the prices of a request, and check the request against them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainfare.prices.constraints import select_used_prices, with_book_names
from trainfare.prices.sources import LoadedPrices, PriceChoice, age_warnings, load_prices

if TYPE_CHECKING:
    from trainfare_core.prices.book import PriceBook
    from trainfare_core.recommendation import Constraints


def load_requested_prices(
    constraints: Constraints, choice: PriceChoice, price_book: PriceBook | None = None
) -> tuple[LoadedPrices, Constraints, tuple[str, ...]]:
    """
    Load the prices of a request and check names and ages; no job is needed.

    Args:
        constraints: names as a person types them.
        choice: which prices to rank with.
        price_book: prices to rank with instead.

    Returns:
        the prices, the constraints in the spelling of the prices, and the warnings about their age.

    Raises:
        TrainfareError: what `trainfare.recommend` raises of the prices, of the names and of the files.
    """
    if price_book is not None:
        loaded = LoadedPrices(price_book, (), as_of=choice.now)
        return loaded, with_book_names(constraints, price_book), ()
    loaded = load_prices(choice=choice)
    book_constraints = with_book_names(constraints, loaded.book)
    return (
        loaded,
        book_constraints,
        age_warnings(loaded, select_used_prices(loaded.book, book_constraints), choice),
    )
