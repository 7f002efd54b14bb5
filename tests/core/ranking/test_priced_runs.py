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
