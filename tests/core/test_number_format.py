"""Numbers in sentences are never powers of ten, and keep their significant digits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainfare_core.number_format import (
    duration,
    figures,
    hours_range,
    hours_text,
    list_items,
    percent,
    quantify,
    shorten_text,
)


def test_large_numbers_are_written_in_full() -> None:
    assert figures(1548.2) == "1,548"
    assert figures(61_500.0) == "61,500"
    assert figures(999.7) == "1,000"
    assert quantify(123.4, "interruption") == "123 interruptions"


def test_one_has_no_plural() -> None:
    assert quantify(0.996, "interruption") == "1 interruption"
    assert quantify(1.1, "interruption") == "1.1 interruptions"


@given(st.floats(1e-3, 1e12), st.integers(1, 5))
def test_the_number_is_kept_to_its_digits(value: float, digits: int) -> None:
    text = figures(value, digits)
    assert "e" not in text
    assert abs(float(text.replace(",", "")) - value) <= value * 0.5000001 * 10 ** (1 - digits)


@pytest.mark.parametrize(
    ("share", "shown"),
    [(0.0, "0 %"), (0.001, "<1 %"), (0.305, "30 %"), (0.9993, "99.9 %"), (0.99999, "99.9 %"), (1.0, "100 %")],
)
def test_percentages_never_round_to_all_or_nothing(share: float, shown: str) -> None:
    """A share just below 1 is not shown as 100 %, and one just above 0 not as 0 %."""
    assert percent(share) == shown


def test_decimals_that_are_asked_for_are_kept() -> None:
    assert [percent(share, 1) for share in (0.001, 0.9999, 12.345)] == ["0.1 %", "100.0 %", "1,234.5 %"]
    assert [percent(share, 1, sign=True) for share in (0.715, -0.05)] == ["+71.5 %", "-5.0 %"]


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.0, "0 s"),
        (0.0123, "12.3 ms"),
        (59.96, "60 s"),
        (240.48, "4.01 min"),
        (3_600.0, "1 h"),
        (5_400.0, "1.5 h"),
        (61_500 * 3_600.0, "61,500 h"),
    ],
)
def test_times_are_in_the_unit_that_suits_them(seconds: float, shown: str) -> None:
    """No time below an hour is a fraction of one."""
    assert duration(seconds) == hours_text(seconds / 3600) == shown


def test_an_interval_is_in_the_unit_of_its_median() -> None:
    assert hours_range(0.0668, 0.05, 0.408) == "4.01 min [3 to 24.5]"
    assert hours_range(1.5, 0.9, 2.5, "()") == "1.5 h (0.9 to 2.5)"


@given(st.lists(st.text("ab/.:1", min_size=1, max_size=40), min_size=1, max_size=12), st.integers(60, 200))
def test_a_list_is_never_cut_within_an_item(items: list[str], most: int) -> None:
    """What does not fit is counted, so that no path ends in its middle."""
    text = list_items(items, most)
    shown = next(count for count in range(len(items), 0, -1) if text.startswith(", ".join(items[:count])))
    assert len(text) <= most
    rest = text.removeprefix(", ".join(items[:shown]))
    assert rest == (f" and {len(items) - shown} more" if shown < len(items) else "")


@given(st.lists(st.text("ab/.:", min_size=1, max_size=20), min_size=1, max_size=60))
def test_a_text_is_never_cut_within_a_word(words: list[str]) -> None:
    """A path stays whole or is left out."""
    text = shorten_text(" ".join(words), 100)
    assert len(text) <= 100
    kept = text.removesuffix(" ...").split()
    assert kept == words[: len(kept)]
