"""Predict plans that change the job: each change is a profile of its own, which the engine predicts like any other."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np

from trainfare_core.candidates import CandidateTable, take
from trainfare_core.job_profile import JobProfile
from trainfare_core.prediction.engine import Run, predict_run, prepare
from trainfare_core.prediction.table import PredictionTable
from trainfare_core.prediction.uncertainty import Z80
from trainfare_core.prices.book import MachineShapes
from trainfare_core.variants import JobVariant

__all__ = ["predict"]


def predict(profile: JobProfile, shapes: MachineShapes, candidates: CandidateTable) -> PredictionTable:
    """
    Predict step time and memory of every plan.

    What a measured step says of the job as it is corrects its changes too.

    Args:
        profile: the job.
        shapes: machines, as the plans index them.
        candidates: plans, n rows.

    Returns:
        n rows; rows without an answer have NaN and a reason.
    """
    own = prepare(profile)
    if candidates.variant is None:
        return predict_run(own, shapes, candidates)
    rows = [np.flatnonzero(candidates.variant == code) for code in range(len(candidates.variants))]
    parts = [
        _changed(own, variant, shapes, take(candidates, mine))
        for variant, mine in zip(candidates.variants, rows, strict=True)
    ]
    place = np.argsort(np.concatenate(rows))
    columns = {
        each.name: np.concatenate([getattr(part, each.name) for part in parts])[place]
        for each in fields(PredictionTable)
    }
    return PredictionTable(**columns)


def _changed(own: Run, variant: JobVariant, shapes: MachineShapes, plans: CandidateTable) -> PredictionTable:
    if variant == JobVariant():
        return predict_run(own, shapes, plans)
    run = replace(prepare(variant.of(own.profile)), correction=own.correction)
    table = predict_run(run, shapes, plans)
    memory_log_sigma = np.hypot(table.memory_log_sigma, variant.memory_log_sigma)
    upper_bytes = table.memory_bytes * np.exp(Z80 * memory_log_sigma)
    return replace(
        table,
        log_sigma=np.hypot(table.log_sigma, variant.step_log_sigma),
        memory_log_sigma=memory_log_sigma,
        fits=table.fits & (upper_bytes <= table.usable_memory_bytes),
    )
