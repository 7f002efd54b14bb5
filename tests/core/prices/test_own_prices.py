"""Discounts, reservations and negotiated rates: in the book under their own name, and never in silence."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from pydantic import ValidationError

from builders.offers import book_of, offer_row, small_market
from trainfare_core.errors import InputError, UnknownNameError
from trainfare_core.prices.book import PriceBook
from trainfare_core.prices.facts import ReasonCount
from trainfare_core.prices.own_prices import Discount, OwnPrices, Rate, apply_own

DAY = date(2026, 11, 24)


def discount(**fields: Any) -> Discount:
    return Discount.model_validate({"name": "EDP", "provider": "aws", "percent": "12.5", **fields})


def rate(**fields: Any) -> Rate:
    given = {
        "name": "deal",
        "provider": "aws",
        "service": "ec2",
        "instance_type": "p4d.24xlarge",
        "region": "us-east-1",
        "usd_per_hour": "15.25",
        "agreed_on": "2026-01-01",
        **fields,
    }
    return Rate.model_validate({name: value for name, value in given.items() if value is not None})


def price(book: PriceBook, **wanted: str) -> list[float]:
    frame = book.frame
    for name, value in wanted.items():
        frame = frame.filter(frame[name] == value)
    return sorted(frame["usd_per_hour"].to_list())


def test_a_discount_is_off_the_list_price_of_what_it_matches() -> None:
    """12.5 % off every AWS on-demand price, to the last digit; spot and other clouds keep theirs."""
    prices = apply_own(small_market(), OwnPrices(discount=(discount(),)), day=DAY)
    offer = prices.book.find("aws:p4d.24xlarge@us-east-1")
    assert offer.usd_per_hour == pytest.approx(21.957642 * 0.875, abs=1e-9)
    assert offer.source_class == "own"
    assert offer.caveat == "own discount 'EDP', 12.5 % off the list price of 21.957642 USD"
    assert price(prices.book, purchase_option="spot") == [9.5]
    assert price(prices.book, provider="gcp") == [16.8]
    assert prices.notes == ("discount 'EDP': 12.5 % off 4 list prices",)
    assert prices.book.intakes == small_market().intakes


def test_names_narrow_a_discount() -> None:
    """Service, region, accelerator, machine and purchase option, as the book spells them or nearly."""
    narrow = discount(regions=["us-east-1"], accelerators=["h100"], purchase_options=["on_demand", "spot"])
    prices = apply_own(small_market(), OwnPrices(discount=(narrow,)), day=DAY)
    changed = prices.book.frame.filter(prices.book.frame["source_class"] == "own")
    assert changed["instance_type"].to_list() == ["p5.48xlarge"]
    with pytest.raises(UnknownNameError, match="us-east-1"):
        apply_own(small_market(), OwnPrices(discount=(discount(regions=["us-est-1"]),)), day=DAY)


def test_two_discounts_on_one_price_are_refused() -> None:
    """Whether they add up stands in a contract: the file must say which price each is for."""
    both = OwnPrices(discount=(discount(), discount(name="promo", regions=["us-east-1"])))
    with pytest.raises(InputError, match=r"'promo': an earlier discount matches aws:.*narrow one of the two"):
        apply_own(small_market(), both, day=DAY)
    apart = OwnPrices(
        discount=(discount(regions=["eu-west-1"]), discount(name="promo", regions=["us-east-1"]))
    )
    assert len(apply_own(small_market(), apart, day=DAY).notes) == 2


def test_a_rate_takes_the_place_of_the_list_price() -> None:
    """The listed row is counted out, the rate counted in, its accelerators come from the listing."""
    prices = apply_own(small_market(), OwnPrices(rate=(rate(),)), day=DAY)
    offer = prices.book.find("aws:p4d.24xlarge@us-east-1")
    assert (offer.usd_per_hour, offer.source, offer.source_class) == (15.25, "own rate: deal", "own")
    assert (offer.accelerator, offer.accelerator_count, offer.network_gbit_per_s) == (
        "A100-SXM-40GB",
        8.0,
        400.0,
    )
    assert len(prices.book) == len(small_market())
    counts = {(i.origin, i.service): (i.rows_read, i.accepted, i.filtered) for i in prices.book.intakes}
    assert counts["test", "ec2"] == (5, 4, (ReasonCount("replaced by an own rate", 1),))
    assert counts["own", "ec2"] == (1, 1, ())


def test_a_reservation_is_its_whole_price_over_its_hours() -> None:
    """35,040 USD for a year of 8,760 hours is 4 USD an hour, beside the on-demand price."""
    whole = rate(usd_per_hour=None, total_usd="35040", term_hours=8760, purchase_option="reserved_1y")
    prices = apply_own(small_market(), OwnPrices(rate=(whole,)), day=DAY)
    assert price(prices.book, purchase_option="reserved_1y") == [4.0]
    assert len(prices.book) == len(small_market()) + 1


def test_a_machine_that_nobody_lists_must_be_described() -> None:
    """The accelerators of a private machine are given, never guessed."""
    private = {"provider": "aws", "service": "colo", "instance_type": "rack-1", "region": "basement"}
    with pytest.raises(
        InputError, match=r"in no price list; give accelerator, accelerator_count, accelerator_mem"
    ):
        apply_own(small_market(), OwnPrices(rate=(rate(**private),)), day=DAY)
    described = rate(**private, accelerator="A100-SXM-80GB", accelerator_count=4, accelerator_memory_gib=80)
    prices = apply_own(small_market(), OwnPrices(rate=(described,)), day=DAY)
    assert prices.book.find("aws:rack-1@basement").accelerator_count == 4.0


def test_two_rates_for_one_machine_are_refused() -> None:
    """Neither wins by standing first."""
    with pytest.raises(InputError, match="'b': an earlier rate"):
        apply_own(small_market(), OwnPrices(rate=(rate(name="a"), rate(name="b"))), day=DAY)


@pytest.mark.parametrize(
    ("day", "holds"),
    [("2025-12-31", False), ("2026-01-01", True), ("2026-12-31", True), ("2027-01-01", False)],
)
def test_own_prices_hold_between_their_dates(day: str, holds: bool) -> None:
    """From the first day to the last; outside them the list price stands and the answer says so."""
    dated = {"valid_from": "2026-01-01", "valid_until": "2026-12-31"}
    own = OwnPrices(discount=(discount(regions=["eu-west-1"], **dated),), rate=(rate(**dated),))
    prices = apply_own(small_market(), own, day=date.fromisoformat(day))
    assert (prices.book.find("aws:p4d.24xlarge@us-east-1").usd_per_hour == 15.25) == holds
    assert (price(prices.book, region="eu-west-1") != [23.71569]) == holds
    assert any("not in force" in note for note in prices.notes) != holds


@pytest.mark.parametrize(
    "fields",
    [
        {"usd_per_hour": "0"},
        {"usd_per_hour": "-1"},
        {"usd_per_hour": "NaN"},
        {"usd_per_hour": "Infinity"},
        {"usd_per_hour": None},
        {"total_usd": 5, "term_hours": 2},
        {"usd_per_hour": None, "total_usd": 5},
        {"purchase_option": "on-demand"},
        {"valid_from": "2026-02-01", "valid_until": "2026-01-01"},
        {"name": ""},
    ],
)
def test_impossible_rates_are_refused(fields: dict[str, Any]) -> None:
    """No price, two prices, half a price, no number, an unknown way to buy, an end before its beginning."""
    with pytest.raises(ValidationError):
        rate(**fields)


@pytest.mark.parametrize("percent", ["0", "100", "-5", "NaN", "120"])
def test_impossible_discounts_are_refused(percent: str) -> None:
    """More than nothing, less than everything."""
    with pytest.raises(ValidationError):
        discount(percent=percent)


def test_order_of_rows_does_not_matter() -> None:
    """A shuffled book gives the same own prices."""
    own = OwnPrices(discount=(discount(),), rate=(rate(),))
    frame = small_market().frame
    shuffled = PriceBook(frame.sample(fraction=1.0, shuffle=True, seed=3), small_market().intakes)
    first, second = (apply_own(book, own, day=DAY).book for book in (small_market(), shuffled))
    assert first.sort_by().frame.equals(second.sort_by().frame)


def test_a_rate_with_a_zone_leaves_the_region_alone() -> None:
    """Region and zone are part of the key."""
    book = book_of(offer_row(), offer_row(zone="use1-az1", usd_per_hour=22.0))
    price_book = apply_own(book, OwnPrices(rate=(rate(zone="use1-az1"),)), day=DAY).book
    assert price(price_book) == [15.25, 21.957642]
