"""Values of an answer: what is taken as a number, a name, text or a day."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

import pytest

from trainfare_providers.answer_values import (
    amount_at,
    day_of,
    items_of,
    name_of,
    number_of,
    object_of,
    text_at,
    text_of,
)


@pytest.mark.parametrize(
    "value", [None, True, False, "3.673", 3.673, [3], Decimal("NaN"), Decimal("-Infinity")]
)
def test_only_finite_integers_and_decimals_are_numbers(value: object) -> None:
    """A float has lost digits already; text, true and NaN are none."""
    assert number_of(value) is None


def test_numbers_keep_their_digits() -> None:
    assert str(number_of(Decimal("3.6730"))) == "3.6730"
    assert number_of(65910) == 65910


@pytest.mark.parametrize("value", ["", " ", "x" * 257, "\ud800", None, 7, b"text"])
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
def test_invalid_day_is_none(value: object) -> None:
    assert day_of(value) is None


def test_day_of_a_time() -> None:
    assert day_of("2023-03-24T10:52:50.681Z") == "2023-03-24"


def test_objects_and_lists_of_json() -> None:
    assert object_of({"a": 1}) == {"a": 1}
    assert object_of([1]) is None
    assert items_of([1]) == [1]
    assert items_of({"a": 1}) == ()


def test_a_path_leads_to_a_value_or_to_nothing() -> None:
    """A key that is missing, or a value of another kind on the way, is nothing found and never an error."""
    answer = {"a": {"b": {"text": "x", "count": 8, "items": [1]}}, "list": [1]}
    assert (text_at(answer, "a", "b", "text"), amount_at(answer, "a", "b", "count")) == ("x", 8.0)
    assert items_of(answer, "a", "b", "items") == [1]
    assert object_of(answer, "a", "b") == answer["a"]["b"]  # type: ignore[call-overload,index]
    for path in (("a", "none", "text"), ("list", "text"), ("a", "b", "text", "deeper")):
        assert text_at(answer, *path) == ""
        assert amount_at(answer, *path) is None
        assert items_of(answer, *path) == ()
        assert object_of(answer, *path) is None


@pytest.mark.parametrize("value", [True, "8", -1, float("nan"), float("inf"), 10**12, Decimal("NaN"), None])
def test_amount_is_a_plain_count_or_size(value: object) -> None:
    """Text, true, negative, endless and absurd numbers are none."""
    assert amount_at({"x": value}, "x") is None


def test_a_time_at_the_calendars_end_has_no_day() -> None:
    """Changing its zone would overflow; boto3 hands over times with and without a zone."""
    assert day_of(datetime(2026, 8, 2)) == "2026-08-02"  # noqa: DTZ001
    assert day_of(datetime.max) is None  # noqa: DTZ901
