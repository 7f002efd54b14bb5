"""What an answer says of a run on spot machines, against played runs: median, interval, chances and feasibility."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import numpy as np
import pytest

from builders.toy_market import ToyPredictor, book, offer_row, small_job
from independent.spot_runs import UNKNOWN, Setting, play
from trainfare_core.limits.cost_assumptions import CostAssumptions
from trainfare_core.prices.age_doubt import Z_80
from trainfare_core.ranking.pricing.request import Request
from trainfare_core.ranking.rank import best_chance, rank
from trainfare_core.recommendation import Constraints, Option, Recommendation

TOY = ToyPredictor({"A100-SXM-80GB": 0.1})
"""Its step is known to 0.2 of its logarithm."""
JOB = small_job(steps=3_600_000, every=1_200_000)
"""100 h of work in three intervals, of which the highest of the five rates loses each three times."""
PLAYED = play(
    Setting(
        UNKNOWN, interval_s=120_000, write_s=0, restart_s=240, intervals=3, step_sigma=0.2, startup_sigma=0.5
    )
)
SPOT = offer_row(purchase_option="spot", usd_per_hour=2.0, instance_type="unheard-of.1x")
OLD_SPOT = {**SPOT, "observed_on": "2026-08-20"}
NOW = datetime(2026, 11, 26, tzinfo=timezone.utc)


def rank_spot(row: dict[str, Any] = SPOT, as_of: datetime | None = None, **asked: Any) -> Recommendation:
    asked = {"confidence": 0.5, "purchase": ("spot",), **asked}
    constraints = Constraints(**asked, run_cost=CostAssumptions(system_disk_gib=0.0, billing_minimum_s=0.0))
    return rank(JOB, book(row), Request(constraints, max_nodes=1, as_of=as_of), predict=TOY)


def check_spot(row: dict[str, Any] = SPOT, as_of: datetime | None = None, **asked: Any) -> Option:
    """Return the run with its chances, whether it keeps the limits or not."""
    constraints = Constraints(
        **asked, purchase=("spot",), run_cost=CostAssumptions(system_disk_gib=0.0, billing_minimum_s=0.0)
    )
    option = best_chance(JOB, book(row), Request(constraints, max_nodes=1, as_of=as_of), predict=TOY)
    assert isinstance(option, Option)
    return option


def the_option(answer: Recommendation) -> Option:
    (option,) = answer.options
    assert option.spot is not None
    return option


def test_the_middle_is_the_median_and_the_interval_the_central_80_percent() -> None:
    """Of hours and of dollars, within 5 % of 20,000 played runs; the mean of the dollars is far above."""
    option = the_option(rank_spot())
    for interval, drawn in ((option.run_hours, PLAYED.hours), (option.run_usd, 2.0 * PLAYED.billed)):
        values = (interval.low_80, interval.mid, interval.high_80)
        assert values == pytest.approx(np.quantile(drawn, [0.1, 0.5, 0.9]), rel=0.05)
    assert option.expected_usd == pytest.approx(2.0 * PLAYED.billed.mean(), rel=0.05)
    assert option.spot is not None
    assert option.run_hours.mid == pytest.approx(option.spot.p50_hours, rel=1e-5)
    assert option.run_hours.high_80 == pytest.approx(option.spot.p90_hours, rel=1e-5)


def test_the_interval_does_not_move_with_the_confidence() -> None:
    """It is that of the run, whatever is asked for."""
    options = [the_option(rank_spot(confidence=confidence)) for confidence in (0.55, 0.65, 0.8, 0.9, 0.95)]
    assert len({option.run_hours for option in options}) == 1
    assert len({option.run_usd for option in options}) == 1


def test_the_parts_of_the_cost_add_up_to_the_median() -> None:
    """What interruptions take of the median is a part like the others."""
    option = the_option(rank_spot())
    parts = option.cost_parts.model_dump()
    assert sum(parts.values()) == pytest.approx(option.run_usd.mid, rel=1e-9)
    assert parts["interruption_usd"] > 0


@pytest.mark.parametrize("deadline_hours", [90.0, 110.0, 130.0, 160.0, 250.0, 600.0])
def test_both_chances_of_one_option_agree_with_played_runs(deadline_hours: float) -> None:
    """`probability_within` and `spot.chance_in_time` say one thing: the share of runs in time, within 2 points."""
    option = check_spot(deadline_hours=deadline_hours)
    assert option.spot is not None
    assert option.probability_within == pytest.approx(option.spot.chance_in_time, abs=1e-5)
    assert option.probability_within == pytest.approx(np.mean(PLAYED.hours <= deadline_hours), abs=0.02)


@pytest.mark.parametrize(("row", "as_of"), [(SPOT, None), (OLD_SPOT, NOW)])
@pytest.mark.parametrize(("max_usd", "deadline_hours"), [(220.0, None), (300.0, 140.0), (260.0, 300.0)])
def test_a_budget_is_kept_as_often_as_by_played_runs(
    row: dict[str, Any], as_of: datetime | None, max_usd: float, deadline_hours: float | None
) -> None:
    """Alone and with a deadline, at a price of the day and at one of three months ago."""
    option = check_spot(row, as_of, max_usd=max_usd, deadline_hours=deadline_hours)
    price = option.usd_per_hour_now
    assert price is not None
    sigma = np.log(price.high_80 / price.mid) / Z_80
    assert (sigma > 0.1) == (as_of is not None)
    moved = np.exp(sigma * np.random.default_rng(2).standard_normal(len(PLAYED.billed)))
    kept = (2.0 * moved * PLAYED.billed <= max_usd) & (PLAYED.hours <= (deadline_hours or np.inf))
    assert option.probability_within == pytest.approx(np.mean(kept), abs=0.02)


@pytest.mark.parametrize(
    "limits", [{"deadline_hours": 130.0}, {"max_usd": 250.0}, {"max_usd": 300.0, "deadline_hours": 140.0}]
)
def test_limits_are_decided_by_the_chance(limits: dict[str, float]) -> None:
    """A run is offered at a confidence just below its chance and at none just above, near the middle too."""
    chance = check_spot(**limits).probability_within
    assert chance is not None
    assert 0.5 < chance < 0.85
    assert rank_spot(**limits, confidence=chance - 0.002).options
    refused = rank_spot(**limits, confidence=chance + 0.002)
    assert not refused.options
    detail = refused.rejections[0].detail
    assert "unheard-of.1x (spot): " in detail


def test_the_likeliest_run_is_that_of_the_chances() -> None:
    """A check of a deadline takes the option that keeps it most often, and says so."""
    request = Request(Constraints(deadline_hours=130.0, purchase=("spot", "on_demand")), max_nodes=1)
    slow = offer_row(instance_type="slow.1x", accelerator="T4-16GB", usd_per_hour=1.0)
    toy = ToyPredictor({"A100-SXM-80GB": 0.1, "T4-16GB": 0.15})
    option = best_chance(JOB, book(SPOT, slow), request, predict=toy)
    assert isinstance(option, Option)
    assert option.instance_type == "unheard-of.1x"
    assert option.probability_within == pytest.approx(np.mean(PLAYED.hours <= 130.0), abs=0.02)
