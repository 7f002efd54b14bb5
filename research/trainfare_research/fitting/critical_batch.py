"""
The critical batch of published workloads, and the prior of a workload that none of them is.

Each workload gives one critical batch: `E(B) = Emin (1 + B / Bc)` fitted to the logarithms of its samples, each batch
counted the same. The prior is a line through their logarithms by those of the samples and of the batch of the least
batch, which stand for the run that a user has. Its width is that of errors of workloads that were left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from scipy.optimize import minimize_scalar

from trainfare_core.arrays import Array
from trainfare_core.batch_scaling import BatchPrior, CriticalBatchFit, predict_critical_batch
from trainfare_core.batch_scaling.prior import BASE_BATCH, RUN_SAMPLES
from trainfare_research.truth_table import read_rows

TIMES: Final = (2, 4, 8, 16)
"""Ratios of batches that are judged."""
_NEAR: Final = 0.05
"""A batch counts as so many times the base within 5 %: 135,168 rows are 4.1 times 32,768. A chosen value."""
_SEARCH: Final = 12.0
"""ln of a factor by which a critical batch may be off the batches on either side: as good as none, or as nothing."""


@dataclass(frozen=True, slots=True)
class Curve:
    """Samples to a quality by batch of one workload, shape (batches,), batches rising."""

    workload: str
    batches: Array
    samples: Array

    @property
    def base_batch(self) -> float:
        """The least batch, which stands for a user's."""
        return float(self.batches[0])

    @property
    def run_samples(self) -> float:
        """Samples with the least batch."""
        return float(self.samples[0])

    def leave_out(self, index: int) -> Curve:
        """Return the curve without one batch."""
        return Curve(self.workload, np.delete(self.batches, index), np.delete(self.samples, index))


@dataclass(frozen=True, slots=True)
class Hyperbola:
    """`E(B) = Emin (1 + B / Bc)` of one workload."""

    least_samples: float
    critical_batch: float
    rms: float
    """Of ln(samples / fitted)."""

    def predict(self, batches: Array) -> Array:
        """Return samples to the quality."""
        return np.asarray(self.least_samples * (1 + batches / self.critical_batch))


@dataclass(frozen=True, slots=True)
class Observation:
    """What the prior is fitted to: batch and samples of the run with the least batch, and the critical batch."""

    base_batch: float
    run_samples: float
    critical_batch: float


@dataclass(frozen=True, slots=True)
class RatioScore:
    """A ratio of samples of one workload, as published and as a prior without it says."""

    workload: str
    times: float
    measured: float
    low: float
    median: float
    high: float

    @property
    def is_inside(self) -> bool:
        """Whether the 80 % interval holds it."""
        return self.low <= self.measured <= self.high

    @property
    def error(self) -> float:
        """Of the median, as a share of the measured ratio."""
        return abs(self.median / self.measured - 1)

    @property
    def width(self) -> float:
        """Upper over lower end."""
        return self.high / self.low

    def is_judged(self, times: Iterable[int] = TIMES) -> bool:
        """Whether the batch is one of these times the base."""
        return any(abs(self.times / one - 1) <= _NEAR for one in times)


@dataclass(frozen=True, slots=True)
class ScoreSummary:
    """Scores of ratios: how many, the share inside, and medians of error and, at 4 times the base, of width."""

    ratios: int
    inside: float
    median_error: float
    width_at_4: float


def read_curves(path: Path) -> list[Curve]:
    """Return the curves of a table of points, in its order."""
    rows = read_rows(path)
    curves = []
    for workload in dict.fromkeys(row["workload"] for row in rows):
        points = sorted(
            (float(row["batch"]), float(row["samples"])) for row in rows if row["workload"] == workload
        )
        batches, samples = np.array(points).T
        curves.append(Curve(workload, batches, samples))
    return curves


def fit_hyperbola(curve: Curve) -> Hyperbola:
    """
    Return the hyperbola of least squares in ln(samples).

    Example:
        >>> batches = np.array([128.0, 1024.0, 4096.0])
        >>> fitted = fit_hyperbola(Curve("made", batches, 5e6 * (1 + batches / 900)))
        >>> round(fitted.critical_batch), round(fitted.least_samples)
        (900, 5000000)
    """

    def logs_beyond(log_critical: float) -> Array:
        return np.asarray(np.log(curve.samples) - np.log1p(curve.batches / math.exp(log_critical)))

    ends = math.log(curve.batches[0]) - _SEARCH, math.log(curve.batches[-1]) + _SEARCH
    grid = np.linspace(*ends, 400)
    beyond = np.log(curve.samples) - np.log1p(curve.batches / np.exp(grid)[:, None])
    best = grid[int(np.argmin(beyond.var(axis=1)))]
    step = grid[1] - grid[0]
    found = minimize_scalar(
        lambda value: logs_beyond(value).var(), bounds=(best - step, best + step), method="bounded",
        options={"xatol": 1e-9},
    )  # fmt: skip
    logs = logs_beyond(float(found.x))
    return Hyperbola(math.exp(logs.mean()), math.exp(float(found.x)), float(logs.std()))


def predict_power_law(curve: Curve, batch: float) -> float:
    """Return samples at a batch by a line through the logarithms."""
    slope, constant = np.polyfit(np.log(curve.batches), np.log(curve.samples), 1)
    return float(math.exp(constant + slope * math.log(batch)))


def observe_critical_batch(curve: Curve) -> Observation:
    """Return what a workload adds to the prior."""
    return Observation(curve.base_batch, curve.run_samples, fit_hyperbola(curve).critical_batch)


def fit_prior(observed: Sequence[Observation], *, by_samples: bool) -> BatchPrior:
    """
    Return the line through ln(critical batch), with the root mean square error of workloads left out as its width.

    Args:
        observed: each workload counts the same.
        by_samples: whether the samples of the run are known.
    """
    errors = []
    for i, left_out in enumerate(observed):
        line = _fit_line([*observed[:i], *observed[i + 1 :]], by_samples=by_samples)
        errors.append(math.log(left_out.critical_batch) - float(_terms_of(left_out) @ line))
    constant, per_batch, per_samples = _fit_line(observed, by_samples=by_samples).tolist()
    return BatchPrior(
        constant=constant,
        per_log_base_batch=per_batch,
        per_log_run_samples=per_samples,
        log_sigma=float(np.sqrt(np.mean(np.square(errors)))),
    )


def _fit_line(observed: Sequence[Observation], *, by_samples: bool) -> Array:
    """Return constant and slopes by batch and samples, shape (3,)."""
    terms = np.array([_terms_of(one) for one in observed]) * (1.0, 1.0, float(by_samples))
    # The column of zeros without samples gets the slope of least norm, 0.
    return np.asarray(np.linalg.lstsq(terms, np.log([one.critical_batch for one in observed]), rcond=None)[0])


def _terms_of(one: Observation) -> Array:
    return np.array([1.0, math.log(one.base_batch / BASE_BATCH), math.log(one.run_samples / RUN_SAMPLES)])


def fit_critical_batches(observed: Sequence[Observation], date: str, digest: str) -> CriticalBatchFit:
    """
    Return what ships, rounded to what so few workloads can tell.

    Args:
        observed: workloads that are fitted.
        date: written into the file.
        digest: of the table.
    """
    with_samples, without_samples = (fit_prior(observed, by_samples=known) for known in (True, False))
    return CriticalBatchFit(
        fitted_at=date,
        data_sha256=digest,
        workloads=len(observed),
        with_samples=_round(with_samples),
        without_samples=_round(without_samples),
    )


def _round(prior: BatchPrior) -> BatchPrior:
    return BatchPrior(**{name: round(value, 2) + 0.0 for name, value in prior.model_dump().items()})


def score_curve(curve: Curve, fit: CriticalBatchFit, *, by_samples: bool = True) -> list[RatioScore]:
    """Return the scores of a workload's ratios up to 16 times its least batch, by a fit that has not seen it."""
    base = curve.base_batch
    critical = predict_critical_batch(curve.run_samples if by_samples else None, base, fit)
    ratio = critical.samples_ratio(base, curve.batches)
    return [
        RatioScore(
            curve.workload, float(curve.batches[i]) / base, float(curve.samples[i] / curve.samples[0]),
            float(ratio.low[i]), float(ratio.median[i]), float(ratio.high[i]),
        )
        for i in np.flatnonzero(ratio.is_known)[1:]
    ]  # fmt: skip


def score_left_out(curves: Sequence[Curve], *, by_samples: bool = True) -> list[RatioScore]:
    """Return the scores of each workload by a fit to the others."""
    scores: list[RatioScore] = []
    observed = [observe_critical_batch(curve) for curve in curves]
    for i, curve in enumerate(curves):
        others = [*observed[:i], *observed[i + 1 :]]
        scores += score_curve(curve, fit_critical_batches(others, "", ""), by_samples=by_samples)
    return scores


def summarize(scores: Sequence[RatioScore]) -> ScoreSummary:
    """Return the summary of some ratios; NaN of a width where none is at 4 times the base."""
    widths = [score.width for score in scores if score.is_judged((4,))]
    return ScoreSummary(
        ratios=len(scores),
        inside=float(np.mean([score.is_inside for score in scores])),
        median_error=float(np.median([score.error for score in scores])),
        width_at_4=float(np.median(widths)) if widths else math.nan,
    )


def miss_largest(curves: Sequence[Curve], predict: Callable[[Curve, float], float]) -> dict[str, float]:
    """Return, by workload of four batches or more, how far a fit without the largest batch misses its samples."""
    return {
        curve.workload: abs(predict(curve.leave_out(-1), float(curve.batches[-1])) / float(curve.samples[-1]) - 1)
        for curve in curves
        if len(curve.batches) > 3
    }  # fmt: skip


def predict_hyperbola(curve: Curve, batch: float) -> float:
    """Return samples at a batch by the hyperbola."""
    return float(fit_hyperbola(curve).predict(np.array(batch)))


def find_moves(curves: Sequence[Curve]) -> list[float]:
    """Return the largest |ln| change of each workload's critical batch when any one of its batches is left out."""
    return [
        max(
            abs(math.log(fit_hyperbola(curve.leave_out(i)).critical_batch / fit_hyperbola(curve).critical_batch))
            for i in range(len(curve.batches))
        )
        for curve in curves
        if len(curve.batches) > 3
    ]  # fmt: skip
