"""The fastest, the best value and the script's own plan, by probability and by brute force."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from builders.recommendations import interval, option
from builders.toy_market import ToyPredictor, book, offer_row, small_job
from trainfare_core.job_profile import ParallelFacts
from trainfare_core.ranking.options.named_options import chance_less, find_best
from trainfare_core.ranking.pricing.request import Request
from trainfare_core.ranking.rank import rank
from trainfare_core.recommendation import Constraints, Option, TrainerArguments

A100, H100 = "A100-SXM-80GB", "H100-SXM-80GB"


def use_devices(count: int) -> TrainerArguments:
    return TrainerArguments(
        devices=count,
        num_nodes=1,
        strategy="auto",
        precision="bf16-mixed",
        accumulate_grad_batches=1,
        batch_size=8,
    )


def machine(rank: int, usd: float, hours: float, accelerator: str, **more: Any) -> Option:
    return option(
        rank=rank,
        usd=usd,
        hours=hours,
        accelerator=accelerator,
        instance_type=f"{accelerator}-{rank}",
        **more,
    )


def test_the_chance_counts_the_shared_error_once() -> None:
    """By simulation: the job's part of ln(error) is one draw for both, with 0.631 of the variance."""
    fast, slow = machine(1, 9.0, 1.26, H100), machine(2, 9.0, 1.45, A100)
    random = np.random.default_rng(0)
    job, own, other = random.normal(size=(3, 400_000))
    sigma, shared = 0.2, 0.631
    drawn = [
        math.log(hours) + sigma * (math.sqrt(shared) * job + math.sqrt(1 - shared) * alone)
        for hours, alone in ((1.26, own), (1.45, other))
    ]
    found = chance_less(fast, slow, interval(1.26), interval(1.45))
    assert found == pytest.approx(float(np.mean(drawn[0] < drawn[1])), abs=0.003)


def test_the_same_accelerators_err_alike() -> None:
    """Of two with the same devices the slower one is slower; a hundredth is no difference."""
    fast, slow = machine(1, 9.0, 1.0, H100), machine(2, 9.0, 1.05, H100)
    assert chance_less(fast, slow, fast.run_hours, slow.run_hours) == 1.0
    near = machine(2, 9.0, 1.005, H100)
    assert chance_less(fast, near, fast.run_hours, near.run_hours) == 0.5


def test_the_fastest_is_the_cheapest_that_may_be_as_fast() -> None:
    """Trial V: $10.17 in 1.45 h beside $79.64 in 1.26 h on one of eight devices, and a slow one for less."""
    idle = machine(1, 79.64, 1.26, "H200-SXM-141GB", accelerator_count=8.0, trainer=use_devices(1))
    near, slow = machine(2, 10.17, 1.45, H100), machine(3, 3.0, 4.0, A100)
    assert find_best((slow, near, idle), "fastest", Constraints()) == near.rank


def test_a_machine_with_idle_devices_is_the_fastest_where_no_other_may_be() -> None:
    idle = machine(1, 79.64, 1.26, "H200-SXM-141GB", accelerator_count=8.0, trainer=use_devices(1))
    whole = machine(2, 95.0, 1.3, H100)
    slow = machine(3, 3.0, 4.0, A100)
    assert find_best((slow, idle), "fastest", Constraints()) == idle.rank
    assert find_best((slow, idle, whole), "fastest", Constraints()) == whole.rank, "although it costs more"


def test_the_best_value_has_the_least_product() -> None:
    """Ten percent more for twenty percent less time is worth it, for five percent less it is not."""
    base = machine(1, 10.0, 10.0, A100)
    assert find_best((base, machine(2, 11.0, 8.0, H100)), "best_value", Constraints()) == 2
    assert find_best((base, machine(2, 11.0, 9.5, H100)), "best_value", Constraints()) == 1
    assert (
        find_best((base, machine(2, 11.0, 9.5, H100)), "best_value", Constraints(value_usd_per_hour=5)) == 2
    )


ROWS = (
    offer_row(),
    offer_row(instance_type="a100.8x", accelerator_count=8.0, usd_per_hour=40.0),
    offer_row(instance_type="h100.8x", accelerator=H100, accelerator_count=8.0, usd_per_hour=90.0),
)


def test_the_own_plan_is_on_the_cheapest_machine_that_runs_it() -> None:
    """Eight devices under DDP, where one device is the cheapest; a script of one device has none."""
    predict = ToyPredictor({A100: 0.1, H100: 0.05})
    own = ParallelFacts(strategy="ddp", devices=8)
    found = rank(small_job(parallel=own, batch=4), book(*ROWS), Request(max_nodes=1), predict=predict)
    assert found.own_plan is not None
    assert found.own_plan.trainer is not None
    assert (found.own_plan.instance_type, found.own_plan.trainer.devices) == ("a100.8x", 8)
    assert found.own_plan.plan_changes == ()
    by_hand = [
        each.run_usd.mid
        for each in found.options
        if each.trainer and each.trainer.devices == 8 and not each.plan_changes
    ]
    assert found.own_plan.run_usd.mid == min(by_hand)
    assert rank(small_job(), book(*ROWS), Request(max_nodes=1), predict=predict).own_plan is None


def test_too_long_runs_are_given_more_machines() -> None:
    """Only where no number of machines was asked for; then the smallest number that ends in time is named."""
    from trainfare_core.ranking.alternatives.nearest import with_alternatives

    predict = ToyPredictor({A100: 100.0, H100: 100.0})
    job, prices = small_job(batch=4096, steps=2_000_000), book(ROWS[1])

    def answer(**asked: Any) -> Any:
        request = Request(**asked)
        return with_alternatives(
            rank(job, prices, request, predict=predict), job, prices, request, predict=predict
        )

    raised = answer()
    assert raised.cheapest_rank is not None
    assert (raised.raised_max_nodes, raised.constraints.max_nodes) == (64, None)
    assert any("up to 64 machines" in text for text in raised.assumptions)
    asked = answer(max_nodes=1)
    assert asked.cheapest_rank is None
    assert asked.raised_max_nodes is None
    (flag,) = (each.flag for each in asked.alternatives if each.flag.startswith("--max-nodes"))
    fewest = next(
        count
        for count in (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
        if rank(job, prices, Request(max_nodes=count), predict=predict).cheapest_rank is not None
    )
    assert flag == f"--max-nodes {fewest}"
