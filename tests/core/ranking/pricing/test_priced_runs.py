"""Which plan of a machine is taken."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from builders.toy_market import ToyPredictor, book, in_precisions, offer_row, small_job
from trainfare_core.candidates import SHARDINGS, CandidateTable
from trainfare_core.clouds import service_startup_s
from trainfare_core.job_profile import JobProfile, ParallelFacts
from trainfare_core.limits.cost_assumptions import CostAssumptions
from trainfare_core.prediction.table import PredictionTable
from trainfare_core.prices.shapes import MachineShapes
from trainfare_core.ranking.pricing.request import Request
from trainfare_core.ranking.rank import rank
from trainfare_core.recommendation import Constraints


def test_the_last_bits_of_a_step_do_not_choose_the_plan() -> None:
    """DDP is taken where both fit and FSDP is faster by rounding noise alone: processors differ in the last bits."""

    def noisy(profile: JobProfile, shapes: MachineShapes, candidates: CandidateTable) -> PredictionTable:
        table = ToyPredictor()(profile, shapes, candidates)
        noise = np.where(candidates.sharding == SHARDINGS.index("ddp"), 1 + 1e-13, 1.0)
        return replace(table, step_s=table.step_s * noise)

    pair = book(offer_row(instance_type="a100.2x", accelerator_count=2.0))
    request = Request(Constraints(allow=("plan",)), max_nodes=1)
    (option,) = rank(small_job(), pair, request, predict=noisy).options
    assert option.sharding == "ddp"


def test_fewer_accelerators_of_a_machine_are_used_where_that_is_faster_by_enough() -> None:
    """
    A step of 1 s on one device, shared by all that are used, and so much for each further one to communicate.

    0.12 s: 0.97 on eight and 0.61 on four, which are worth it; 0.03 s: 0.335 and 0.34; 0.09 s: two and four differ by
    less than a tenth. A part that is taken says what all would take.
    """
    machine = book(offer_row(instance_type="a100.8x", accelerator_count=8.0))
    for link_s, used, note in (
        (0.12, 4, "a step on 8 takes 58 % longer"),
        (0.03, 8, ""),
        (2.0, 1, ""),
    ):
        toy = ToyPredictor(seconds={"A100-SXM-80GB": 1.0}, link_s=link_s)
        (option,) = rank(small_job(batch=8), machine, Request(max_nodes=1), predict=toy).options
        assert option.trainer is not None
        assert option.trainer.devices == used
        assert option.accelerator_count == 8
        assert note in " ".join(note.text for note in option.notes)
        assert (
            "accelerators of a machine that is paid whole" in " ".join(note.text for note in option.notes)
        ) == (used < 8)


def test_a_faster_part_whose_time_is_less_sure_is_not_taken() -> None:
    """Faster in the median and slower at the upper end of the interval: a chance to keep a limit could fall."""

    def unsure(profile: JobProfile, shapes: MachineShapes, candidates: CandidateTable) -> PredictionTable:
        table = ToyPredictor(seconds={"A100-SXM-80GB": 1.0}, link_s=0.12)(profile, shapes, candidates)
        return replace(table, log_sigma=np.where(candidates.devices_or_all < 8, 0.9, 0.1))

    machine = book(offer_row(instance_type="a100.8x", accelerator_count=8.0))
    (option,) = rank(small_job(batch=8), machine, Request(max_nodes=1), predict=unsure).options
    assert option.trainer is not None
    assert option.trainer.devices == 8


@pytest.mark.parametrize(
    ("steps", "run_cost", "changed"),
    [
        (1_000, {}, True),  # 1,000 s of 1,240
        (20, {}, False),  # 20 s of 260
        (20, {"startup_s": 0.0}, True),
        (20, {"startup_s": 80.0}, True),  # a tenth of 100 s
        (20, {"startup_s": 81.0}, False),
        (20, {"startup_s": 84.0, "billing_step_s": 100.0}, True),  # 104 s are billed as 200, and 94 s as 100
        (20, {"startup_s": 84.0, "billing_minimum_s": 200.0}, False),
    ],
)
def test_a_plan_is_changed_where_the_whole_run_gains_a_tenth(
    steps: int, run_cost: dict[str, float], changed: bool
) -> None:
    """Half the time of a step is no reason where start-up takes most of the run, unless less is billed."""
    job = in_precisions(small_job(precision="32-true", steps=steps, batch=1), "bf16-mixed")
    toy = ToyPredictor(default_s=1.0)
    constraints = Constraints(allow=("precision",), run_cost=CostAssumptions(**run_cost))
    (option,) = rank(job, book(offer_row()), Request(constraints, max_nodes=1), predict=toy).options
    assert option.trainer is not None
    assert option.trainer.precision == ("bf16-mixed" if changed else "32-true")


@pytest.mark.parametrize(("steps", "noted"), [(10_000, True), (100, False)])
def test_a_faster_plan_is_noted_where_the_whole_run_gains_a_tenth(steps: int, noted: bool) -> None:
    """The script's own FSDP takes three times as long as DDP; a run of 100 steps of 0.15 s is start-up all the same."""

    def predict_sharded(
        profile: JobProfile, shapes: MachineShapes, candidates: CandidateTable
    ) -> PredictionTable:
        table = ToyPredictor()(profile, shapes, candidates)
        return replace(
            table, step_s=table.step_s * np.where(candidates.sharding == SHARDINGS.index("fsdp"), 3.0, 1.0)
        )

    pair = book(offer_row(instance_type="a100.2x", accelerator_count=2.0))
    job = small_job(steps=steps, parallel=ParallelFacts(strategy="fsdp", devices=2))
    (option,) = rank(job, pair, Request(max_nodes=1), predict=predict_sharded).options
    assert ("less time a step and fit: --allow plan" in " ".join(note.text for note in option.notes)) == noted


def test_fewer_steps_of_a_larger_batch_are_weighed_with_their_time() -> None:
    """Four devices take 0.55 s for a step, and eight 0.95 s for one of twice the samples: half as many steps are left."""
    machine = book(offer_row(instance_type="a100.8x", accelerator_count=8.0))
    toy = ToyPredictor(seconds={"A100-SXM-80GB": 1.0}, link_s=0.1)
    request = Request(Constraints(allow=("batch",)), max_nodes=1)
    (option,) = rank(small_job(batch=4), machine, request, predict=toy).options
    assert option.trainer is not None
    assert option.trainer.devices == 8
    assert option.run_hours.mid == pytest.approx((18_000 * 0.95 + service_startup_s("ec2")) / 3600)
