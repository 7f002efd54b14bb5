"""How far errors reach, with and without weights of their sources."""

from __future__ import annotations

import pytest

from trainfare_research.scoring import half_width


def test_a_small_source_reaches_as_far_as_a_large_one_where_both_count_the_same() -> None:
    """Of 9 errors of 0.1 in one source and one of 0.5 in another, by hand."""
    errors, weights = [0.1] * 9 + [-0.5], [1 / 9] * 9 + [1.0]
    assert half_width(errors, 0.8) == pytest.approx(0.1)
    assert half_width(errors, 0.8, weights) == 0.5
    assert half_width(errors, 0.4, weights) == 0.1
