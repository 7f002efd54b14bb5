"""What interruptions do to runs on spot machines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from trainfare_core.arrays import Column
from trainfare_core.candidates import take
from trainfare_core.interruptions.hazard import HAZARDS
from trainfare_core.interruptions.process import SpotProcess
from trainfare_core.job_profile import JobProfile
from trainfare_core.run_cost.table import NOT_SPOT, S_PER_HOUR, RunTable

SPOT_WAIT_S: Final = 1_800.0
"""Mean wait until a pool that took a machine back has one again. No cloud publishes it: a planning figure. The machine
is not billed meanwhile."""

STARTUP_LOG_SIGMA: Final = 0.5
"""Standard deviation of ln(start-up time), a planning figure: four minutes mean two to eight (central 80 %)."""

LEAST_SAVE_S: Final = 300.0
"""Advice is never to save more often: an interruption that loses less work than this costs its restart and no more. A
chosen value, about the start-up of a machine."""


_FEWEST: Final = 1e-30
"""Keeps the rounding of each interruption finite where none is expected."""


def interruption_rates(hazard: NDArray[np.int64], machines: NDArray[np.int64]) -> Column:
    """
    Return how often a second runs are interrupted, one equally likely rate a column, shape (n, rates).

    Args:
        hazard: row of `HAZARDS`, or `NOT_SPOT`, of each run, shape (n,); the latter is never interrupted.
        machines: of each run, shape (n,); the loss of one stops them all.
    """
    rates = np.array([hazard.per_hour for hazard in HAZARDS]) / S_PER_HOUR
    return np.where((hazard == NOT_SPOT)[:, None], 0.0, rates[hazard] * machines[:, None])


def spot_process(profile: JobProfile, runs: RunTable) -> SpotProcess:
    """
    Return what interruptions do to runs on spot machines.

    Args:
        profile: the job.
        runs: all on spot machines, n rows.
    """
    busy_s = runs.training_s + runs.validation_s
    interval_s = _compute_checkpoint_interval_s(profile, runs, busy_s)
    with np.errstate(invalid="ignore", divide="ignore"):
        intervals = np.where(interval_s > 0, busy_s / interval_s, 0.0)
    return SpotProcess(
        rate_per_s=interruption_rates(runs.hazard, runs.machines),
        interval_s=interval_s,
        write_s=runs.write_s,
        restart_s=runs.restart_s,
        wait_s=SPOT_WAIT_S,
        intervals=intervals,
        step_log_sigma=runs.step_log_sigma,
    )


def add_interruptions(
    profile: JobProfile, calm: RunTable, spot: NDArray[np.int64], save_s: Column
) -> RunTable:
    """
    Add to the given rows what interruptions take on average.

    Args:
        profile: the job.
        calm: runs without interruptions, n rows.
        spot: rows of `calm` on spot machines.
        save_s: time to write a checkpoint, also where the run writes none, shape (n,).
    """
    runs = take(calm, spot)
    process = spot_process(profile, runs)
    with np.errstate(invalid="ignore", divide="ignore"):
        step_s = runs.training_s / runs.steps
        assumed = replace(process, write_s=save_s[spot])
        best_save_steps = np.maximum(1.0, np.maximum(assumed.best_interval_s, LEAST_SAVE_S) / step_s)
    changed = {
        "interruption_s": process.lost_s,
        "waiting_s": process.waited_s,
        "hours": runs.hours + process.lost_s / S_PER_HOUR,
        "interruptions": process.interruptions,
        "best_save_steps": best_save_steps,
    }
    return _put_rows(calm, spot, changed)


def add_ends(
    profile: JobProfile, runs: RunTable, spot: NDArray[np.int64], last_rounding_s: Column
) -> RunTable:
    """
    Add the distribution of hours and billed hours to runs on spot machines that get on; hours are then its median.

    Args:
        profile: the job.
        runs: with `add_interruptions` and what is billed beyond their time, n rows.
        spot: rows of `runs` on spot machines.
        last_rounding_s: of `runs.rounding_s`, what is not of interruptions, shape (n,).
    """
    rows = spot[runs.gets_on[spot]]
    some = take(runs, rows)
    each_rounding_s = (some.rounding_s - last_rounding_s[rows]) / np.maximum(some.interruptions, _FEWEST)
    ends = spot_process(profile, some).ends(
        some.startup_s + some.staging_s, STARTUP_LOG_SIGMA, last_rounding_s[rows], each_rounding_s
    )
    changed = {
        "hours": ends.find_hours(0.5),
        "billed_hours": ends.find_billed_hours(0.5, np.zeros(len(rows))),
        "ends_row": np.arange(len(rows)),
    }
    return replace(_put_rows(runs, rows, changed), ends=ends)


def _put_rows(runs: RunTable, rows: NDArray[np.int64], values: Mapping[str, NDArray[Any]]) -> RunTable:
    """Return runs with other values in the given rows of some columns."""
    columns: dict[str, Any] = {name: getattr(runs, name).copy() for name in values}
    for name, column in columns.items():
        column[rows] = values[name]
    return replace(runs, **columns)


def _compute_checkpoint_interval_s(profile: JobProfile, runs: RunTable, busy_s: Column) -> Column:
    """Return the seconds of work between checkpoints; a run that saves nothing is one interval."""
    part = runs.save_steps / np.maximum(runs.steps, 1.0)
    if profile.plan.optimizer_steps is not None:
        part = np.minimum(1.0, part)
    return busy_s * np.where(np.isnan(part), 1.0, part)
