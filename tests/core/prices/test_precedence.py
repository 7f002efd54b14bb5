"""A cloud's own list takes the snapshot's place, by service, purchase option and region."""

from __future__ import annotations

import polars as pl
import pytest

from builders.offers import book_of, offer_row
from trainfare_core.prices.book import PriceBook
from trainfare_core.prices.facts import ReasonCount
from trainfare_providers.snapshot import SnapshotProvider

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
    """EC2 on demand is the live list where it was read, and a machine that it lacks is marked; the rest stays."""
    live = book_of(offer_row(usd_per_hour=20.0, **FETCHED), origin="aws")
    for books in ([SHIPPED, live], [live, SHIPPED]):
        both = PriceBook.concat(books)
        assert both.find("aws:p3.2xlarge@us-east-1").caveat == "no price in the newest list of 2026-11-20"
        assert both.frame["caveat"].drop_nulls().len() == 1
        assert prices(both) == {
            ("aws", "ec2", "on_demand", "us-east-1"),
            ("snapshot", "ec2", "on_demand", "us-east-1"),
            ("snapshot", "ec2", "on_demand", "x"),
            ("snapshot", "ec2", "spot", "us-east-1"),
            ("snapshot", "sagemaker", "on_demand", "us-east-1"),
            ("snapshot", "gce", "on_demand", "us-east-1"),
        }
        counts = {(i.origin, i.service): (i.rows_read, i.accepted, i.filtered) for i in both.intakes}
        assert counts["snapshot", "ec2"] == (4, 3, (ReasonCount("replaced by newer live prices", 1),))
        assert counts["aws", "ec2"] == (1, 1, ())
        assert sum(i.accepted for i in both.intakes) == len(both)


def test_a_machine_that_the_list_lacks_goes_half_a_year_after_it_was_last_seen() -> None:
    """The shipped price of 2026-07-20 is kept beside a list of 180 days later, and left out a day after."""
    for day, kept in (("2027-01-16", True), ("2027-01-17", False)):
        live = book_of(offer_row(**{**FETCHED, "fetched_at": f"{day}T10:00:00Z"}), origin="aws")
        both = PriceBook.concat([SHIPPED, live])
        assert ("p3.2xlarge" in both.names("instance_type")) is kept
        (replaced,) = [count for intake in both.intakes for count in intake.filtered]
        assert replaced == ReasonCount("replaced by newer live prices", 1 if kept else 2)
        assert sum(i.accepted for i in both.intakes) == len(both)


@pytest.mark.parametrize(
    ("provider", "machine", "rows"),
    [
        # Known in us-central1 only when this was written: 9 rows of the Billing catalogue of 2026-10-13.
        ("gcp", "a3-ultragpu-8g", 9),
        # No machine table had them: 49 rows of the Retail Prices API of 2026-06-18 and 2026-08-22.
        ("azure", "RTXPRO6000", 49),
    ],
)
def test_a_refresh_by_an_older_machine_table_loses_no_machine(provider: str, machine: str, rows: int) -> None:
    """A live list of everything but some machines leaves the shipped prices of those, dated and marked."""
    shipped = SnapshotProvider().load()
    cloud = shipped.filter(providers=[provider]).rows
    left_out = pl.col("instance_type").str.contains(machine) & (pl.col("region") != "us-central1")
    live = cloud.filter(~left_out).with_columns(
        fetched_at=pl.lit("2026-11-30T10:00:00Z"), source_class=pl.lit("price_api"), origin=pl.lit(provider)
    )
    both = PriceBook.concat([shipped, PriceBook.from_rows(live, origin=provider)]).rows
    kept = both.filter(pl.col("provider") == provider, pl.col("origin") == "snapshot")
    assert kept.height == rows
    assert kept.filter(~left_out).is_empty()
    assert kept["caveat"].str.starts_with("no price in the newest list of 2026-11-30").all()
    assert set(kept["observed_on"]) <= {"2026-10-13", "2026-06-18", "2026-08-22"}
    if provider == "gcp":
        spot = both.filter(pl.col("accelerator") == "H200-SXM-141GB", pl.col("purchase_option") == "spot")
        ours = spot.filter(pl.col("provider") == "gcp")
        assert ours["usd_per_hour"].min() == pytest.approx(45.0856)  # us-east4; without it 50.0856


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
