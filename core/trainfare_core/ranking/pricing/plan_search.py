"""`PlanSearch`: the plans that are tried on each shape of machine, and what is predicted of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, cast

import numpy as np

from trainfare_core.arrays import Flags
from trainfare_core.candidates import CandidateTable, enumerate_candidates, take
from trainfare_core.earlier_runs import Evidence
from trainfare_core.job_profile import JobProfile
from trainfare_core.prediction.table import PredictionTable
from trainfare_core.prices.shapes import MachineShapes
from trainfare_core.ranking.pricing.best_plans import PlanChoice, best_plans
from trainfare_core.ranking.pricing.request import Request
from trainfare_core.ranking.pricing.shape_verdicts import ShapeVerdicts, fitness_of, verdicts_of
from trainfare_core.run_cost import steps_of


class Predictor(Protocol):
    """Function that predicts plans: `trainfare_core.prediction.predict`, or a toy in tests."""

    def __call__(
        self, profile: JobProfile, shapes: MachineShapes, candidates: CandidateTable
    ) -> PredictionTable:
        """Predict every candidate."""
        ...


@dataclass(frozen=True, slots=True)
class PlanSearch:
    """
    What runs are made from.

    Attributes:
        shapes: of the machines of a price book.
        candidates: plans on them.
        prediction: one row a plan.
        verdicts: why shapes cannot be ranked.
        earlier_runs: those by which predictions are corrected.
    """

    shapes: MachineShapes
    candidates: CandidateTable
    prediction: PredictionTable
    verdicts: ShapeVerdicts
    earlier_runs: tuple[Evidence, ...] = ()

    @classmethod
    def of(
        cls, profile: JobProfile, shapes: MachineShapes, offered: Flags, request: Request, predict: Predictor
    ) -> PlanSearch:
        """
        Predict every plan of the shapes that are offered and can run the job.

        Args:
            profile: the job.
            shapes: of the machines of a price book.
            offered: shapes that some offer has, shape (shapes,).
            request: which plans are tried, and on how many accelerators.
            predict: the predictor.
        """
        asked, space = request.constraints, request.plan_space
        names = [str(name) for name in np.unique(shapes.accelerator[offered])]
        devices = {name: fitness_of(profile, name, no_porting=asked.no_porting) for name in names}
        possible = [name for name, fitness in devices.items() if not fitness.reason]
        usable = offered & np.isin(shapes.accelerator, possible)
        candidates = enumerate_candidates(profile, shapes, space)
        candidates = take(candidates, usable[candidates.shape])
        if asked.max_accelerators is not None:
            accelerators = candidates.nodes * shapes.accelerator_count[candidates.shape]
            candidates = take(candidates, accelerators <= asked.max_accelerators)
        if request.earlier_runs:
            predict = partial(cast("Any", predict), earlier=request.earlier_runs)
        prediction = predict(profile, shapes, candidates)
        verdicts = verdicts_of(profile, shapes, candidates, prediction, devices, offered, space)
        return cls(shapes, candidates, prediction, verdicts, request.earlier_runs)

    def choose_plans(self, profile: JobProfile, *, scripted_first: bool) -> PlanChoice:
        """Return the plans of each shape x nodes between which the time of the whole run decides; see `best_plans`."""
        steps = steps_of(profile, self.candidates)
        return best_plans(self.candidates, self.prediction, steps, scripted_first=scripted_first)
