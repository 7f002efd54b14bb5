"""
`PlanSearch`: the plans that are tried on each shape of machine, what is predicted of them, and why the shapes that
cannot be ranked cannot (part of stage 6).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from trainfare_core.arrays import Column, Flags, Rows
from trainfare_core.candidates import USUAL, CandidateTable, PlanSpace, enumerate_candidates, plan_gaps, take
from trainfare_core.hardware.accelerators import resolve_device
from trainfare_core.hardware.earlier_runs import Evidence
from trainfare_core.job_profile import JobProfile
from trainfare_core.prediction.porting import Environment
from trainfare_core.prediction.table import PredictionTable
from trainfare_core.prices.shapes import MachineShapes
from trainfare_core.ranking.pricing.best_plans import PlanChoice, best_plans
from trainfare_core.ranking.pricing.request import Request
from trainfare_core.recommendation import RejectionReason
from trainfare_core.run_cost import steps_of


@dataclass(frozen=True, slots=True)
class ShapeVerdicts:
    """
    Why shapes cannot be ranked; arrays of shape (shapes,).

    Attributes:
        reason: a `RejectionReason`, or "" where at least one plan fits.
        detail: the reason in words.
        miss_bytes: by how much the nearest plan misses the device's memory; inf where that is not the reason.
        needs_porting: the script does not run there as it is; see `Environment.obstacle`.
    """

    reason: NDArray[np.str_]
    detail: NDArray[np.str_]
    miss_bytes: Column
    needs_porting: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Fitness:
    """Whether a device can run the script: a `RejectionReason` and its detail, or "" and what must be ported."""

    reason: RejectionReason | Literal[""] = ""
    detail: str = ""
    obstacle: str = ""


def fitness_of(profile: JobProfile, name: str, *, no_porting: bool) -> Fitness:
    """
    Return whether a device can run a job's script.

    Args:
        profile: the job.
        name: of the device.
        no_porting: a device that does not run the script as it is cannot.
    """
    device = resolve_device(name)
    environment = Environment.of(profile)
    if device is None:
        return Fitness("unknown_accelerator", name)
    if not device.trains:
        return Fitness("cannot_train", name)
    if impossible := environment.impossible(device):
        return Fitness("cannot_train", impossible)
    obstacle = environment.obstacle(device)
    if obstacle and no_porting:
        return Fitness("needs_porting", f"{name}: {obstacle}")
    return Fitness(obstacle=obstacle)


def verdicts_of(
    profile: JobProfile,
    shapes: MachineShapes,
    candidates: CandidateTable,
    prediction: PredictionTable,
    devices: dict[str, Fitness],
    offered: NDArray[np.bool_],
    space: PlanSpace,
) -> ShapeVerdicts:
    """
    Return why shapes cannot be ranked.

    Args:
        profile: the job.
        shapes: machines.
        candidates: plans, in the order of the shapes.
        prediction: one row a plan.
        devices: whether each device can run the script.
        offered: shapes that some offer has, shape (shapes,).
        space: which plans are tried.
    """
    reason = np.full(len(shapes), "", dtype="U24")
    detail = np.full(len(shapes), "", dtype=object)
    miss_bytes = np.full(len(shapes), np.inf)
    porting = np.zeros(len(shapes), dtype=np.bool_)
    gaps = plan_gaps(profile, shapes, space)
    plans_of = np.split(
        np.arange(len(candidates)), np.searchsorted(candidates.shape, np.arange(1, len(shapes)))
    )
    for row in np.flatnonzero(offered):
        name = str(shapes.accelerator[row])
        fitness = devices[name]
        if fitness.reason:
            reason[row], detail[row] = fitness.reason, fitness.detail
        elif gaps[row] and not len(plans_of[row]):  # plans that split the model leave no gap
            reason[row], detail[row] = "no_prediction", f"{name}: {gaps[row]}"
        else:
            porting[row] = bool(fitness.obstacle)
            plans = plans_of[row]
            if not np.any(prediction.fits[plans] & np.isfinite(prediction.step_s[plans])):
                reason[row], detail[row], miss_bytes[row] = _miss(name, plans, prediction)
    return ShapeVerdicts(reason, detail.astype(np.str_), miss_bytes, porting)


def _miss(name: str, plans: Rows, prediction: PredictionTable) -> tuple[str, str, float]:
    """Say why none of a shape's plans can be ranked: the nearest miss of memory, or what is not known."""
    known = plans[np.isfinite(prediction.step_s[plans]) & np.isfinite(prediction.memory_bytes[plans])]
    if not len(known):
        texts = sorted({str(text) for text in prediction.unknown_because[plans] if text})
        return "no_prediction", f"{name}: {texts[0] if texts else 'no prediction'}", np.inf
    gib = 2.0**30
    expected, usable = prediction.memory_bytes[known], prediction.usable_memory_bytes[known]
    if np.any(expected <= usable):
        likeliest = known[np.argmin(np.where(expected <= usable, prediction.missing_bytes[known], np.inf))]
        upper = prediction.usable_memory_bytes[likeliest] + prediction.missing_bytes[likeliest]
        text = (
            f"{name}: {prediction.memory_bytes[likeliest] / gib:.1f} GiB a device expected, up to {upper / gib:.1f} "
            f"(80 % interval), has {prediction.usable_memory_bytes[likeliest] / gib:.1f}"
        )
        return "may_not_fit", text, float(prediction.missing_bytes[likeliest])
    nearest = known[np.argmin(prediction.missing_bytes[known])]
    miss = float(expected[known == nearest][0] - usable[known == nearest][0])
    text = (
        f"{name}: needs {prediction.memory_bytes[nearest] / gib:.1f} GiB a device, has "
        f"{prediction.usable_memory_bytes[nearest] / gib:.1f}, misses by {miss / gib:.1f} GiB"
    )
    return "does_not_fit", text, miss


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
        space: which plans were tried.
    """

    shapes: MachineShapes
    candidates: CandidateTable
    prediction: PredictionTable
    verdicts: ShapeVerdicts
    earlier_runs: tuple[Evidence, ...] = ()
    space: PlanSpace = USUAL

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
        return cls(shapes, candidates, prediction, verdicts, request.earlier_runs, space)

    def choose_plans(self, profile: JobProfile, *, scripted_first: bool) -> PlanChoice:
        """Return the plans of each shape x nodes between which the time of the whole run decides; see `best_plans`."""
        steps = steps_of(profile, self.candidates)
        return best_plans(self.candidates, self.prediction, steps, scripted_first=scripted_first)
