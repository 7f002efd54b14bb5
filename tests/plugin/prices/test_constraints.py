"""What a user asks for, in the names of the price book."""

from __future__ import annotations

from typing import Any

import pytest

from builders.offers import small_market
from trainfare.prices.constraints import read_constraints, with_book_names
from trainfare_core.errors import InputError, NoOffersError
from trainfare_core.recommendation import Constraints


def make_constraints(**names: Any) -> Constraints:
    return read_constraints(names)


def test_names_become_those_of_the_book() -> None:
    """Any spelling of a cloud, a region and an accelerator; what was not asked for stays open."""
    constraints = with_book_names(make_constraints(providers="AWS", regions="US-East-1"), small_market())
    assert (constraints.providers, constraints.regions, constraints.purchase, constraints.accelerators) == (
        ("aws",), ("us-east-1",), None, None
    )  # fmt: skip


def test_where_nothing_has_all_of_them_the_error_says_what_was_asked_for() -> None:
    """Each name is known, and the purchase options that are there are named."""
    constraints = make_constraints(providers="aws", regions="us-east-1", purchase="capacity_block")
    constraints = constraints.model_copy(update={"accelerators": ("A100-SXM-40GB",)})
    with pytest.raises(
        NoOffersError,
        match=r"no price matches aws, us-east-1, A100-SXM-40GB, capacity_block; .* are: .*on_demand",
    ):
        with_book_names(constraints, small_market())


@pytest.mark.parametrize("confidence", [0.4, 1.0, float("nan")])
def test_a_confidence_that_is_none_is_refused_by_name(confidence: float) -> None:
    """Below one half a limit would be kept by less than a coin; certainty does not exist."""
    with pytest.raises(
        InputError, match=r"confidence: .* is not between 0\.5 and 1; 0\.9 means nine runs in ten"
    ):
        make_constraints(confidence=confidence)
