"""The chance of keeping budget and deadline together, against drawn runs and at its edges."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainfare_core.ranking.pricing.chances import chances_of_both

MARGINS = st.floats(-3, 3)
SIGMAS = st.floats(0, 1.5)


def probability_of_both(*margins_and_sigmas: float) -> float:
    return float(chances_of_both(*(np.array([value]) for value in margins_and_sigmas))[0])


@pytest.mark.parametrize(
    ("hours_margin", "usd_margin", "hours_sigma", "price_sigma"),
    [
        (0.2, 0.3, 0.25, 0.3),
        (0.0, 0.0, 0.2, 0.2),
        (-0.1, 0.5, 0.3, 0.1),
        (0.5, -0.1, 0.1, 0.6),
        (0.3, 0.1, 0.0, 0.2),
    ],
)
def test_it_is_the_share_of_drawn_runs(
    hours_margin: float, usd_margin: float, hours_sigma: float, price_sigma: float
) -> None:
    """Two million runs with random hours and prices keep both limits as often as computed."""
    rng = np.random.default_rng(3)
    hours = rng.normal(0.0, hours_sigma, 2_000_000)
    usd = hours + rng.normal(0.0, price_sigma, 2_000_000)
    share = np.mean((hours <= hours_margin) & (usd <= usd_margin))
    value = probability_of_both(hours_margin, usd_margin, hours_sigma, price_sigma)
    assert value == pytest.approx(share, abs=0.0015)


@given(MARGINS, MARGINS, SIGMAS, SIGMAS)
def test_it_is_within_the_bounds_of_the_two_chances(
    one: float, other: float, hours: float, price: float
) -> None:
    """Never above either chance alone, never below their product: dollars rise with hours."""
    both = probability_of_both(one, other, hours, price)
    time, money = (
        probability_of_both(one, math.inf, hours, price),
        probability_of_both(math.inf, other, hours, price),
    )
    assert time * money - 1e-6 <= both <= min(time, money) + 1e-6


@given(MARGINS, MARGINS, SIGMAS)
def test_a_certain_price_leaves_the_tighter_limit(one: float, other: float, hours: float) -> None:
    """Without doubt about the price hours decide alone."""
    both = probability_of_both(one, other, hours, 0.0)
    assert both == probability_of_both(min(one, other), math.inf, hours, 0.0)


def test_hours_that_are_certain_and_too_long_are_never_in_time() -> None:
    """Up to the last digit of any figure: a deadline that certain hours break is broken at any price."""
    for hours_sigma in (0.0, 1e-9):
        assert probability_of_both(-0.1, 1.0, hours_sigma, 0.2) == 0.0
        assert probability_of_both(0.1, 1.0, hours_sigma, 0.2) > 0.99
