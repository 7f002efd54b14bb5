"""What is paid beside the machines where the data lie: object storage, requests, and the way of the trained model."""

from __future__ import annotations

import math
from typing import Any

import pytest

from builders.toy_market import ToyPredictor, book, in_precisions, offer_row, small_job
from trainfare_core.job_profile import ParameterGroup
from trainfare_core.limits.cost_assumptions import CostAssumptions
from trainfare_core.ranking.pricing.data_costs import ObjectStorage
from trainfare_core.ranking.pricing.request import Request
from trainfare_core.ranking.rank import best_chance, rank
from trainfare_core.recommendation import AssumedNumber, Constraints, Option, Recommendation

HERE = offer_row()
REGION = offer_row(region="us-west-2", usd_per_hour=3.99)
OTHER_CLOUD = offer_row(provider="gcp", service="gce", region="us-east1", usd_per_hour=3.99)
TOY = ToyPredictor({"A100-SXM-80GB": 0.1})
MODEL_GB = 200
GB_OF_AWS = 1e9 / 2**30
"""Of 10^9 bytes, in the GB of AWS's bill: its S3 FAQ divides byte-hours by 1,073,741,824."""
PLACE = {"data_in": "aws:us-east-1", "data_gb": 100.0}


def rank_rows(
    *rows: dict[str, Any], steps: int | None = 36_000, every: bool = True, **asked: Any
) -> Recommendation:
    own = asked.pop("run_cost", CostAssumptions()).model_copy(update={"disk_usd_per_gib_month": 0.0})
    request = Request(Constraints(**asked, run_cost=own), max_nodes=1, all_regions=every)
    return rank(small_job(steps=steps, checkpoint_bytes=MODEL_GB * 10**9), book(*rows), request, predict=TOY)


def numbers(answer: Recommendation) -> dict[str, AssumedNumber]:
    return {number.name: number for number in answer.assumed_numbers}


def by_place(answer: Recommendation) -> dict[str, Option]:
    return {f"{option.provider}:{option.region}": option for option in answer.options}


def test_the_trained_model_goes_where_the_data_lie() -> None:
    """Nothing within the region; 0.02 a GB from us-west-2; a planning figure; Google's tiers, per GiB, from us-east1."""
    answer = rank_rows(HERE, REGION, offer_row(region="ca-west-1"), OTHER_CLOUD, **PLACE)
    paid = {text: option.cost_parts.model_usd for text, option in by_place(answer).items()}
    assert paid == {
        "aws:us-east-1": 0.0,
        "aws:us-west-2": pytest.approx(MODEL_GB * GB_OF_AWS * 0.02),
        "aws:ca-west-1": pytest.approx(MODEL_GB * GB_OF_AWS * 0.12),
        "gcp:us-east1": pytest.approx(MODEL_GB * 1e9 / 2**30 * 0.12),
    }
    for option in answer.options:
        assert sum(option.cost_parts.model_dump().values()) == pytest.approx(option.run_usd.mid)


def test_downloads_pay_the_egress_of_the_region() -> None:
    """Two downloads of 200 GB from us-east-1: 100 GB of the bill are free, the others cost 9 cents each."""
    paid_usd = (2 * MODEL_GB * GB_OF_AWS - 100) * 0.09
    answer = rank_rows(HERE, run_cost=CostAssumptions(model_downloads=2))
    assert answer.options[0].cost_parts.model_usd == pytest.approx(paid_usd)
    sent = numbers(answer)["model_usd_per_gb"]
    assert sent.value == pytest.approx(paid_usd / MODEL_GB)
    assert sent.source is not None
    unknown = numbers(rank_rows(REGION, run_cost=CostAssumptions(model_downloads=1)))["model_usd_per_gb"]
    assert (unknown.value, unknown.source) == (
        pytest.approx(0.12 * GB_OF_AWS),
        (
            "a trained model of 200 GB: weights and what else the script saves, without optimizer state; "
            "0.12 USD per GB, a planning figure: the egress of aws us-west-2 is not known"
        ),
    )
    own = rank_rows(REGION, run_cost=CostAssumptions(model_downloads=1, model_usd_per_gb=0.01))
    assert own.options[0].cost_parts.model_usd == pytest.approx(2.0)


def test_the_data_set_is_stored_while_the_run_lasts_and_both_after_it() -> None:
    """100 GB at 2.3 cents a month for the billed hours; 300 GB with the model for two months after."""
    during = rank_rows(HERE, **PLACE)
    (option,) = during.options
    billed_hours = option.run_hours.mid + option.cost_parts.rounding_usd / option.usd_per_hour
    month_usd = 0.023 * GB_OF_AWS
    stored_usd = 100 * month_usd * billed_hours / 730
    assert option.cost_parts.object_storage_usd == pytest.approx(stored_usd)
    price = numbers(during)["object_storage_usd_per_gb_month"]
    assert price.value == pytest.approx(month_usd)
    assert price.run_usd == pytest.approx(stored_usd)
    after = rank_rows(HERE, **PLACE, run_cost=CostAssumptions(storage_months=2))
    months = numbers(after)["storage_months"]
    assert (months.value, months.stated) == (2.0, True)
    assert months.run_usd == pytest.approx(300 * month_usd * 2)
    assert after.options[0].run_usd.mid == pytest.approx(option.run_usd.mid + 300 * month_usd * 2)


def test_requests_are_counted_where_the_objects_are_stated() -> None:
    """A million objects that one machine reads at 0.4 cents for ten thousand."""
    answer = rank_rows(HERE, **PLACE, run_cost=CostAssumptions(data_objects=1_000_000))
    read = numbers(answer)["read_request_usd"]
    assert (read.value, read.run_usd) == (4e-7, pytest.approx(0.4))


def test_what_is_not_known_is_said_and_not_charged() -> None:
    """No price of object storage in eu-west-1, and no place at all: the reason, and no dollars."""
    nowhere = rank_rows(offer_row(region="eu-west-1"), data_in="aws:eu-west-1", data_gb=9.0)
    price = numbers(nowhere)["object_storage_usd_per_gb_month"]
    assert (price.value, price.run_usd) == (None, 0.0)
    assert price.source is not None
    assert "in eu-west-1 is not known" in price.source
    kept = numbers(rank_rows(HERE, run_cost=CostAssumptions(storage_months=1)))[
        "object_storage_usd_per_gb_month"
    ]
    assert (kept.value, kept.source) == (None, "where the data lie is not stated: --data-in names it")
    stated = CostAssumptions(object_storage_usd_per_gb_month=0.05, storage_months=1)
    assert rank_rows(HERE, run_cost=stated).options[0].cost_parts.object_storage_usd == pytest.approx(10.0)
    silent = rank_rows(HERE)
    assert not {"object_storage_usd_per_gb_month", "model_usd_per_gb"} & numbers(silent).keys()


def test_a_run_of_unknown_length_has_no_trained_model() -> None:
    """A thousand steps end nothing: no model to send, nothing to keep."""
    own = CostAssumptions(storage_months=2, model_downloads=3, data_objects=10)
    option = rank_rows(HERE, steps=None, **PLACE, run_cost=own).options[0]
    assert option.cost_parts.model_usd == 0
    assert option.cost_parts.object_storage_usd == pytest.approx(
        100 * GB_OF_AWS * 0.023 * option.run_hours.mid / 730
    )


def test_a_budget_is_kept_with_what_is_paid_once() -> None:
    """The ranking refuses, and the check doubts, what the way of the model takes over the budget."""
    fields: dict[str, Any] = {"max_usd": 20.0, "purchase": ("on_demand",)}
    far = CostAssumptions(model_downloads=1, model_usd_per_gb=0.1)
    assert rank_rows(HERE, **fields).options
    assert [rejection.reason for rejection in rank_rows(HERE, **fields, run_cost=far).rejections] == [
        "over_budget"
    ]
    option = best_chance(
        small_job(checkpoint_bytes=MODEL_GB * 10**9),
        book(HERE),
        Request(Constraints(**fields, run_cost=far), max_nodes=1),
        predict=TOY,
    )
    assert isinstance(option, Option)
    assert option.probability_within is not None
    assert option.probability_within < 0.1


@pytest.mark.parametrize(
    "key",
    [
        "object_storage_usd_per_gb_month",
        "storage_months",
        "data_objects",
        "read_request_usd",
        "model_usd_per_gb",
        "model_downloads",
        "billing_step_s",
        "billing_minimum_s",
        "system_disk_gib",
    ],
)
def test_the_cost_grows_with_each_price(key: str) -> None:
    """Raising any of them never lowers the cost of a run, and raises it where the run uses it."""
    base: dict[str, Any] = {"storage_months": 1, "data_objects": 1_000, "model_downloads": 1}
    values: list[float] = [0, 1, 50, 10_000_000]
    costs = []
    for value in values:
        own = CostAssumptions.model_validate({**base, key: value})
        request = Request(Constraints(**PLACE, run_cost=own), max_nodes=1)
        job = small_job(checkpoint_bytes=MODEL_GB * 10**9)
        costs.append(rank(job, book(HERE), request, predict=TOY).options[0].run_usd.mid)
    assert costs == sorted(costs)
    assert costs[-1] > costs[0]


def test_the_tiers_of_what_is_stored() -> None:
    """The price of the data set is the average over its tiers: 51,200 GB at 2.3 cents, as many more at 2.2."""
    data_gb = 102_400 / GB_OF_AWS
    stored = ObjectStorage.of(small_job(), Constraints(data_in="aws:us-east-1", data_gb=data_gb))
    assert stored.usd_per_gb_month.value == pytest.approx(0.0225 * GB_OF_AWS)
    assert math.isclose(stored.usd_per_hour, 102_400 * 0.0225 / 730)


@pytest.mark.parametrize("purchase", ["on_demand", "spot"])
def test_a_plan_in_fewer_bits_writes_keeps_and_sends_a_smaller_checkpoint(purchase: str) -> None:
    """
    Only bf16-true fits: its checkpoint of 100 GB is written, kept on disk, stored and sent, not the script's of 200 GB.

    Of 100 GB sent over the internet from us-east-1 nothing is paid; of 200 GB all but the first 100 of the bill.
    """
    weights = (ParameterGroup(dtype="fp32", trainable=True, count=10**9, parameter_bytes=MODEL_GB * 10**9),)
    job = small_job(precision="32-true", batch=1, checkpoint_bytes=MODEL_GB * 10**9, parameters=weights)
    traced = in_precisions(job, "bf16-true")
    half = (ParameterGroup(dtype="bf16", trainable=True, count=10**9, parameter_bytes=MODEL_GB * 10**9 // 2),)
    job = traced.model_copy(
        update={"precisions": (traced.precisions[0].model_copy(update={"parameters": half}),)}
    )
    own = CostAssumptions(storage_months=1, model_downloads=1, system_disk_gib=0, startup_s=0)
    constraints = Constraints(
        **{**PLACE, "data_gb": 0.0}, run_cost=own, purchase=(purchase,), allow=("precision",), max_usd=1e9
    )
    big, small = (
        rank(job, book(offer_row(purchase_option=purchase)), Request(constraints, max_nodes=1), predict=toy)
        for toy in (TOY, ToyPredictor({"A100-SXM-80GB": 0.1}, activation_gib=120.0))
    )
    (before,), (after,) = big.options, small.options
    assert before.trainer is not None
    assert after.trainer is not None
    assert (before.trainer.precision, after.trainer.precision) == ("32-true", "bf16-true")
    dear, cheap = before.cost_parts, after.cost_parts
    assert cheap.checkpoint_usd == pytest.approx(dear.checkpoint_usd / 2)
    for option, gib in ((before, 2 * MODEL_GB * 1e9 / 2**30), (after, MODEL_GB * 1e9 / 2**30)):
        month_usd = option.cost_parts.storage_usd / option.run_hours.mid * 730
        assert month_usd == pytest.approx(0.08 * gib, rel=0.02)
    assert (dear.object_storage_usd, cheap.object_storage_usd) == (
        pytest.approx(4.6 * GB_OF_AWS),
        pytest.approx(2.3 * GB_OF_AWS),
    )
    assert numbers(small)["storage_months"].run_usd == pytest.approx(2.3 * GB_OF_AWS)
    assert (dear.model_usd, cheap.model_usd) == (pytest.approx((MODEL_GB * GB_OF_AWS - 100) * 0.09), 0.0)
