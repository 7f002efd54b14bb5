"""How old a price is: never negative, never fresh for ever, and judged by when it was fetched."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders.offers import book_of, offer_row
from trainfare_core.prices.freshness import end_of_day, fresh_hours, with_ages

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=timezone.utc)


EARLY, LATE = datetime.fromisoformat("1990-01-01"), datetime.fromisoformat("2150-01-01")


def add_ages(now: datetime = NOW, *, origin: str = "test", **fields: Any) -> dict[str, Any]:
    return with_ages(book_of(offer_row(**fields), origin=origin).frame, now).row(0, named=True)


def record_marks(record: Callable[[str, object], None], row: dict[str, Any]) -> None:
    record("{} prices of known and unknown age judged", 1)
    record("{} of them not fresh", int(not row["fresh"]))
    record("{} of them not ranked without --allow-stale", int(row["outlived"]))


@pytest.mark.parametrize(
    ("option", "hours", "fresh", "outlived"),
    [
        ("on_demand", 0, True, False),
        ("on_demand", 24, True, False),
        ("on_demand", 24.1, False, False),
        ("reserved_1y", 23, True, False),
        ("spot", 1, True, False),
        ("spot", 1.1, False, False),
        ("on_demand", 30 * 24, False, False),
        ("on_demand", 30 * 24 + 0.1, False, True),
        ("spot", 365 * 24, False, True),
    ],
)
def test_fresh_and_outlived_by_the_hour(
    option: str, hours: float, fresh: bool, outlived: bool, record_property: Callable[[str, object], None]
) -> None:
    """24 hours on demand, 1 hour spot; more than 30 days after the fetch it may not be ranked unasked."""
    fetched = (NOW - timedelta(hours=hours)).isoformat()
    row = add_ages(purchase_option=option, fetched_at=fetched, observed_on="2020-01-01")
    assert (row["fresh"], row["outlived"]) == (fresh, outlived)
    assert row["age_hours"] == pytest.approx(hours, abs=1e-3)
    assert fresh_hours(option) == (1.0 if option == "spot" else 24.0)
    record_marks(record_property, row)


@pytest.mark.parametrize(("days", "outlived"), [(31, False), (180, False), (180.1, True)])
def test_a_price_that_the_newest_list_lacks_is_usable_for_half_a_year(days: float, outlived: bool) -> None:
    """It was kept deliberately and says so, so that it does not stop the ranking of its cloud."""
    fetched = (NOW - timedelta(days=days)).isoformat()
    row = add_ages(fetched_at=fetched, caveat="no price in the newest list of 2026-11-24; a second one")
    assert row["outlived"] is outlived
    assert add_ages(fetched_at=fetched, caveat="another")["outlived"]


@pytest.mark.parametrize("years", [-1, 1])
def test_a_clock_a_year_off_makes_nothing_fresh(
    years: int, record_property: Callable[[str, object], None]
) -> None:
    """Set back, the age is unknown and the price needs leave; set forward, it is a year old. Never negative."""
    row = add_ages(NOW + timedelta(days=365 * years), fetched_at=NOW.isoformat())
    record_marks(record_property, row)
    record_property(
        "{} prices made fresh by a wrong clock or an unreadable date, 0 allowed", int(row["fresh"])
    )
    assert not row["fresh"]
    assert row["outlived"]
    assert row["ahead"] == (years < 0)
    assert row["age_hours"] is None if years < 0 else row["age_hours"] > 8000


def test_a_little_skew_between_clocks_is_no_fault() -> None:
    """A price fetched by a machine half an hour ahead is of now."""
    row = add_ages(fetched_at=(NOW + timedelta(minutes=30)).isoformat())
    assert (row["fresh"], row["age_hours"], row["ahead"]) == (True, 0.0, False)


@pytest.mark.parametrize("text", ["yesterday", "2026-11-24", "9999-99-99T00:00:00Z", "1"])
def test_a_moment_that_cannot_be_read_is_no_youth(
    text: str, record_property: Callable[[str, object], None]
) -> None:
    """A damaged `fetched_at` falls back on no date: the age is unknown, so the price is not fresh."""
    row = add_ages(fetched_at=text, observed_on="2026-11-24")
    record_marks(record_property, row)
    record_property(
        "{} prices made fresh by a wrong clock or an unreadable date, 0 allowed", int(row["fresh"])
    )
    assert (row["fresh"], row["outlived"], row["age_hours"]) == (False, True, None)


def test_a_price_without_a_fetch_counts_from_its_first_day() -> None:
    """The snapshot's dates are as precise as their source, and never make a price younger than it is."""
    assert add_ages(observed_on="2026-11")["age_hours"] == 23 * 24 + 12
    assert not add_ages(observed_on="2026-11")["outlived"]
    assert add_ages(observed_on="2026-11-24")["fresh"]
    assert add_ages(end_of_day(date(2026, 11, 24)), observed_on="2026-11-24")["fresh"]


def test_a_negotiated_rate_holds_by_contract() -> None:
    """A rate of last year is in force, not stale; a discount is as old as the list price that it is off."""
    assert add_ages(observed_on="2025-01-01", origin="own", source_class="own")["fresh"]
    assert not add_ages(observed_on="2027-01-01", origin="own", source_class="own")["fresh"]
    assert not add_ages(observed_on="2025-01-01", source_class="own")["fresh"]


@settings(max_examples=150, deadline=None)
@given(
    now=st.datetimes(min_value=EARLY, max_value=LATE, timezones=st.just(timezone.utc)),
    fetched=st.one_of(st.none(), st.datetimes(min_value=EARLY, max_value=LATE)),
    spot=st.booleans(),
)  # fmt: skip
def test_no_clock_makes_an_age_negative(now: datetime, fetched: datetime | None, spot: bool) -> None:
    """Whatever the two clocks say: an age is at least 0 or unknown, and fresh means within the limit."""
    option = "spot" if spot else "on_demand"
    text = None if fetched is None else fetched.isoformat() + "Z"
    row = add_ages(now, purchase_option=option, fetched_at=text)
    assert row["age_hours"] is None or row["age_hours"] >= 0
    assert not row["fresh"] or row["age_hours"] <= fresh_hours(option)
    assert not (row["fresh"] and row["outlived"])
