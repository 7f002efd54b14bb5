"""A cloud's own list takes the snapshot's place, by service, purchase option and region."""

from __future__ import annotations

from builders.offers import book_of, offer_row
from trainfare_core.prices.book import PriceBook
from trainfare_core.prices.facts import ReasonCount

FETCHED = {"fetched_at": "2026-11-20T10:00:00Z", "observed_on": "2025-06-05", "source_class": "price_api"}
SHIPPED = book_of(
    offer_row(),
    offer_row(instance_type="p3.2xlarge"),
    offer_row(region="x"),
    offer_row(purchase_option="spot", usd_per_hour=9.0),
    offer_row(service="sagemaker", instance_type="ml.p4d.24xlarge"),
    offer_row(provider="gcp", service="gce", instance_type="a2"),
    origin="snapshot",
)


def prices(book: PriceBook) -> set[tuple[str, str, str, str]]:
    columns = ("origin", "service", "purchase_option", "region")
    return set(book.frame.select(columns).rows())


def test_a_live_list_replaces_the_snapshot_s_of_that_service_and_option() -> None:
    """EC2 on demand is the live list alone where it was read, a machine that it no longer has is gone; the rest stays."""
    live = book_of(offer_row(usd_per_hour=20.0, **FETCHED), origin="aws")
    for books in ([SHIPPED, live], [live, SHIPPED]):
        both = PriceBook.concat(books)
        assert prices(both) == {
            ("aws", "ec2", "on_demand", "us-east-1"),
            ("snapshot", "ec2", "on_demand", "x"),
            ("snapshot", "ec2", "spot", "us-east-1"),
            ("snapshot", "sagemaker", "on_demand", "us-east-1"),
            ("snapshot", "gce", "on_demand", "us-east-1"),
        }
        counts = {(i.origin, i.service): (i.rows_read, i.accepted, i.filtered) for i in both.intakes}
        assert counts["snapshot", "ec2"] == (4, 2, (ReasonCount("replaced by newer live prices", 2),))
        assert counts["aws", "ec2"] == (1, 1, ())
        assert sum(i.accepted for i in both.intakes) == len(both)


def test_a_list_from_before_the_snapshot_gives_way() -> None:
    """After an update of the package an old fetch does not hide its newer snapshot."""
    old = {**FETCHED, "fetched_at": "2026-07-19T23:00:00Z"}
    live = book_of(offer_row(usd_per_hour=99.0, **old), origin="aws")
    both = PriceBook.concat([SHIPPED, live])
    assert {row[0] for row in prices(both)} == {"snapshot"}
    (taken,) = (i for i in both.intakes if i.origin == "aws")
    assert (taken.accepted, taken.filtered) == (
        0,
        (ReasonCount("fetched before the shipped snapshot's date", 1),),
    )


def test_what_was_fetched_is_as_new_as_its_fetch() -> None:
    """A price in force since 2025 that was fetched today beats a quote of July, key by key too."""
    old, today = book_of(offer_row(usd_per_hour=30.0), origin="a"), book_of(offer_row(**FETCHED), origin="b")
    for books in ([old, today], [today, old]):
        assert PriceBook.concat(books).find("aws:p4d.24xlarge@us-east-1").origin == "b"


def test_another_plugin_s_prices_are_joined_key_by_key() -> None:
    """A third party that quotes one machine of AWS does not wipe out the rest of AWS."""
    quote = book_of(offer_row(usd_per_hour=20.0, observed_on="2026-11-20"), origin="broker")
    both = PriceBook.concat([SHIPPED, quote])
    assert len(both) == len(SHIPPED)
    assert both.find("aws:p4d.24xlarge@us-east-1").usd_per_hour == 20.0
    assert ("snapshot", "ec2", "on_demand", "x") in prices(both)
