"""
What the runs of a project say of its next one: `EarlierRuns`, by which predictions are corrected.

The error of a run's step is y = ln(measured / predicted). With a published standard deviation S (the interval that the
prediction had) and R from run to run of one job,

    y = project + job + run        variances  share (S^2 - R^2),  (1 - share) (S^2 - R^2),  R^2

on the accelerators of one die. All are normal with mean 0, so that every run shrinks towards no error at all: the other
jobs of the project update the project's part, and the runs of the job itself then update project + job. The variance
between jobs and that between runs are the published ones, updated by what the project's own runs scatter. Where single
steps scatter more within the runs than published runs from each other, R begins with that.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from trainfare_core.errors import UnknownNameError
from trainfare_core.hardware.accelerators import accelerator
from trainfare_core.hardware.earlier_runs import EarlierRuns
from trainfare_core.job_profile import JobProfile
from trainfare_core.ledger.run_record import RunRecord, identify_job, keep_last_sessions
from trainfare_core.prediction.roofline.coefficients import calibration
from trainfare_core.prediction.source import LIMITS, get_measured_compute_s, source_device
from trainfare_core.prediction.uncertainty import Z80

PROJECT_SHARE: Final = 0.4
"""Of the variance of ln(measured / predicted), what the jobs of a project share on one die: 0.47 where the steps of one
model and trainer are a project (`python -m trainfare_research.runners.ledger_replay`); chosen a little lower, since one
can be of several models."""
PRIOR_RUNS: Final = 4
"""Runs that a published scatter counts as, beside a project's own: one of five has its own say. A chosen value."""
LEAST_STEPS: Final = 10
"""Measured steps from which a run counts: the first of a run warm up. A chosen value."""
MOST_RUNS: Final = 50
"""Of one die, the newest that count: software and predictions of long ago were others. A chosen value."""
_SIGNIFICANT: Final = 6
"""Digits kept: the last bits of exp() differ between processors."""


@dataclass(frozen=True, slots=True)
class MeasuredRun:
    """The step of one run beside its prediction."""

    run_id: str
    job: str
    """Fingerprint; "" is like no other job."""
    accelerator: str
    log_error: float
    """ln(measured / predicted)."""
    published_log_sigma: float
    """Of the prediction: from its 80 % interval."""
    spread_log_sigma: float
    """Of single steps within the run, from their percentiles; 0 where they are not known."""


def correct_step(runs: Sequence[MeasuredRun], job: str, silicon: str, run_log_sigma: float) -> EarlierRuns:
    """
    Return what runs of a project on the accelerators of one die say of a job there.

    >>> run = MeasuredRun("a", "job", "L40S-48GB", 0.2, 0.25, 0.0)
    >>> correct_step([run], "job", "AD102", 0.08).describe()
    'corrected by +20 % from 1 run of this project on L40S-48GB; `--no-ledger` without'
    >>> correct_step([run], "other", "AD102", 0.08).describe()
    'corrected by +7 % from 1 run of this project on L40S-48GB; `--no-ledger` without'

    Args:
        runs: on that die, oldest first; at least one.
        job: fingerprint of the job that is predicted.
        silicon: the die.
        run_log_sigma: published standard deviation of ln(step) from run to run of one job.
    """
    jobs: dict[str, list[MeasuredRun]] = {}
    for run in runs:
        jobs.setdefault(run.job or run.run_id, []).append(run)
    spread_variance = max(run_log_sigma**2, float(np.mean([run.spread_log_sigma**2 for run in runs])))
    squares = sum(len(group) * float(np.var([_clip(run) for run in group])) for group in jobs.values())
    run_variance = _pool_variance(spread_variance, squares, len(runs) - len(jobs))
    published = math.sqrt(np.mean([run.published_log_sigma**2 for run in runs]))
    least_variance = max(run_variance, spread_variance)
    # Runs that scatter as widely as their predictions are sure of say nothing, but that no interval is narrower.
    shared_variance = max(published**2 - least_variance, 0.0)
    steps = {
        name: (float(np.mean([_clip(run) for run in group])), run_variance / len(group))
        for name, group in jobs.items()
    }
    between = len(steps) * float(np.var([mean for mean, _ in steps.values()]))
    noise = (len(steps) - 1) * float(np.mean([variance for _, variance in steps.values()]))
    job_variance = _pool_variance(
        (1 - PROJECT_SHARE) * shared_variance, max(between - noise, 0.0), len(steps) - 1
    )
    error, error_variance = 0.0, PROJECT_SHARE * shared_variance
    for name, (mean, variance) in steps.items():
        if name != job:
            error, error_variance = _update(error, error_variance, mean, job_variance + variance)
    error_variance += job_variance
    if own := steps.get(job):
        error, error_variance = _update(error, error_variance, *own)
    return EarlierRuns(
        silicon=silicon,
        accelerators=tuple(sorted({run.accelerator for run in runs})),
        runs=tuple(run.run_id for run in runs),
        factor=_round(math.exp(error)),
        log_sigma=_round(math.sqrt(error_variance)),
        shared_log_sigma=_round(math.sqrt(shared_variance)),
        published_log_sigma=_round(published),
        least_log_sigma=_round(math.sqrt(least_variance)),
    )


def read_run(record: RunRecord) -> MeasuredRun | None:
    """
    Return the step of a run beside its prediction; None where it was not predicted, or hardly measured.

    A prediction that was made before the run may be corrected by earlier ones, and of another plan: its trace is not.
    """
    predicted, measured = record.prediction.traced_step_s, record.step_s.measured
    if predicted is None and record.prediction.made == "after":
        predicted = record.step_s.predicted
    if predicted is None or not measured or record.steps_measured < LEAST_STEPS:
        return None
    if not 0 < predicted.low_80 < predicted.high_80:
        return None
    return MeasuredRun(
        run_id=record.run_id,
        job=record.job_fingerprint,
        accelerator=record.machine.accelerator,
        log_error=math.log(measured / predicted.mid),
        published_log_sigma=_log_sigma(predicted.low_80, predicted.high_80),
        spread_log_sigma=_log_sigma(record.step_p10_s, record.step_p90_s),
    )


def choose_earlier_runs(profile: JobProfile, records: Iterable[RunRecord]) -> tuple[EarlierRuns, ...]:
    """
    Return what the runs of a job's project say of it, one entry a die, in the order of their names.

    Nothing where a step of the job itself was measured on an accelerator: it corrects the prediction already, and may
    be of one of these runs.

    Args:
        profile: the job.
        records: of its project, in any order.
    """
    is_measured = source_device(profile) is not None and get_measured_compute_s(profile) is not None
    if is_measured and profile.parallel.world_size == 1:
        return ()
    by_silicon: dict[str, list[MeasuredRun]] = {}
    measured = (record for record in records if read_run(record))
    for record in keep_last_sessions(measured):  # a resumed run counts once
        if run := read_run(record):
            try:
                silicon = accelerator(run.accelerator).silicon
            except UnknownNameError:  # a CPU, or a device of another version's catalogue
                continue
            by_silicon.setdefault(silicon, []).append(run)
    job, run_log_sigma = identify_job(profile), calibration().sigma.same_device
    return tuple(
        correct_step(runs[-MOST_RUNS:], job, silicon, run_log_sigma)
        for silicon, runs in sorted(by_silicon.items())
    )


def _update(mean: float, variance: float, value: float, value_variance: float) -> tuple[float, float]:
    """Return mean and variance of a normal distribution after one measurement of it, whose error has a variance."""
    weight = variance / (variance + value_variance)
    return mean + weight * (value - mean), variance * (1 - weight)


def _pool_variance(published: float, squares: float, freedom: int) -> float:
    """Return a published variance, which counts as `PRIOR_RUNS`, updated by a sum of squares."""
    return (PRIOR_RUNS * published + squares) / (PRIOR_RUNS + freedom)


def _clip(run: MeasuredRun) -> float:
    """Return the error of a run; one outside of `LIMITS` means that something else was measured."""
    return min(max(run.log_error, math.log(LIMITS[0])), math.log(LIMITS[1]))


def _log_sigma(low: float | None, high: float | None) -> float:
    return math.log(high / low) / (2 * Z80) if low and high else 0.0


def _round(value: float) -> float:
    return float(f"{value:.{_SIGNIFICANT}g}")
