"""
What the runs of a project say of its next one: `EarlierRuns`, by which predictions are corrected.

The error of a run's step on the accelerators of one die is y = ln(measured / predicted). With the published standard
deviations S of a prediction and R from run to run, B = S^2 - R^2, two runs i and j have

    cov(y_i, y_j) = c^2 B share(i, j) + [i = j] (r^2 + e_i^2)        share = 1 of one job, p + (1 - p) m of one model,
                                                                     p of other models

around a mean of 0, so that every run shrinks towards no error at all. How large the project's biases are (c), how far
they agree (p, m) and how far its runs scatter (r) are not known: `GRID` holds what they may be, each point counts by
its prior and by the likelihood of the runs, and the answer is mean and variance of that mixture. So noise is not taken
for a bias, nor a bias for noise. e_i is the standard error of the median of a run's steps: 1.25 s / sqrt(n), with their
scatter s (Kendall and Stuart, The Advanced Theory of Statistics 1, 14.7: sqrt(pi / 2) for normal steps).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from trainfare_core.arrays import Array
from trainfare_core.errors import UnknownNameError
from trainfare_core.hardware.accelerators import accelerator
from trainfare_core.hardware.earlier_runs import EarlierRuns
from trainfare_core.job_profile import JobProfile
from trainfare_core.ledger.run_record import (
    RunRecord,
    identify_job,
    identify_weights,
    keep_last_sessions,
)
from trainfare_core.prediction.roofline.coefficients import calibration
from trainfare_core.prediction.source import LIMITS, get_measured_compute_s, source_device
from trainfare_core.prediction.uncertainty import Z80

LEAST_STEPS: Final = 10
"""Measured steps from which a run counts: the first of a run warm up. A chosen value."""
MOST_RUNS: Final = 50
"""Of one die, the newest that count: software and predictions of long ago were others. A chosen value."""
MOST_WAIT: Final = 0.1
"""Wait for data as a share of the step up to which a run counts: a device that idles longer has other clocks, and may
have worked through a part of the wait, so that its own time is not known. A chosen value."""
OUTLIER_RUNS: Final = 4
"""Runs of one job from which one that is far from their median is clipped. A chosen value: of three, one is a third."""
_OUTLIER: Final = 3.0
"""Robust standard deviations from the median at which a run is clipped: the usual bound."""
_MAD: Final = 1.4826
"""Standard deviation of normal values over their median absolute deviation."""
_MEDIAN: Final = math.sqrt(math.pi / 2)
_SIGNIFICANT: Final = 6
"""Digits kept: the last bits of exp() differ between processors."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a run trained; "" is like no other."""

    job: str
    """Fingerprint of its step."""
    model: str = ""
    """Fingerprint of its weights and optimizer, the same at any batch."""


@dataclass(frozen=True, slots=True)
class MeasuredRun:
    """The step of one run beside its prediction."""

    run_id: str
    work: Work
    accelerator: str
    log_error: float
    """ln(measured / predicted) of the device, without its wait for data."""
    published_log_sigma: float
    """Of the prediction: from its 80 % interval."""
    median_log_sigma: float = 0.0
    """Standard error of the measured median, from the percentiles of the steps; 0 where they are not known."""


@dataclass(frozen=True, slots=True)
class Grid:
    """What may be true of a project: c, p, m, and r over the published R; each of shape (points,), as `log_prior`."""

    bias: Array
    shared: Array
    of_model: Array
    run: Array
    log_prior: Array

    @classmethod
    def make(cls) -> Grid:
        """Return every combination, with its prior; chosen values, see research/docs/earlier-runs.md."""
        axes = np.meshgrid(
            (0.5, 0.75, 1.0, 1.4, 2.0, 2.8),
            (0.05, 0.15, 0.4, 0.7),
            (0.0, 0.25, 0.5, 0.75),
            (0.4, 0.75, 1.25, 2.0, 3.0, 4.25, 6.0),
            indexing="ij",
        )
        bias, shared, of_model, run = (axis.ravel() for axis in axes)
        squares = (
            (np.log(bias) / 0.45) ** 2
            + ((shared - 0.12) / 0.25) ** 2
            + ((of_model - 0.5) / 0.25) ** 2
            + (np.log(run) / 0.7) ** 2
        )
        return cls(bias, shared, of_model, run, -squares / 2)


GRID: Final = Grid.make()
"""The combinations that every correction weighs."""


def correct_step(runs: Sequence[MeasuredRun], work: Work, silicon: str, run_log_sigma: float) -> EarlierRuns:
    """
    Return what runs of a project on the accelerators of one die say of a job there.

    >>> run = MeasuredRun("a", Work("job", "model"), "L40S-48GB", 0.2, 0.25)
    >>> correct_step([run], Work("job", "model"), "AD102", 0.08).describe()
    'corrected by +17 % from 1 run of this project on L40S-48GB; `--no-ledger` without'
    >>> correct_step([run], Work("other", "other"), "AD102", 0.08).describe()
    'corrected by +3 % from 1 run of this project on L40S-48GB; `--no-ledger` without'

    Args:
        runs: on that die, oldest first; at least one.
        work: what is predicted.
        silicon: the die.
        run_log_sigma: published standard deviation of ln(step) from run to run of one job.
    """
    published = math.sqrt(np.mean([run.published_log_sigma**2 for run in runs]))
    bias_variance = max(published**2 - run_log_sigma**2, 0.0)
    error = _clip([run.work.job for run in runs], np.array([run.log_error for run in runs]), run_log_sigma)
    median_variance = np.diag([run.median_log_sigma**2 for run in runs])
    works = [*(run.work for run in runs), work]
    # An older record has no model; a newer one of the same job names it.
    model_of = {work.job: work.model for work in works if work.job and work.model}
    models = [model_of.get(work.job, work.model) for work in works]
    same_job = np.eye(len(works), dtype=bool) | [[a.job == b.job != "" for b in works] for a in works]
    same_model = same_job | [[a == b != "" for b in models] for a in models]
    shared, of_model, variance = (
        column[:, None, None] for column in (GRID.shared, GRID.of_model, bias_variance * GRID.bias**2)
    )
    share = np.where(same_job, 1.0, shared + (1 - shared) * of_model * same_model)
    between, count = variance * share, len(runs)
    run_variance = (run_log_sigma * GRID.run) ** 2
    covariance = between[:, :count, :count] + run_variance[:, None, None] * np.eye(count) + median_variance
    to_work = between[:, :count, count]
    sides = np.stack([to_work, np.broadcast_to(error, to_work.shape)], axis=-1)
    weights, fit = np.moveaxis(np.linalg.solve(covariance, sides), -1, 0)
    log_weight = GRID.log_prior - (fit @ error + np.linalg.slogdet(covariance)[1]) / 2
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    means = weights @ error
    mean = float(weight @ means)
    of_bias = between[:, count, count] - np.sum(weights * to_work, axis=1) + (means - mean) ** 2
    return EarlierRuns(
        silicon=silicon,
        accelerators=tuple(sorted({run.accelerator for run in runs})),
        runs=tuple(run.run_id for run in runs),
        factor=_round(math.exp(mean)),
        log_sigma=_round(math.sqrt(weight @ of_bias)),
        shared_log_sigma=_round(math.sqrt(bias_variance)),
        published_log_sigma=_round(published),
        least_log_sigma=_round(math.sqrt(weight @ run_variance)),
    )


def read_run(record: RunRecord) -> MeasuredRun | None:
    """
    Return the step of a run beside its prediction; None where it was not predicted, or its device's time is not known.

    A prediction that was made before the run may be corrected by earlier ones, and of another plan: its trace is not.
    A step on several machines has their network and the slowest of them in it, and one that waited for data its loader.
    """
    predicted, step_s, wait_s = record.prediction.traced_step_s, record.step_s.measured, _find_wait_s(record)
    if predicted is None and record.prediction.made == "after":
        predicted = record.step_s.predicted
    if predicted is None or not step_s or wait_s is None or wait_s > MOST_WAIT * step_s:
        return None
    if record.steps_measured < LEAST_STEPS or record.machine.nodes not in (None, 1):
        return None
    if not 0 < predicted.low_80 < predicted.high_80:
        return None
    spread = _log_sigma(record.step_p10_s, record.step_p90_s)
    return MeasuredRun(
        run_id=record.run_id,
        work=Work(record.job_fingerprint, record.model_fingerprint),
        accelerator=record.machine.accelerator,
        log_error=math.log((step_s - wait_s) / (record.work_ratio or 1.0) / predicted.mid),
        published_log_sigma=_log_sigma(predicted.low_80, predicted.high_80),
        median_log_sigma=_MEDIAN * spread / math.sqrt(record.steps_measured),
    )


def _find_wait_s(record: RunRecord) -> float | None:
    """Return the wait for data of a measured step, seconds; None where an earlier version did not keep it."""
    if record.step_wait_s is not None:
        return record.step_wait_s
    if record.parts.data_wait_s is not None:
        # The wait is of this session, and the number of its own steps is not known where it was resumed.
        whole = record.steps_done and not record.earlier_s
        return record.parts.data_wait_s / record.steps_done if whole else None  # type: ignore[operator]
    # An import by an earlier version kept no wait; of a metered run without one, the loop has no loader.
    return None if record.started_at == record.ended_at else 0.0


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
    work, run_log_sigma = (
        Work(identify_job(profile), identify_weights(profile)),
        calibration().sigma.same_device,
    )
    return tuple(
        correct_step(runs[-MOST_RUNS:], work, silicon, run_log_sigma)
        for silicon, runs in sorted(by_silicon.items())
    )


def _clip(jobs: Sequence[str], errors: Array, run_log_sigma: float) -> Array:
    """Return errors within `LIMITS`, beyond which something else was measured, and near the median of their job."""
    clipped = np.clip(errors, *np.log(LIMITS))
    for job in set(jobs) - {""}:
        of_job = np.array([other == job for other in jobs])
        if of_job.sum() >= OUTLIER_RUNS:
            median = np.median(clipped[of_job])
            allowed = _OUTLIER * max(_MAD * np.median(np.abs(clipped[of_job] - median)), run_log_sigma)
            clipped[of_job] = np.clip(clipped[of_job], median - allowed, median + allowed)
    return clipped


def _log_sigma(low: float | None, high: float | None) -> float:
    return math.log(high / low) / (2 * Z80) if low and high else 0.0


def _round(value: float) -> float:
    return float(f"{value:.{_SIGNIFICANT}g}")
