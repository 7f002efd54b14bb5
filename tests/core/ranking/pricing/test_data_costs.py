"""Where the training data lie: their copy, their transfer, and what is not known of it."""

from __future__ import annotations

from typing import Any

import pytest

from builders.toy_market import ToyPredictor, book, offer_row, small_job
from trainfare_core.limits.cost_assumptions import CostAssumptions
from trainfare_core.ranking.pricing.request import Request
from trainfare_core.ranking.rank import best_chance, rank
from trainfare_core.recommendation import Constraints, Option, Recommendation

HERE = offer_row()
CHEAPER_ELSEWHERE = offer_row(region="us-west-2", usd_per_hour=3.9)
OTHER_CLOUD = offer_row(provider="gcp", service="gce", region="us-central1", usd_per_hour=3.8)
TOY = ToyPredictor({"A100-SXM-80GB": 0.1})


def rank_rows(*rows: dict[str, Any], every: bool = False, **asked: Any) -> Recommendation:
    request = Request(Constraints(**asked), max_nodes=1, all_regions=every)
    return rank(small_job(), book(*rows), request, predict=TOY)


def by_region(answer: Recommendation) -> dict[str, Option]:
    return {option.region: option for option in answer.options}


def test_each_place_pays_its_own_way() -> None:
    """
    Nothing within the region, 0.02 USD per GB from us-east-1 to another region, and the tiers of egress beyond.

    A GB of AWS's bill has 2^30 bytes (S3 FAQ, "How will I be charged"): 1,100 GB of data are 1,024.45.
    """
    answer = rank_rows(
        HERE, CHEAPER_ELSEWHERE, OTHER_CLOUD, every=True, data_in="aws:us-east-1", data_gb=1_100.0
    )
    paid = {region: option.cost_parts.transfer_usd for region, option in by_region(answer).items()}
    assert paid == {
        "us-east-1": 0.0,
        "us-west-2": pytest.approx(20.489, abs=1e-3),
        "us-central1": pytest.approx(83.201, abs=1e-3),
    }
    for option in answer.options:
        parts = option.cost_parts
        assert sum(parts.model_dump().values()) == pytest.approx(option.run_usd.mid)
        assert option.run_usd.low_80 > parts.transfer_usd


def test_the_best_region_is_that_of_the_whole_cost() -> None:
    """A lower price an hour does not win where the transfer costs more than it saves; and it does for few data."""
    few = rank_rows(HERE, CHEAPER_ELSEWHERE, data_in="aws:us-east-1", data_gb=1.0)
    many = rank_rows(HERE, CHEAPER_ELSEWHERE, data_in="aws:us-east-1", data_gb=500.0)
    assert [list(by_region(answer)) for answer in (few, many)] == [["us-west-2"], ["us-east-1"]]


def test_a_price_that_is_not_known_is_not_guessed() -> None:
    """No transfer price of ca-west-1 is known: other places are left out with the keys that state it."""
    far: dict[str, Any] = {"every": True, "data_in": "aws:ca-west-1", "data_gb": 9.0}
    there = offer_row(region="ca-west-1")
    answer = rank_rows(there, HERE, OTHER_CLOUD, **far)
    assert list(by_region(answer)) == ["ca-west-1"]
    (left_out,) = answer.rejections
    assert (left_out.reason, left_out.count) == ("filtered", 2)
    assert "inter_region_usd_per_gb and egress_usd_per_gb in the table run_cost" in left_out.detail
    answer = rank_rows(there, HERE, **far, run_cost=CostAssumptions(inter_region_usd_per_gb=0.05))
    assert by_region(answer)["us-east-1"].cost_parts.transfer_usd == pytest.approx(0.45)


def test_the_copy_of_the_data_is_billed() -> None:
    """3,600 GB at 1 GB a second are an hour of each machine, and their disk is paid while the run lasts."""
    without, copied = (rank_rows(HERE, data_gb=gb).options[0] for gb in (None, 3_600.0))
    assert copied.run_hours.mid - without.run_hours.mid == pytest.approx(1.0)
    assert copied.cost_parts.staging_usd == pytest.approx(4.0)
    disk_usd_per_hour = (100 + 3_600e9 / 2**30) * 0.08 / 730
    assert copied.cost_parts.storage_usd == pytest.approx(disk_usd_per_hour * copied.run_hours.mid, rel=1e-6)
    faster = rank_rows(HERE, data_gb=3_600.0, run_cost=CostAssumptions(stage_gb_per_s=4.0)).options[0]
    assert faster.cost_parts.staging_usd == pytest.approx(1.0)


def test_a_budget_is_kept_with_the_transfer() -> None:
    """The same run is within a budget without and over it with the transfer, in ranking and check alike."""
    fields: dict[str, Any] = {"max_usd": 10.0, "purchase": ("on_demand",)}
    far = {
        "data_in": "aws:us-west-2",
        "data_gb": 400.0,
        "run_cost": CostAssumptions(inter_region_usd_per_gb=0.02),
    }
    assert rank_rows(HERE, **fields).options
    refused = rank_rows(HERE, **fields, **far)
    assert [item.reason for item in refused.rejections] == ["over_budget"]
    option = best_chance(small_job(), book(HERE), Request(Constraints(**fields, **far)), predict=TOY)
    assert isinstance(option, Option)
    assert option.probability_within is not None
    assert option.probability_within < 0.1


def test_what_is_stated_replaces_what_is_assumed() -> None:
    """The start-up that a user measured is used and named as stated, with its part of the cost."""
    answer = rank_rows(HERE, run_cost=CostAssumptions(startup_s=900.0))
    numbers = {number.name: number for number in answer.assumed_numbers}
    assert answer.options[0].cost_parts.startup_usd == pytest.approx(1.0)
    assert (numbers["startup_s"].value, numbers["startup_s"].stated) == (900.0, True)
    assert numbers["startup_s"].share == pytest.approx(1.0 / answer.options[0].run_usd.mid)
    default = {number.name: number for number in rank_rows(HERE).assumed_numbers}
    assert (default["startup_s"].value, default["startup_s"].stated) == (240.0, False)


def test_a_stated_price_of_egress_is_paid_for_every_gb() -> None:
    """Dollars a GB times the GB of the data, from cloud to cloud."""
    stated = CostAssumptions(egress_usd_per_gb=0.05)
    answer = rank_rows(
        OTHER_CLOUD, data_in="aws:us-east-1", data_gb=200.0, run_cost=stated, providers=("gcp",)
    )
    assert answer.options[0].cost_parts.transfer_usd == pytest.approx(10.0)
