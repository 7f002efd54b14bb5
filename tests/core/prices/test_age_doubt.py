"""How far a price may have moved: it grows with age, and follows the readings that it was fitted to."""

from __future__ import annotations

import math
from datetime import datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders.offers import book_of, offer_row
from trainfare_core.prices.age_doubt import (
    ANY,
    Z_80,
    PriceMoves,
    moves_of,
    price_log_sigma,
    price_moves,
    too_old_to_rank,
)
from trainfare_core.prices.freshness import with_ages

NOW = datetime(2026, 11, 26, 12, 0, tzinfo=timezone.utc)

SIMPLE = PriceMoves(
    provider="a",
    service="b",
    purchase_option="spot",
    change_days=10.0,
    change_power=1.0,
    size=0.2,
    settle_days=100.0,
    pairs=1,
)


def sigma(days: float | None, **fields: Any) -> float:
    """The doubt about one price seen so many days ago; None: dated in the future, which is an unknown age."""
    fetched = NOW + timedelta(days=400) if days is None else NOW - timedelta(days=days)
    row = offer_row(fetched_at=fetched.isoformat(), **fields)
    return float(price_log_sigma(with_ages(book_of(row).frame, NOW))[0])


def test_the_formula_by_hand() -> None:
    """After ten days 1 - 1/e have changed; the 80 % interval then reaches b ln(p / 0.2) with b = size sqrt(1 - e^-0.1)."""
    changed = 1 - math.exp(-1)
    assert SIMPLE.chance_changed(10.0) == pytest.approx(changed)
    size = 0.2 * math.sqrt(1 - math.exp(-0.1))
    assert SIMPLE.log_half_width(10.0) == pytest.approx(size * math.log(changed / 0.2))
    assert SIMPLE.log_half_width(10.0, 0.5) == pytest.approx(size * math.log(changed / 0.5))
    assert SIMPLE.log_half_width(1.0) == 0.0  # fewer than a fifth have changed by then


def test_the_interval_holds_what_it_says() -> None:
    """Of prices drawn from the model, 50, 80 and 90 % lie inside the intervals."""
    rng = np.random.default_rng(5)
    age, n = 30.0, 200_000
    moved = rng.random(n) < SIMPLE.chance_changed(age)
    size = SIMPLE.size * math.sqrt(1 - math.exp(-age / SIMPLE.settle_days))
    log_ratio = np.where(moved, rng.laplace(0.0, size, n), 0.0)
    for level in (0.5, 0.8, 0.9):
        inside = np.mean(np.abs(log_ratio) <= SIMPLE.log_half_width(age, level))
        assert inside == pytest.approx(level, abs=0.005)


@given(st.sampled_from(price_moves()), st.floats(0, 4000), st.floats(0, 4000))
def test_doubt_never_shrinks_with_age(moves: PriceMoves, one: float, other: float) -> None:
    """An older price is never surer, in any class, at any level."""
    younger, older = sorted((one, other))
    for level in (0.5, 0.8, 0.9):
        assert moves.log_half_width(younger, level) <= moves.log_half_width(older, level) + 1e-12
    assert moves.log_half_width(0.0, 0.9) == 0.0


def test_list_prices_are_nearly_certain_and_spot_is_not() -> None:
    """EC2's list prices do not move in a year; Azure's spot price of two years ago says next to nothing."""
    assert sigma(365, purchase_option="on_demand") == 0.0
    ec2, google = (
        sigma(30, purchase_option="spot"),
        sigma(30, provider="gcp", service="gce", purchase_option="spot"),
    )
    azure = sigma(800, provider="azure", service="azure_vm", purchase_option="spot")
    assert 0.02 < ec2 < 0.3
    assert 0.02 < google < 0.3
    assert math.exp(2 * Z_80 * azure) > 5


def test_an_unmeasured_cloud_takes_the_pool_of_its_kind() -> None:
    """A cloud nobody has readings of is as doubtful as all clouds together, not certain."""
    pool = moves_of("nobody", "nothing", "spot")
    assert (pool.provider, pool.purchase_option) == (ANY, "spot")
    assert moves_of("nobody", "nothing", "savings_3y").purchase_option == ANY
    assert sigma(100, provider="nobody", service="nothing", purchase_option="spot") == pytest.approx(
        pool.log_half_width(100.0) / Z_80, rel=1e-6
    )


def test_a_negotiated_rate_has_no_doubt() -> None:
    """A contract holds however long ago it was signed."""
    row = offer_row(purchase_option="spot", observed_on="2020-01-01", fetched_at=None)
    aged = with_ages(book_of(row, origin="own").frame, NOW)
    assert price_log_sigma(aged).tolist() == [0.0]


def test_an_unknown_age_is_the_greatest_doubt() -> None:
    """A price that claims to be of the future may be of any age."""
    assert sigma(None, purchase_option="spot") >= sigma(5000, purchase_option="spot")


def test_only_spot_gets_too_old() -> None:
    """The limit is a factor of two from end to end of the 80 % interval, and only for spot."""
    limit = math.log(2.0) / (2 * Z_80)
    options = np.array(["spot", "spot", "on_demand"])
    assert too_old_to_rank(options, np.array([limit * 0.999, limit * 1.001, 9.0])).tolist() == [
        False,
        True,
        False,
    ]
