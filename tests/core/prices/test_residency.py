"""Offers by where their regions lie."""

from __future__ import annotations

import pytest

from builders.toy_market import book, offer_row
from trainfare_core.errors import UnknownNameError
from trainfare_core.ranking.pricing.price_doubt import filter_by_residency


def test_only_offers_known_to_lie_there_are_kept() -> None:
    """Of a cloud whose regions all lie elsewhere, or whose places are not known, none."""
    prices = book(
        offer_row(region="us-east-1"),
        offer_row(region="eu-west-1"),
        offer_row(provider="other", region="eu-west-1"),
    )
    assert filter_by_residency(prices, ["eu"]).frame.select("provider", "region").rows() == [
        ("aws", "eu-west-1")
    ]
    assert len(filter_by_residency(book(offer_row(region="us-east-1")), ["eu"])) == 0
    with pytest.raises(UnknownNameError):
        filter_by_residency(prices, ["atlantis"])
