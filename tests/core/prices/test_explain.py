"""Which of the rows read for a machine is its price, and what the others were set aside by."""

from __future__ import annotations

import math
from datetime import datetime, timezone

import pytest

from builders.offers import book_of, offer_row
from trainfare_core.errors import UnknownNameError
from trainfare_core.prices.book import PriceBook
from trainfare_core.prices.explain import PriceExplanation, explain_prices
from trainfare_core.prices.own_prices import OwnPrices, apply_own

NOW = datetime(2026, 11, 26, 12, 0, tzinfo=timezone.utc)
MACHINE = "aws:p4d.24xlarge@us-east-1"


def explain(*books: PriceBook, machine: str = MACHINE) -> PriceExplanation:
    return explain_prices(PriceBook.concat(books), machine, as_of=NOW)


def reasons(found: PriceExplanation) -> dict[str, tuple[bool, str]]:
    return {
        f"{reading.source} {reading.usd_per_hour or math.nan:g}": (reading.used, reading.because)
        for reading in found.readings
    }


def test_every_row_is_shown_with_its_fate() -> None:
    """Of three sources the newest wins; an older one and a repeat are set aside, and each says by which rule."""
    explanation = explain(
        book_of(offer_row(source="old", usd_per_hour=32.0, observed_on="2025-01-01"), origin="a"),
        book_of(offer_row(source="new", observed_on="2026-11-01"), origin="b"),
        book_of(offer_row(source="same", observed_on="2026-11-01"), origin="c"),
        book_of(offer_row(source="elsewhere", region="eu-west-1"), origin="d"),
    )
    assert reasons(explanation) == {
        "new 21.9576": (True, "used: 2 other rows are set aside"),
        "same 21.9576": (False, "the same price again"),
        "old 32": (False, "an older price than another source's"),
    }
    assert explanation.machine == MACHINE


def test_two_prices_of_one_day_leave_none() -> None:
    """Equally new and different prices are both set aside, and said to be."""
    day = {"observed_on": "2026-11-01"}
    explanation = explain(
        book_of(offer_row(source="a", **day), origin="a"),
        book_of(offer_row(source="b", usd_per_hour=20.0, **day), origin="b"),
    )
    assert [reading.used for reading in explanation.readings] == [False, False]
    assert {reading.because for reading in explanation.readings} == {
        "two different prices for one machine, region, zone and option"
    }


def test_a_list_of_the_cloud_s_own_replaces_the_snapshot() -> None:
    """A live list replaces shipped rows of its service and region; a list older than the snapshot is replaced by it."""
    shipped = book_of(offer_row(source="shipped", observed_on="2026-08-01"), origin="snapshot")
    newer = offer_row(source="live", fetched_at="2026-11-25T10:00:00+00:00", usd_per_hour=20.0)
    assert reasons(explain(shipped, book_of(newer, origin="aws"))) == {
        "live 20": (True, "used: 1 other rows are set aside"),
        "shipped 21.9576": (False, "replaced by newer live prices"),
    }
    older = offer_row(source="live", fetched_at="2026-05-25T10:00:00+00:00", usd_per_hour=20.0)
    assert reasons(explain(shipped, book_of(older, origin="aws"))) == {
        "shipped 21.9576": (True, "used: 1 other rows are set aside"),
        "live 20": (False, "fetched before the shipped snapshot's date"),
    }


def test_refused_rows_and_own_rates_are_there_too() -> None:
    """A row that is no price is shown with why; a negotiated rate replaces the list price and is certain."""
    listed = book_of(
        offer_row(source="listed", observed_on="2026-11-01"),
        offer_row(source="broken", zone="use1-az1", usd_per_hour=float("nan")),
    )
    rate = {
        "name": "deal",
        "provider": "aws",
        "service": "ec2",
        "instance_type": "p4d.24xlarge",
        "region": "us-east-1",
        "purchase_option": "on_demand",
        "usd_per_hour": "15",
        "agreed_on": "2026-01-01",
    }
    own = apply_own(listed, OwnPrices.model_validate({"rate": [rate]}), day=NOW.date()).book
    explanation = explain_prices(own, MACHINE, as_of=NOW)
    assert reasons(explanation) == {
        "own rate: deal 15": (True, "used: 1 other rows are set aside"),
        "listed 21.9576": (False, "replaced by an own rate"),
        "broken nan": (False, "price is not a finite number above 0"),
    }
    rate_row = next(reading for reading in explanation.readings if reading.used)
    assert rate_row.usd_per_hour_now is not None
    assert rate_row.usd_per_hour_now.low_80 == rate_row.usd_per_hour_now.high_80 == 15.0


def test_the_interval_and_the_age_are_those_of_the_ranking() -> None:
    """A spot price of three months ago has an interval; one of two years ago says that it is not ranked."""
    spot = offer_row(provider="azure", service="azure_vm", purchase_option="spot", observed_on="2024-09-01")
    (reading,) = explain(book_of(spot), machine="azure:p4d.24xlarge@us-east-1").readings
    assert reading.age_days == pytest.approx(817, abs=0.001)  # to the end of the day
    assert reading.usd_per_hour_now is not None
    assert reading.usd_per_hour_now.high_80 > 2 * reading.usd_per_hour_now.mid
    assert "too old to rank" in reading.because
    assert (reading.chance_changed or 0) > 0.9


@pytest.mark.parametrize(
    "machine", ["p4d.24xlarge", "aws:p4d.24xlarge", "aws:@us-east-1", "aws:p9.big@us-east-1"]
)
def test_a_name_that_is_not_there_is_an_error(machine: str) -> None:
    """A name of another form, or of no machine, is refused with a hint."""
    with pytest.raises(UnknownNameError, match=r"provider:instance_type@region|p9.big"):
        explain(book_of(offer_row()), machine=machine)


def test_a_zone_after_the_at_shows_its_rows() -> None:
    """The place may be a zone, as in every other command that takes a machine."""
    rows = (
        offer_row(zone="us-east-1-atl-1", source="local"),
        offer_row(source="region"),
    )
    explanation = explain(book_of(*rows), machine="aws:p4d.24xlarge@us-east-1-atl-1")
    assert reasons(explanation) == {"local 21.9576": (True, "used: the only row")}
