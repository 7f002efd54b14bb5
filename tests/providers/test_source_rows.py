"""Values off the wire: what is believed to be a number, a name, a day; and the counts of a sink."""

from __future__ import annotations

from decimal import Decimal

import pytest

from trainfare_core.prices.intake import Tally
from trainfare_providers.source_rows import (
    Refused,
    RowSink,
    SourceRow,
    day_of,
    items_of,
    name_of,
    number_of,
    object_of,
    text_of,
)


@pytest.mark.parametrize(
    "value", [None, True, False, "3.673", 3.673, [3], Decimal("NaN"), Decimal("-Infinity")]
)
def test_only_a_finite_number_as_it_was_written_is_one(value: object) -> None:
    """A float has lost digits already; text, true and NaN are none."""
    assert number_of(value) is None


def test_numbers_keep_their_digits() -> None:
    assert str(number_of(Decimal("3.6730"))) == "3.6730"
    assert number_of(65910) == 65910


@pytest.mark.parametrize("value", ["", " ", "x" * 201, "\ud800", None, 7, b"text"])
def test_text_that_cannot_be_shown_is_none(value: object) -> None:
    assert text_of(value) is None


@pytest.mark.parametrize("value", ["", "east us", "-a", "a\n", "a\u202e", "<b>", "x" * 101, None, "us/east"])
def test_name_holds_only_what_names_hold(value: object) -> None:
    assert name_of(value) is None


def test_names_and_text_come_out_as_they_are() -> None:
    assert name_of("n1-standard-8+nvidia-tesla-t4x1") == "n1-standard-8+nvidia-tesla-t4x1"
    assert text_of(" NC24rs v3 Spot ") == "NC24rs v3 Spot"


@pytest.mark.parametrize(
    "value", ["2023-02-30", "2023-2-3", "20230203", "2023-02-033", "\u0662023-02-03", None, 1]
)
def test_day_that_is_none(value: object) -> None:
    assert day_of(value) is None


def test_day_of_a_time() -> None:
    assert day_of("2023-03-24T10:52:50.681Z") == "2023-03-24"


def test_objects_and_lists_of_json() -> None:
    assert object_of({"a": 1}) == {"a": 1}
    assert object_of([1]) is None
    assert items_of([1]) == [1]
    assert items_of({"a": 1}) == ()


def test_sink_counts_every_row_and_keeps_the_digits_of_a_price() -> None:
    sink = RowSink("azure", "azure_vm")
    assert sink.kept(Refused("Windows")) is None
    assert sink.kept(Refused("Windows")) is None
    assert sink.kept(Refused("unit", quarantined=True)) is None
    row = SourceRow(
        "m", "r", "A100", 1.0, 80.0, Decimal("3.6730"), "on_demand", "2026-01-01", "s", "https://x", "USD"
    )
    kept = sink.kept(row)
    assert kept is row
    sink.rows.append(kept)
    found = sink.fetched(["a note"])
    assert (found.filtered, found.quarantined) == ((Tally("Windows", 2),), (Tally("unit", 1),))
    assert found.notes == ("a note",)
    assert sink.rows_read == 4
    assert found.rows.row(0, named=True)["usd_per_hour"] == "3.6730"
    assert RowSink("azure", "azure_ml").fetched().rows.is_empty()
