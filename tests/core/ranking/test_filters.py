"""Where a run may be, how many accelerators it may have and which network: what is left out is counted."""

from __future__ import annotations

from typing import Any

import pytest

from builders.toy_market import ToyPredictor, book, offer_row, small_job
from trainfare_core.errors import UnknownNameError
from trainfare_core.ranking.pricing.request import Request
from trainfare_core.ranking.rank import rank
from trainfare_core.recommendation import Constraints, Recommendation

BOOK = book(
    offer_row(),
    offer_row(region="eu-west-1", usd_per_hour=5.0),
    offer_row(region="eu-west-2", usd_per_hour=4.5),
    offer_row(provider="lambda", service="lambda", region="global", usd_per_hour=3.0),
    offer_row(instance_type="a100.4x", accelerator_count=4.0, usd_per_hour=16.0, network_gbit_per_s=None),
)


def rank_rows(*, max_nodes: int = 4, **asked: Any) -> Recommendation:
    request = Request(Constraints(**asked), max_nodes=max_nodes, all_regions=True)
    answer = rank(small_job(), BOOK, request, predict=ToyPredictor({"A100-SXM-80GB": 0.1}))
    listed = {(option.provider, option.region, option.instance_type) for option in answer.options}
    assert len(listed) + sum(item.count for item in answer.rejections) == len(BOOK)
    return answer


def left_out(answer: Recommendation) -> str:
    return next(item.detail for item in answer.rejections if item.reason == "filtered")


def test_residency_keeps_regions_known_to_lie_there() -> None:
    """London is not in the Union, and a cloud that names no place is not known to be."""
    answer = rank_rows(residency=("eu",))
    assert {option.region for option in answer.options} == {"eu-west-1"}
    assert "not known to lie in eu" in left_out(answer)
    both = rank_rows(residency=("europe", "us"))
    assert {option.region for option in both.options} == {"eu-west-1", "eu-west-2", "us-east-1"}
    with pytest.raises(UnknownNameError, match="did you mean"):
        rank_rows(residency=("eurpe",))


def test_accelerators_are_counted_over_all_machines_of_a_run() -> None:
    """At most two: no machine of four, and no more than two machines of one."""
    answer = rank_rows(max_accelerators=2)
    assert {option.nodes for option in answer.options} == {1, 2}
    assert {option.instance_type for option in answer.options} == {"a100.1x"}
    assert "more than 2 accelerators" in left_out(answer)
    assert {option.nodes for option in rank_rows().options} == {1, 2, 4}


def test_what_is_rented_counts_as_accelerators_used_or_not() -> None:
    """A batch of 4 uses half of a machine of eight, which is rented whole: a limit of 4 leaves it out."""
    job = small_job(batch=4)
    eight = book(offer_row(instance_type="a100.8x", accelerator_count=8.0))

    def devices(most: int) -> list[int]:
        request = Request(Constraints(max_accelerators=most), max_nodes=1)
        options = rank(job, eight, request, predict=ToyPredictor()).options
        return [option.trainer.devices for option in options if option.trainer is not None]

    assert devices(8) == [4]
    assert devices(4) == []


def test_a_network_that_is_not_published_is_not_fast_enough() -> None:
    """Machines with 100 Gbit/s are kept at a limit of 100, the one without a figure is not."""
    answer = rank_rows(min_network_gbit_per_s=100.0)
    assert {option.instance_type for option in answer.options} == {"a100.1x"}
    assert "a network below 100 Gbit/s, or not published" in left_out(answer)
    assert not rank_rows(min_network_gbit_per_s=101.0).options
