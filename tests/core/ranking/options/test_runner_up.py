"""The runner-up, and what would make it the answer."""

from __future__ import annotations

from typing import Any

import pytest

from builders.toy_market import ToyPredictor, book, offer_row, small_job
from trainfare_core.limits.cost_assumptions import CostAssumptions
from trainfare_core.prices.book import PriceBook
from trainfare_core.ranking.pricing.request import Request
from trainfare_core.ranking.rank import rank
from trainfare_core.recommendation import Constraints, Option, Recommendation

A100, H100 = "A100-SXM-80GB", "H100-SXM-80GB"
CHEAP = offer_row()
DEAR = offer_row(instance_type="h100.1x", accelerator=H100, usd_per_hour=12.0)

DEAR_YET = {**DEAR, "usd_per_hour": 14.0}
"""So much above the other that it costs more, with an hour of a petabyte in object storage besides."""


def answer(
    *rows: dict[str, Any],
    speeds: dict[str, float] | None = None,
    price_book: PriceBook | None = None,
    **asked: Any,
) -> Recommendation:
    predict = ToyPredictor(speeds or {A100: 0.1, H100: 0.05})
    return rank(
        small_job(every=None), price_book or book(*rows), Request(max_nodes=1, **asked), predict=predict
    )


def runner_up(found: Recommendation) -> Option:
    assert found.runner_up is not None
    return found.options[found.runner_up.rank - 1]


def test_it_is_the_best_of_another_accelerator() -> None:
    """Another region or size of the answer's machine is none, in whatever order and however short the list."""
    larger = offer_row(instance_type="a100.1x-more-vcpus", vcpus=24.0, usd_per_hour=4.5)
    elsewhere = [larger] + [offer_row(region=f"us-west-{n}", usd_per_hour=4.0 + n / 100) for n in range(9)]
    recommendation = answer(CHEAP, *elsewhere, DEAR, all_regions=True, limit=1)
    assert runner_up(recommendation).instance_type == "h100.1x"
    assert answer(CHEAP, *elsewhere, all_regions=True).runner_up is None


def test_a_machine_that_needs_porting_is_no_runner_up_of_one_that_does_not() -> None:
    """A TPU that is nearer to the answer is passed over."""
    tpu = offer_row(
        provider="gcp", service="tpu", instance_type="v5e-1", accelerator="TPU-v5e", usd_per_hour=4.1
    )
    recommendation = answer(CHEAP, tpu, DEAR, speeds={A100: 0.1, H100: 0.05, "TPU-v5e": 0.1})
    assert runner_up(recommendation).instance_type == "h100.1x"


def change(found: Recommendation, name: str) -> float:
    value = getattr(found.runner_up, name)
    assert isinstance(value, float)
    return value


@pytest.mark.parametrize("past", [0.999, 1.001])
def test_the_changes_are_those_at_which_the_answer_flips(past: float) -> None:
    """A little less than each change keeps the answer, a little more makes the runner-up the answer."""
    recommendation = answer(CHEAP, DEAR)
    wins = past > 1
    answer_usd, runner_up_usd = 4.0, 12.0

    def has_flipped(
        *, usd: float = answer_usd, other_usd: float = runner_up_usd, a100: float = 0.1, h100: float = 0.05
    ) -> bool:
        rows = (offer_row(usd_per_hour=usd), {**DEAR, "usd_per_hour": other_usd})
        again = answer(*rows, speeds={A100: a100, H100: h100})
        best = again.best("cheapest")
        return best is not None and best.instance_type == "h100.1x"

    assert has_flipped(usd=answer_usd * (1 + past * change(recommendation, "price_higher"))) == wins
    assert has_flipped(a100=0.1 * (1 + past * change(recommendation, "step_slower"))) == wins
    assert (
        has_flipped(other_usd=runner_up_usd * (1 - past * change(recommendation, "runner_up_price_cheaper")))
        == wins
    )
    assert has_flipped(h100=0.05 * (1 - past * change(recommendation, "runner_up_step_faster"))) == wins


@pytest.mark.parametrize("past", [0.999, 1.001])
def test_data_in_object_storage_are_paid_for_longer_where_a_step_is_slower(past: float) -> None:
    """A petabyte costs as much an hour as several machines: a little less than the change keeps the answer."""
    stored = Constraints(
        data_in="aws:us-east-1",
        data_gb=1e6,
        run_cost=CostAssumptions(stage_gb_per_s=1e6, disk_usd_per_gib_month=0.0),
    )

    def find_by_path(a100: float, h100: float) -> Recommendation:
        return answer(CHEAP, DEAR_YET, speeds={A100: a100, H100: h100}, constraints=stored)

    def wins(a100: float, h100: float) -> bool:
        best = find_by_path(a100, h100).best("cheapest")
        return best is not None and best.instance_type == "h100.1x"

    before = find_by_path(0.1, 0.09)
    assert not wins(0.1, 0.09)
    assert wins(0.1 * (1 + past * change(before, "step_slower")), 0.09) == (past > 1)
    assert wins(0.1, 0.09 * (1 - past * change(before, "runner_up_step_faster"))) == (past > 1)


def test_of_the_fastest_only_step_times_count() -> None:
    """No price makes a machine faster."""
    recommendation = answer(CHEAP, DEAR, objective="fastest")
    assert recommendation.runner_up is not None
    assert (recommendation.runner_up.price_higher, recommendation.runner_up.runner_up_price_cheaper) == (
        None,
        None,
    )
    assert change(recommendation, "step_slower") == pytest.approx(1.0, rel=1e-3)
    assert change(recommendation, "runner_up_step_faster") == pytest.approx(0.5, rel=1e-3)


def test_a_change_of_more_than_everything_is_none() -> None:
    """A machine whose start-up alone costs more than the whole answer cannot win by a faster step."""
    recommendation = answer(CHEAP, {**DEAR, "usd_per_hour": 4e4})
    assert recommendation.runner_up is not None
    assert recommendation.runner_up.runner_up_step_faster is None
    assert change(recommendation, "runner_up_price_cheaper") < 1
