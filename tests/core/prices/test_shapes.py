"""Numbers of machine shapes."""

from __future__ import annotations

import numpy as np
import pytest

from trainfare_core.prices.shapes import distinct_numbers


@pytest.mark.parametrize("far", [9, 10**12], ids=["near", "far apart"])
def test_distinct_numbers_are_counted_in_their_order(far: int) -> None:
    """Whether a table of all numbers between them is small or would fill the memory."""
    number = np.array([far, 2, far, 0, 2], dtype=np.int64)
    values, first = distinct_numbers(number)
    assert values.tolist() == [2, 1, 2, 0, 1]
    assert number[first].tolist() == [0, 2, far]


def test_no_numbers_are_none() -> None:
    values, first = distinct_numbers(np.zeros(0, dtype=np.int64))
    assert (len(values), len(first)) == (0, 0)
