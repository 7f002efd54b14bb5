"""What interruptions do to runs on spot machines."""

from __future__ import annotations

from dataclasses import fields, replace
from statistics import NormalDist
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from trainfare_core.arrays import Column
from trainfare_core.candidates import take
from trainfare_core.interruptions import HAZARDS, SpotProcess
from trainfare_core.job_profile import JobProfile
from trainfare_core.run_cost.table import NOT_SPOT, S_PER_HOUR, RunTable

SPOT_WAIT_S: Final = 1_800.0
"""Mean wait until a pool that took a machine back has one again. No cloud publishes it: a planning figure. The machine
is not billed meanwhile."""

USUAL_CONFIDENCE: Final = 0.9
"""Of the quantile of a spot run's hours, unless another is asked for."""

LEAST_SAVE_S: Final = 300.0
"""Advice is never to save more often: an interruption that loses less work than this costs its restart and no more. A
chosen value, about the start-up of a machine."""


def interruption_rates(hazard: NDArray[np.int64], nodes: NDArray[np.int64]) -> Column:
    """
    Return how often a second runs are interrupted, one equally likely rate a column, shape (n, rates).

    Args:
        hazard: row of `HAZARDS`, or `NOT_SPOT`, of each run, shape (n,); the latter is never interrupted.
        nodes: machines of each run, shape (n,); the loss of one stops them all.
    """
    rates = np.array([hazard.per_hour for hazard in HAZARDS]) / S_PER_HOUR
    return np.where((hazard == NOT_SPOT)[:, None], 0.0, rates[hazard] * nodes[:, None])


def spot_process(profile: JobProfile, runs: RunTable, nodes: NDArray[np.int64]) -> SpotProcess:
    """
    Return what interruptions do to runs on spot machines.

    Args:
        profile: the job.
        runs: all on spot machines, n rows.
        nodes: machines of each run, shape (n,); the loss of one stops them all.
    """
    busy_s = runs.training_s + runs.validation_s
    interval_s = _compute_checkpoint_interval_s(profile, runs.steps, busy_s)
    with np.errstate(invalid="ignore", divide="ignore"):
        intervals = np.where(interval_s > 0, busy_s / interval_s, 0.0)
    return SpotProcess(
        rate_per_s=interruption_rates(runs.hazard, nodes),
        interval_s=interval_s,
        write_s=runs.write_s,
        restart_s=runs.restart_s,
        wait_s=SPOT_WAIT_S,
        intervals=intervals,
    )


def add_interruptions(
    profile: JobProfile,
    calm: RunTable,
    spot: NDArray[np.int64],
    nodes: NDArray[np.int64],
    confidence: float,
    save_s: Column,
) -> RunTable:
    """
    Add what interruptions take to the given rows.

    Args:
        profile: the job.
        calm: runs without interruptions, n rows.
        spot: rows of `calm` on spot machines.
        nodes: machines of each run, shape (n,).
        confidence: quantile of the hours that `log_sigma` is to give.
        save_s: time to write a checkpoint, also where the run writes none, shape (n,).
    """
    runs = take(calm, spot)
    process = spot_process(profile, runs, nodes[spot])
    lost_s = np.maximum(process.expected_s - process.undisturbed_s, 0.0)
    hours = runs.hours + lost_s / S_PER_HOUR
    with np.errstate(invalid="ignore", divide="ignore"):
        step_s = runs.training_s / runs.steps
        assumed = replace(process, write_s=save_s[spot])
        best_save_steps = np.maximum(1.0, np.maximum(assumed.best_interval_s, LEAST_SAVE_S) / step_s)
    changed = replace(
        runs,
        interruption_s=lost_s,
        waiting_s=process.waited_s,
        hours=hours,
        interruptions=process.interruptions,
        best_save_steps=best_save_steps,
    )
    # Near the middle a quantile says nothing of the width.
    chance = confidence if confidence > 0.6 else USUAL_CONFIDENCE
    rows = np.flatnonzero(changed.gets_on)
    ends = take(runs, rows)
    late_s = (
        spot_process(profile, ends, nodes[spot][rows])
        .finish(ends.startup_s + ends.staging_s, ends.undisturbed_log_sigma)
        .quantile_s(chance)
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        width = np.log(late_s / (hours[rows] * S_PER_HOUR)) / NormalDist().inv_cdf(chance)
    log_sigma = runs.log_sigma.copy()
    log_sigma[rows] = np.fmax(width, ends.undisturbed_log_sigma)
    changed = replace(changed, log_sigma=log_sigma)
    columns: dict[str, Any] = {}
    for field in fields(calm):
        column = getattr(calm, field.name).copy()
        column[spot] = getattr(changed, field.name)
        columns[field.name] = column
    return replace(calm, **columns)


def _compute_checkpoint_interval_s(profile: JobProfile, steps: Column, busy_s: Column) -> Column:
    """Return the seconds of work between checkpoints; a run that saves nothing is one interval."""
    every = profile.plan.checkpoint_every_n_steps
    if not every:
        return busy_s
    part = every / np.maximum(steps, 1.0)
    return busy_s * (part if profile.plan.optimizer_steps is None else np.minimum(1.0, part))
