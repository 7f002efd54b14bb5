"""Every row ends in exactly one place, and nothing that is not a price becomes one."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders.offers import book_of, offer_row, table
from trainfare_core.errors import PricesUnavailableError
from trainfare_core.prices.book import PriceBook
from trainfare_core.prices.facts import Intake, ReasonCount
from trainfare_core.prices.intake import BOOK_SCHEMA, KEY_COLUMNS, PURCHASE_OPTIONS, first_day

NOT_PRICES = [
    "nan",
    "inf",
    "-inf",
    "-1",
    "0",
    "0.0",
    "1e400",
    "1_000",
    "１２",
    "٣",
    "0x10",
    "$3",
    "1,000",
    "",
    " 1",
]


def list_quarantined(book: PriceBook) -> list[tuple[str, int]]:
    return [(tally.reason, tally.rows) for intake in book.intakes for tally in intake.quarantined]


@pytest.mark.parametrize("text", NOT_PRICES)
def test_text_that_is_no_price_is_quarantined(text: str) -> None:
    """A price is ASCII decimal text, finite and above zero."""
    book = book_of(offer_row(usd_per_hour=text), offer_row(region="eu-west-1", usd_per_hour="21.95"))
    assert book.frame["usd_per_hour"].to_list() == [21.95]
    assert list_quarantined(book) == [("price is not a finite number above 0", 1)]


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, -1.0, 0.0, None])
def test_number_that_is_no_price_is_quarantined(number: float | None) -> None:
    """The same holds for a price that comes as a number."""
    book = book_of(offer_row(usd_per_hour=number))
    assert len(book) == 0
    assert list_quarantined(book) == [("price is not a finite number above 0", 1)]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"usd_per_hour": 2e6}, "price is above 1,000,000 USD an hour"),
        ({"currency": "EUR"}, "currency is not USD"),
        ({"currency": ""}, "currency is not USD"),
        ({"purchase_option": "low_priority"}, "unknown purchase option"),
        ({"source_class": "rumour"}, "unknown source class"),
        ({"source_class": ""}, "unknown source class"),
        ({"provider": ""}, "a name, the purchase option or the source is blank"),
        ({"region": ""}, "a name, the purchase option or the source is blank"),
        ({"source": ""}, "a name, the purchase option or the source is blank"),
        ({"instance_type": "x" * 201}, "a name is longer than 200 bytes"),
        ({"observed_on": "2026-13"}, "date is not YYYY, YYYY-MM or YYYY-MM-DD"),
        ({"observed_on": "2026-02-30"}, "date is not YYYY, YYYY-MM or YYYY-MM-DD"),
        ({"observed_on": "yesterday"}, "date is not YYYY, YYYY-MM or YYYY-MM-DD"),
        ({"accelerator_count": 0.0}, "accelerator count is not a finite number above 0"),
        ({"accelerator_count": math.nan}, "accelerator count is not a finite number above 0"),
        ({"accelerator_memory_gib": None}, "accelerator memory is not above 0"),
        ({"accelerator_memory_gib": math.inf}, "a size is not a finite number"),
        ({"vcpus": "many"}, "a size is not a finite number"),
        ({"memory_gib": -1.0}, "a size is not a finite number"),
        ({"network_gbit_per_s": math.nan}, "a size is not a finite number"),
    ],
)
def test_each_rule_names_its_reason(change: dict[str, Any], reason: str) -> None:
    """A row that breaks one rule is counted under that rule and does not become an offer."""
    book = book_of(offer_row(**change))
    assert len(book) == 0
    assert list_quarantined(book) == [(reason, 1)]


def test_blank_sizes_are_unknown_not_wrong() -> None:
    """Sizes that a source does not give stay unknown."""
    book = book_of(offer_row(vcpus=None, memory_gib="", network_gbit_per_s=None))
    assert book.frame.select("vcpus", "memory_gib", "network_gbit_per_s").row(0) == (None, None, None)


@pytest.mark.parametrize(
    ("text", "band"), [("5-10%", "5-10%"), (">20%", ">20%"), ("often", None), ("", None), (None, None)]
)
def test_interruption_band_is_known_or_blank(text: str | None, band: str | None) -> None:
    """Only the published bands are kept; another word costs the band, never the price."""
    (offer,) = book_of(offer_row(purchase_option="spot", interruption_band=text)).offers()
    assert offer.interruption_band == band


def test_machine_without_accelerator_is_filtered() -> None:
    """A machine with no accelerator is none of our business, which is no fault of the source."""
    book = book_of(
        offer_row(accelerator=None, accelerator_count=None, accelerator_memory_gib=None), offer_row()
    )
    assert [(i.accepted, i.filtered, i.degraded) for i in book.intakes] == [
        (1, (ReasonCount("machine without an accelerator", 1),), False)
    ]


def test_two_prices_for_one_key_are_both_refused() -> None:
    """Where a source contradicts itself neither price is taken, whichever comes first."""
    other = offer_row(region="eu-west-1")
    for rows in ([1.0, 2.0], [2.0, 1.0]):
        book = book_of(*(offer_row(usd_per_hour=price) for price in rows), other)
        assert book.names("region") == ("eu-west-1",)
        assert list_quarantined(book) == [
            ("two different prices for one machine, region, zone and option", 2)
        ]


def test_the_same_price_again_is_taken_once_with_its_newest_date() -> None:
    """A repeat is filtered; of equal prices the newest date stays."""
    dates = ("2025-02", "2026-07-20", "2026-07")
    book = book_of(*(offer_row(observed_on=date) for date in dates))
    assert book.frame["observed_on"].to_list() == ["2026-07-20"]
    assert book.intakes == (
        Intake("test", "aws", "ec2", 3, 1, (ReasonCount("the same price again", 2),), ()),
    )


@pytest.mark.parametrize("column", KEY_COLUMNS)
def test_each_key_column_tells_offers_apart(column: str) -> None:
    """Rows that differ in one part of the key are two offers with two prices."""
    other = {"purchase_option": "spot"}.get(column, "other")
    assert len(book_of(offer_row(), offer_row(**{column: other}, usd_per_hour=5.0))) == 2


def test_missing_column_is_no_price_table() -> None:
    """A table without prices, currency or dates is refused as a whole, by column name."""
    with pytest.raises(PricesUnavailableError, match="currency"):
        PriceBook.from_rows(table(offer_row()).drop("currency"), origin="test")


def test_more_than_five_percent_quarantined_is_degraded() -> None:
    """One bad row in twenty is a source's slip, two are a sick source."""
    good = [offer_row(region=f"r{number}") for number in range(19)]
    bad = offer_row(region="bad", usd_per_hour=0.0)
    assert [i.degraded for i in book_of(*good, bad).intakes] == [False]
    assert [i.degraded for i in book_of(*good, bad, {**bad, "region": "worse"}).intakes] == [True]


def test_counts_are_kept_per_cloud_service() -> None:
    """A sick service does not make another one look sick, and a row with no cloud is counted too."""
    book = book_of(
        offer_row(),
        offer_row(service="sagemaker", usd_per_hour=-1.0),
        offer_row(provider=None, usd_per_hour=1.0),
    )
    assert [(i.provider, i.service, i.rows_read, i.accepted) for i in book.intakes] == [
        ("(none)", "ec2", 1, 0),
        ("aws", "ec2", 1, 1),
        ("aws", "sagemaker", 1, 0),
    ]


def test_a_lost_row_is_an_error() -> None:
    """Counts that do not add up cannot be made."""
    with pytest.raises(ValueError, match="read 3 rows, 2 accounted for"):
        Intake("test", "aws", "ec2", 3, 1, (), (ReasonCount("why", 1),))


@pytest.mark.parametrize(
    ("text", "day"),
    [("2026", "2026-01-01"), ("2026-03", "2026-03-01"), ("2026-03-05", "2026-03-05"), ("26-3", None)],
)
def test_first_day_is_the_earliest_a_date_can_mean(text: str, day: str | None) -> None:
    """An age counted from it is never too young."""
    found = pl.DataFrame({"observed_on": [text]}).select(first_day()).item()
    assert (None if found is None else str(found)) == day


def some(*values: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from(values)


ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "provider": some("aws", "gcp", "", None),
            "service": some("ec2", "tpu"),
            "instance_type": some("a", "b") | st.text(max_size=3),
            "region": some("r1", "r2"),
            "zone": some(None, "z"),
            "purchase_option": some(*PURCHASE_OPTIONS, "free"),
            "usd_per_hour": some("1", "2.5", *NOT_PRICES) | st.text(max_size=6) | st.floats().map(str),
            "accelerator": some("H100", "", None),
            "accelerator_count": some("8", "0.5", "0", "nan", "-8", None),
            "accelerator_memory_gib": some("80", "", "-1"),
            "vcpus": some("4", "", "many", "inf"),
            "observed_on": some("2026-01", "2026-01-02", "soon", ""),
            "currency": some("USD", "USD", "EUR", None),
        }
    ).map(lambda row: offer_row(**row)),
    min_size=1,
    max_size=30,
)


@settings(max_examples=3 * settings().max_examples)
@given(rows=ROWS, seed=st.integers(0, 10))
def test_no_row_is_lost_and_no_nan_comes_out(rows: list[dict[str, Any]], seed: int) -> None:
    """Whatever is read, the counts add up, prices are finite and above 0, and keys are unique in any order."""
    frame = table(*rows)
    book = PriceBook.from_rows(frame, origin="test")
    assert sum(i.rows_read for i in book.intakes) == len(rows)
    assert sum(i.accepted for i in book.intakes) == len(book)
    prices = book.frame["usd_per_hour"].to_list()
    assert all(math.isfinite(price) and price > 0 for price in prices)
    for name, kind in BOOK_SCHEMA.items():
        assert kind is not pl.Float64 or not book.frame[name].is_nan().any()
    assert book.frame.select(KEY_COLUMNS).is_unique().all()
    shuffled = PriceBook.from_rows(frame.sample(fraction=1.0, shuffle=True, seed=seed), origin="test")
    assert shuffled.intakes == book.intakes
    order = list(KEY_COLUMNS)
    assert shuffled.frame.sort(order).equals(book.frame.sort(order))


@pytest.mark.parametrize("count", ["n/a", "-1", "0", None])
def test_a_machine_without_an_accelerator_is_filtered_whatever_its_count(count: str | None) -> None:
    """The count of nothing may be any text: the row is out of scope, and says nothing about its source."""
    (intake,) = book_of(offer_row(accelerator=None, accelerator_count=count)).intakes
    assert [(tally.reason, tally.rows) for tally in intake.filtered] == [
        ("machine without an accelerator", 1)
    ]
    assert intake.quarantined == ()


@pytest.mark.parametrize("value", [[1.0], {"usd": 1.0}, b"\xff", timedelta(days=1)], ids=repr)
@pytest.mark.parametrize("name", ["usd_per_hour", "vcpus", "region", "observed_on_estimated"])
def test_a_column_of_another_kind_is_no_price_table(name: str, value: object) -> None:
    """A plug-in or a file can have any column; the error names it."""
    rows = table(offer_row()).with_columns(pl.Series(name, [value]))
    with pytest.raises(
        PricesUnavailableError, match=f"test: not a price table, {name} has neither text nor numbers"
    ):
        PriceBook.from_rows(rows, origin="test")
