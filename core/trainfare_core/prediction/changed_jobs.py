"""
Predict plans that change the job or split its model, apart from those that do neither.

Each change is a profile of its own, which the engine predicts like any other. Plans that split the model have terms of
their own for time and memory, and more doubt.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Final

import numpy as np

from trainfare_core.candidates import CandidateTable, take
from trainfare_core.earlier_runs import Evidence
from trainfare_core.job_profile import JobProfile
from trainfare_core.prediction.columns import Run
from trainfare_core.prediction.engine import predict_run, prepare
from trainfare_core.prediction.table import PredictionTable
from trainfare_core.prediction.uncertainty import Z80
from trainfare_core.prices.shapes import MachineShapes
from trainfare_core.variants import JobVariant

SPLIT_STEP_SIGMA: Final = 0.1
"""Of ln(step time), added where the model is split: a script that splits its model is another one than was traced, and
the exchange of a context group is not counted. A chosen value: 54 published runs of PyTorch code that splits its model
take 7 % longer than predicted in the mean, those with context groups up to 38 %
(`research/trainfare_research/runners/split_plans.py`)."""


def predict(
    profile: JobProfile,
    shapes: MachineShapes,
    candidates: CandidateTable,
    earlier: tuple[Evidence, ...] = (),
) -> PredictionTable:
    """
    Predict step time and memory of every plan.

    What a measured step says of the job as it is corrects its changes too.

    Args:
        profile: the job.
        shapes: machines, as the plans index them.
        candidates: plans, n rows.
        earlier: see `engine.prepare`.

    Returns:
        n rows; rows without an answer have NaN and a reason.
    """
    own_run = prepare(profile, earlier=earlier)
    if candidates.variant is None and candidates.parallel is None:
        return predict_run(own_run, shapes, candidates)
    count = len(candidates)
    variant = np.zeros(count, dtype=np.int64) if candidates.variant is None else candidates.variant
    whole = np.ones(count, dtype=np.bool_) if candidates.parallel is None else candidates.parallel.is_none
    rows: list[np.ndarray[tuple[int, ...], np.dtype[np.int64]]] = []
    parts: list[PredictionTable] = []
    for code, job_variant in enumerate(candidates.variants):
        for split in (False, True) if candidates.parallel is not None else (False,):
            mine = np.flatnonzero((variant == code) & (whole != split))
            plans = take(candidates, mine)
            rows.append(mine)
            parts.append(
                _predict_variant(
                    own_run, job_variant, shapes, plans if split else replace(plans, parallel=None)
                )
            )
    order = np.argsort(np.concatenate(rows))
    columns = {
        field.name: np.concatenate([getattr(part, field.name) for part in parts])[order]
        for field in fields(PredictionTable)
    }
    return PredictionTable(**columns)


def _predict_variant(
    own_run: Run, variant: JobVariant, shapes: MachineShapes, plans: CandidateTable
) -> PredictionTable:
    """Return the predictions of plans that make one change of the job, all or none of which split the model."""
    changed = variant != JobVariant()
    if not changed and plans.parallel is None:
        return predict_run(own_run, shapes, plans)
    split = np.zeros(len(plans), dtype=np.bool_) if plans.parallel is None else plans.parallel.splits
    split_sigma = np.where(split, SPLIT_STEP_SIGMA, 0.0)
    run = own_run
    if changed:
        run = prepare(variant.of(own_run.profile))
        run = replace(run, correction=own_run.correction, earlier=own_run.earlier)
    table = predict_run(run, shapes, plans)
    memory_log_sigma = np.hypot(table.memory_log_sigma, variant.memory_log_sigma)
    upper_bytes = table.memory_bytes * np.exp(Z80 * memory_log_sigma)
    return replace(
        table,
        log_sigma=np.hypot(np.hypot(table.log_sigma, variant.step_log_sigma), split_sigma),
        memory_log_sigma=memory_log_sigma,
        fits=table.fits & (upper_bytes <= table.usable_memory_bytes),
    )
