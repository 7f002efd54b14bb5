"""Billing steps and least billed times: of each service, by hand, and in the ranking, the check and the budget."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from builders.toy_market import ToyPredictor, book, offer_row, small_job
from trainfare_core.interruptions.hazard import HAZARDS, hazard_of_band
from trainfare_core.limits.cost_assumptions import CostAssumptions
from trainfare_core.ranking.pricing.request import Request
from trainfare_core.ranking.rank import best_chance, rank
from trainfare_core.recommendation import AssumedNumber, Constraints, Option, Recommendation
from trainfare_core.run_cost.billing import BillingClock, rounding_s
from trainfare_core.run_cost.interrupted import interruption_rates
from trainfare_core.run_cost.table import NOT_SPOT, RunTable

TOY = ToyPredictor({"A100-SXM-80GB": 0.1})


def runs(hours: float, *, hazard: int = NOT_SPOT, interruptions: float = 0.0) -> RunTable:
    """Return one run, all of it training but for its interruptions, which take no time here."""
    columns = {name: np.zeros(1) for name in RunTable.__dataclass_fields__}
    columns["hours"], columns["interruptions"] = np.array([hours]), np.array([interruptions])
    columns["training_s"] = 3600 * columns["hours"]
    columns["hazard"] = np.array([hazard])
    return RunTable(**columns)  # type: ignore[arg-type] # hazard and plan are whole numbers


def compute_billed_s(hours: float, step_s: float, minimum_s: float) -> float:
    """Return what a run without interruptions is billed."""
    calm = runs(hours)
    rates = interruption_rates(calm.hazard, np.ones(1, dtype=np.int64))
    return 3600 * hours + float(rounding_s(calm, rates, np.array([step_s]), np.array([minimum_s]))[0])


@pytest.mark.parametrize(
    ("seconds", "step_s", "minimum_s", "billed"),
    [
        (100.0, 60.0, 60.0, 120.0),
        (120.0, 60.0, 60.0, 120.0),
        (30.2, 1.0, 60.0, 60.0),
        (70.2, 1.0, 60.0, 71.0),
        (70.2, 0.0, 60.0, 70.2),
        (70.2, 0.0, 0.0, 70.2),
        (1.0, 3600.0, 0.0, 3600.0),
    ],
)
def test_time_is_rounded_up(seconds: float, step_s: float, minimum_s: float, billed: float) -> None:
    """To whole steps and to the least billed time; a whole number of steps is not rounded, whatever its last bit."""
    assert compute_billed_s(seconds / 3600, step_s, minimum_s) == pytest.approx(billed)


def test_the_last_bit_of_a_time_costs_no_step() -> None:
    """Of a thousand whole numbers of minutes, those that a last bit makes longer are billed as they are, to 1e-9."""
    minutes = np.arange(1, 1001)
    longer = [int(count) for count in minutes if 3600 * (60 * count / 3600) > 60 * count]
    assert longer
    for count in longer:
        assert compute_billed_s(60 * count / 3600, 60.0, 0.0) == pytest.approx(60 * count)
    assert compute_billed_s(60 * (1 + 1e-8) / 3600, 60.0, 0.0) == pytest.approx(120)


def test_the_mean_is_above_the_median_by_the_doubt() -> None:
    """Times are log-normal: their mean is the median times exp(sigma^2 / 2), and what is billed beside them is added."""
    sigma = 0.6
    run = replace(runs(2.0), log_sigma=np.array([sigma]), rounding_s=np.array([360.0]))
    drawn = np.random.default_rng(0).lognormal(np.log(2.0), sigma, 1_000_000).mean()
    assert float(run.mean_billed_hours[0]) == pytest.approx(drawn + 0.1, rel=0.003)


def test_a_run_that_never_ends_is_billed_without_end() -> None:
    """Interruptions before every checkpoint: the work is an hour, what interruptions add has no end, and nothing warns."""
    endless = runs(1.0, hazard=hazard_of_band(">20%"), interruptions=np.inf)
    endless = replace(endless, hours=np.array([np.inf]), interruption_s=np.array([np.inf]))
    rates = interruption_rates(endless.hazard, np.ones(1, dtype=np.int64))
    assert rounding_s(endless, rates, np.ones(1), np.ones(1)).tolist() == [np.inf]
    assert np.isnan(rounding_s(endless, rates, np.zeros(1), np.zeros(1))).all()


@pytest.mark.parametrize(("step_s", "minimum_s"), [(1.0, 600.0), (10.0, 0.0)])
def test_each_start_of_a_spot_machine_is_rounded_up_like_a_simulation(
    step_s: float, minimum_s: float
) -> None:
    """A hundred starts that interruptions end lose half a step each, and what they miss of the least billed time."""
    hazard, nodes = hazard_of_band(">20%"), np.array([64])
    rates = interruption_rates(np.array([hazard]), nodes)
    spot = runs(1.0, hazard=hazard, interruptions=100.0)
    lost_s = float(rounding_s(spot, rates, np.array([step_s]), np.array([minimum_s]))[0])
    random = np.random.default_rng(0)
    rate = HAZARDS[hazard].per_hour / 3600 * 64
    length_s = random.exponential(1 / random.choice(rate, size=400_000, p=rate / rate.sum()))
    simulated = np.maximum(np.ceil(length_s / step_s) * step_s, minimum_s) - length_s
    assert lost_s == pytest.approx(100 * float(simulated.mean()), rel=0.01)


def test_clocks_of_services() -> None:
    """Published ones with their source, the user's own before them, and none where none is published."""
    clocks = {
        name: BillingClock.of(CostAssumptions(), *name)
        for name in (("aws", "ec2"), ("thundercompute", "gpu_cloud"), ("azure", "azure_ml"))
    }
    known = {name[0]: (clock.step_s.value, clock.minimum_s.value) for name, clock in clocks.items()}
    assert known == {"aws": (1.0, 60.0), "thundercompute": (60.0, None), "azure": (None, None)}
    assert "AWS" in clocks["aws", "ec2"].step_s.source
    assert "is not known" in clocks["azure", "azure_ml"].minimum_s.source
    own = BillingClock.of(CostAssumptions(billing_step_s=3_600), "azure", "azure_ml")
    assert (own.step_s.value, own.step_s.or_zero, own.minimum_s.or_zero) == (3_600, 3_600, 0.0)


def rank_rows(steps: int, **asked: Any) -> Recommendation:
    own = asked.pop("run_cost", CostAssumptions()).model_copy(update={"system_disk_gib": 0.0})
    request = Request(Constraints(**asked, run_cost=own), max_nodes=1)
    return rank(small_job(steps=steps), book(offer_row()), request, predict=TOY)


def numbers(answer: Recommendation) -> dict[str, AssumedNumber]:
    return {number.name: number for number in answer.assumed_numbers}


def test_a_step_is_charged_and_named_with_its_share() -> None:
    """10 s of work after 240 s of start-up are billed as an hour where hours are billed: 3,350 s more at 4 USD."""
    own = CostAssumptions(billing_step_s=3_600)
    answer = rank_rows(100, run_cost=own)
    (option,) = answer.options
    assert option.cost_parts.rounding_usd == pytest.approx(3_350 / 3600 * 4.0)
    assert option.run_usd.mid == pytest.approx(4.0)
    assert option.run_hours.mid == pytest.approx(250 / 3600)
    step = numbers(answer)["billing_step_s"]
    assert (step.value, step.stated) == (3_600, True)
    assert step.share == pytest.approx(3_350 / 3_600)
    least = numbers(answer)["billing_minimum_s"]
    assert (least.value, least.share) == (60.0, 0.0)
    assert least.source is not None
    costlier = rank_rows(100, run_cost=CostAssumptions(billing_minimum_s=3_600))
    assert numbers(costlier)["billing_minimum_s"].share == pytest.approx(3_350 / 3_600)
    assert numbers(costlier)["billing_step_s"].run_usd == 0


def test_what_is_not_published_is_said_and_not_charged() -> None:
    """Azure ML publishes neither: no figure, the reason, and nothing is added."""
    request = Request(Constraints(), max_nodes=1)
    answer = rank(
        small_job(steps=103), book(offer_row(provider="azure", service="azure_ml")), request, predict=TOY
    )
    step = numbers(answer)["billing_step_s"]
    assert (step.value, step.run_usd) == (None, 0.0)
    assert step.source == "the billing step of azure azure_ml is not known"
    assert answer.options[0].cost_parts.rounding_usd == 0


def test_a_budget_is_kept_with_what_is_billed() -> None:
    """Within the budget by the second, over it by the hour: in the ranking and in the check."""
    fields: dict[str, Any] = {"max_usd": 2.0, "purchase": ("on_demand",)}
    hourly = CostAssumptions(billing_step_s=3_600)
    assert rank_rows(100, **fields).options
    assert [rejection.reason for rejection in rank_rows(100, **fields, run_cost=hourly).rejections] == [
        "over_budget"
    ]
    option = best_chance(
        small_job(steps=100),
        book(offer_row()),
        Request(Constraints(**fields, run_cost=hourly), max_nodes=1),
        predict=TOY,
    )
    assert isinstance(option, Option)
    assert option.probability_within is not None
    assert option.probability_within < 0.5


def test_a_run_of_unknown_length_is_not_rounded() -> None:
    """A thousand steps are a part of a run, which ends later."""
    request = Request(Constraints(run_cost=CostAssumptions(billing_step_s=3_600)), max_nodes=1)
    answer = rank(small_job(steps=None), book(offer_row()), request, predict=TOY)
    assert answer.options[0].cost_parts.rounding_usd == 0
