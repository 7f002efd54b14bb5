"""Numbers in sentences are never powers of ten, and keep their significant digits."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trainfare_core.figures import counted, figures


def test_large_numbers_are_written_in_full() -> None:
    assert figures(1548.2) == "1,548"
    assert figures(61_500.0) == "61,500"
    assert figures(999.7) == "1,000"
    assert counted(123.4, "interruption") == "123 interruptions"


def test_one_has_no_plural() -> None:
    assert counted(0.996, "interruption") == "1 interruption"
    assert counted(1.1, "interruption") == "1.1 interruptions"


@given(st.floats(1e-3, 1e12), st.integers(1, 5))
def test_the_number_is_kept_to_its_digits(value: float, digits: int) -> None:
    text = figures(value, digits)
    assert "e" not in text
    assert abs(float(text.replace(",", "")) - value) <= value * 0.5000001 * 10 ** (1 - digits)
