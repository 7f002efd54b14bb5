"""Reservations, savings plans and capacity blocks in an answer: whole terms, whole days, and no old price."""

from __future__ import annotations

import math
from datetime import datetime, timezone
from typing import Any

import numpy as np
import pytest

from builders.toy_market import ToyPredictor, book, offer_row, small_job
from trainfare_core.prices.commitments import TERM_HOURS
from trainfare_core.ranking.pricing.request import Request
from trainfare_core.ranking.rank import rank
from trainfare_core.recommendation import Constraints, Recommendation
from trainfare_core.run_cost.billing import book_block_hours, find_block_use

A100 = "A100-SXM-80GB"
ON_DEMAND = offer_row(usd_per_hour=4.0)
RESERVED = offer_row(purchase_option="reserved_1y", usd_per_hour=2.5)
BLOCK = offer_row(purchase_option="capacity_block", usd_per_hour=3.0)
NOW = datetime(2026, 11, 30, tzinfo=timezone.utc)


def answer(
    *rows: dict[str, Any], step_s: float = 0.5, as_of: datetime | None = None, **asked: Any
) -> Recommendation:
    """Rank a job of many steps."""
    request = Request(Constraints(**asked), max_nodes=1, as_of=as_of)
    return rank(small_job(steps=400_000), book(*rows), request, predict=ToyPredictor({A100: step_s}))


@pytest.mark.parametrize(
    ("hours", "days"),
    # 23.5 h end before the machines are taken, half an hour before the block ends; 14 days are the last single step
    [(0.1, 1), (23.5, 1), (23.6, 2), (93.0, 4), (335.5, 14), (335.6, 21), (504.0, 28)],
)
def test_a_block_is_booked_in_whole_days_and_then_weeks(hours: float, days: int) -> None:
    """1 to 14 days by days, to 182 days by weeks: EC2 user guide, "Capacity Blocks for ML"."""
    assert book_block_hours(np.array([hours]))[0] == 24 * days


def test_the_longest_run_of_a_block_is_the_inverse() -> None:
    """By brute force over budgets: the longest run, in tenths of hours, whose block a budget of hours pays."""
    hours = np.arange(1, 9_000) / 10
    for paid in (10.0, 24.0, 71.9, 72.0, 336.0, 360.0, 504.0, 800.0):
        longest = max(hours[book_block_hours(hours) <= paid], default=0.0)
        assert find_block_use(np.array([paid]))[0] == pytest.approx(longest, abs=0.1)
    assert math.isinf(find_block_use(np.array([np.inf]))[0])


def test_a_capacity_block_is_paid_whole() -> None:
    """Median, both ends and the chance of a budget are of whole days, where the price is sure."""
    (option,) = answer(BLOCK, purchase=("capacity_block",)).options
    assert option.commitment is not None
    assert option.commitment.hours == 24 * math.ceil((option.run_hours.mid + 0.5) / 24)
    assert option.commitment.usd == option.commitment.hours * 3.0
    beside_usd = option.run_usd.mid - option.commitment.usd
    assert 0 <= beside_usd < 5, "disks"
    for usd, hours in (
        (option.run_usd.low_80, option.run_hours.low_80),
        (option.run_usd.high_80, option.run_hours.high_80),
    ):
        assert usd == pytest.approx(3.0 * 24 * math.ceil((hours + 0.5) / 24), rel=0.02)
    assert option.cost_parts.rounding_usd > 0


def test_a_budget_of_a_block_pays_for_its_days() -> None:
    """A budget between two blocks is kept with the chance that the run ends in the shorter one."""
    days = 24 * math.ceil((answer(ON_DEMAND).options[0].run_hours.mid + 0.5) / 24)
    within = answer(BLOCK, purchase=("capacity_block",), max_usd=3.0 * days + 12, confidence=0.5)
    assert within.options
    below = answer(BLOCK, purchase=("capacity_block",), max_usd=3.0 * (days - 24) + 12, confidence=0.5)
    assert not below.options


def test_a_term_is_not_ranked_without_a_use_and_says_from_what_use_it_pays() -> None:
    """2.5 of 4 dollars: from 62.5 % on; the dollars of the term are those of all its hours."""
    found = answer(ON_DEMAND, RESERVED, purchase=("on_demand", "reserved_1y"))
    assert {option.purchase_option for option in found.options} == {"on_demand"}
    paid = found.best_commitment and found.best_commitment.commitment
    assert paid is not None
    assert paid.usd == 2.5 * 8760
    assert paid.pays_from_use == pytest.approx(0.625, abs=0.005)
    assert answer(ON_DEMAND, RESERVED).best_commitment == found.best_commitment, (
        "also where none is asked for"
    )


@pytest.mark.parametrize(("use", "first"), [(1.0, "reserved_1y"), (0.7, "reserved_1y"), (0.6, "on_demand")])
def test_with_a_use_a_term_is_ranked_by_its_used_hours(use: float, first: str) -> None:
    """2.5 / 0.7 is less than 4 dollars, 2.5 / 0.6 is more."""
    found = answer(ON_DEMAND, RESERVED, purchase=("on_demand", "reserved_1y"), use=use)
    assert found.options[0].purchase_option == first
    reserved = next(option for option in found.options if option.purchase_option == "reserved_1y")
    assert reserved.usd_per_hour == pytest.approx(2.5 / use)
    assert reserved.commitment is not None
    assert (reserved.commitment.usd, reserved.commitment.use) == (pytest.approx(2.5 * 8760), use)
    assert found.best_commitment is None


def test_terms_alone_need_a_use() -> None:
    with pytest.raises(
        ValueError, match=r"savings_1y: a term is paid whether used or not: give use.*or add on_demand"
    ):
        Constraints(purchase=("savings_1y",))


def test_a_term_that_never_pays_is_not_mentioned() -> None:
    assert answer(ON_DEMAND, {**RESERVED, "usd_per_hour": 4.1}).best_commitment is None


def test_three_years_are_compared_only_where_they_are_named() -> None:
    long = {**RESERVED, "purchase_option": "reserved_3y", "usd_per_hour": 1.5}
    shown = answer(ON_DEMAND, RESERVED, long).best_commitment
    assert shown is not None
    assert shown.purchase_option == "reserved_1y"
    named = answer(ON_DEMAND, RESERVED, long, purchase=("on_demand", "reserved_3y")).best_commitment
    assert named is not None
    assert named.commitment is not None
    assert named.commitment.usd == 1.5 * TERM_HOURS["reserved_3y"] == 1.5 * 3 * 8760


@pytest.mark.parametrize(
    ("observed_on", "named"), [("2026-01-15", True), ("2025-10-01", False), ("2023-12", False)]
)
def test_no_commitment_on_a_price_older_than_a_year(observed_on: str, *, named: bool) -> None:
    """Neither as a line nor ranked; on-demand prices of that age are ranked with their doubt."""
    old = {**RESERVED, "observed_on": observed_on}
    assert (answer(ON_DEMAND, old, as_of=NOW).best_commitment is not None) == named
    found = answer(ON_DEMAND, old, as_of=NOW, purchase=("on_demand", "reserved_1y"), use=1.0)
    assert ("reserved_1y" in {option.purchase_option for option in found.options}) == named
    assert any(rejection.reason == "price_too_old" for rejection in found.rejections) != named
