"""Which plan of a machine is taken."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from builders.toy_market import ToyPredictor, book, offer_row, small_job
from trainfare_core.candidates import SHARDINGS, CandidateTable
from trainfare_core.job_profile import JobProfile
from trainfare_core.prediction.table import PredictionTable
from trainfare_core.prices.book import MachineShapes
from trainfare_core.ranking.rank import rank
from trainfare_core.ranking.request import Request
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
        (0.12, 4, "a step on 8 takes 58% longer"),
        (0.03, 8, ""),
        (2.0, 1, ""),
    ):
        toy = ToyPredictor(seconds={"A100-SXM-80GB": 1.0}, link_s=link_s)
        (option,) = rank(small_job(batch=8), machine, Request(max_nodes=1), predict=toy).options
        assert option.trainer is not None
        assert option.trainer.devices == used
        assert option.accelerator_count == 8
        assert note in " ".join(option.notes)
        assert ("accelerators of a machine that is paid whole" in " ".join(option.notes)) == (used < 8)


def test_a_faster_part_whose_time_is_less_sure_is_not_taken() -> None:
    """Faster in the median and slower at the upper end of the interval: a chance to keep a limit could fall."""

    def unsure(profile: JobProfile, shapes: MachineShapes, candidates: CandidateTable) -> PredictionTable:
        table = ToyPredictor(seconds={"A100-SXM-80GB": 1.0}, link_s=0.12)(profile, shapes, candidates)
        return replace(table, log_sigma=np.where(candidates.devices_or_all < 8, 0.9, 0.1))

    machine = book(offer_row(instance_type="a100.8x", accelerator_count=8.0))
    (option,) = rank(small_job(batch=8), machine, Request(max_nodes=1), predict=unsure).options
    assert option.trainer is not None
    assert option.trainer.devices == 8
