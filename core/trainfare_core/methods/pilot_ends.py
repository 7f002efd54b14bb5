"""
Final value of a pilot's metric, predicted from part of a schedule or from parts of the data.

On 45 public fine-tuning curves of one task and schedule, curves fitted inside one run predicted its end worse than its
last value did. So the final value is the last value times the mean remaining drop of those curves, and their residuals
give the interval. Across nested parts of the data err = c + a n^-b is sampled, not fitted to a point.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Final, NamedTuple

import numpy as np

from trainfare_core.arrays import Column
from trainfare_core.documents import Interval, data_rows
from trainfare_core.methods.curves import LearningCurve
from trainfare_core.methods.methods import METHODS, Method
from trainfare_core.methods.question import Question
from trainfare_core.number_format import percent

EARLIEST: Final = 0.2
"""Part of its schedule before which a run is not extrapolated: the scores of docs/method.md begin there."""
LATE_EARLIEST: Final = 0.5
"""The same, and before which it is not ranked, for a method that crosses the others late. Chosen."""
COMPLETE: Final = 0.98
"""Part of its schedule from which a run counts as complete: the last logged step is seldom the very last."""
SEED_LOG_SIGMA: Final = 0.01
"""Standard deviation of ln(final metric) between training seeds. Chosen, as `SEED_NOISE_PCT` in `draws`."""
FARTHEST: Final = 100.0
"""Largest factor between the data set and a pilot's part of it that is extrapolated: two decades. Chosen."""
SAME_SIZE: Final = 1.05
"""Factor up to which a pilot's data counts as the whole data set. Chosen: the law moves an error by 2 % over it."""
ILL_BEHAVED: Final = 0.2
"""A reversal of more than this part of the curve's range is a peak or a dip. Chosen; about one curve in seven has one
(LCDB 1.1)."""
EXPONENT: Final = (0.35, 0.12)
"""
Mean and standard deviation of b in err = c + a n^-b. Chosen about the data exponents of published laws (0.28 to
0.37).
"""
Z80: Final = NormalDist().inv_cdf(0.9)
_SEED: Final = 20_261_124
"""Any fixed number: it makes equal curves give equal answers."""


class Drop(NamedTuple):
    """Remaining change of a loss after part of a schedule: mean and central 80 % of ln(final / value so far)."""

    seen: float
    mean_log: float
    low_log: float
    high_log: float


@functools.cache
def drops() -> tuple[Drop, ...]:
    """Return the remaining drops of the public curves, by part of the schedule seen."""
    return tuple(
        Drop(*(float(row[name]) for name in Drop._fields)) for row in data_rows("strategy_drops.csv")
    )


def drop_at(seen: float, table: Sequence[Drop]) -> Drop:
    """Return the drop that remains after a part of the schedule, interpolated in a table."""
    seens, *logs = zip(*table, strict=True)
    return Drop(seen, *(float(np.interp(seen, [*seens, 1.0], [*values, 0.0])) for values in logs))


def too_early(method: Method, curve: LearningCurve) -> bool:
    """Whether a run of a method that crosses the others late is too short to be ranked."""
    return METHODS[method].crosses_late and (curve.seen is None or curve.seen < LATE_EARLIEST)


def final_value(
    method: Method, runs: Sequence[LearningCurve], chosen: LearningCurve, question: Question
) -> tuple[Interval | None, str | None]:
    """
    Return the final value on the whole data, or the reason for which there is no prediction.

    Args:
        method: of the runs.
        runs: all pilots of the method.
        chosen: the run that stands for the method, one of `runs`.
        question: metric, as recorded, and size of the whole data.
    """
    series, seen = chosen.series(question.metric), chosen.seen
    if not series:
        return None, f"{question.metric} was not recorded"
    if seen is None:
        return None, "the length of its schedule is not known"
    if seen < EARLIEST or too_early(method, chosen):
        return None, f"it ran {percent(seen)} of its schedule: too early to predict its end"
    last = series[-1][1]
    final, reason = _estimate_end(last, seen, higher=question.higher_is_better), None
    if final is None:
        return None, f"{question.metric} is {last:.4g}: neither a positive loss nor a score between 0 and 1"
    if question.samples is not None and chosen.train_samples:
        larger = question.samples / chosen.train_samples
        if larger > FARTHEST:
            return None, f"the data set is {larger:,.0f} times larger than the pilot's part"
        if larger > SAME_SIZE:
            final, reason = _across_parts(runs, question, question.samples)
    if final is not None and ill_behaved(series):
        final = _twice_as_wide(final)
    return final, reason


def _estimate_end(last: float, seen: float, *, higher: bool) -> Interval | None:
    """Return the final value of a run: a loss by the usual drop, a score by its error without a drop."""
    half_width = Z80 * SEED_LOG_SIGMA
    drop = Drop(seen, 0.0, -half_width, half_width) if seen >= COMPLETE else drop_at(seen, drops())
    if not higher and last > 0:
        return _around(last, drop)
    if higher and 0 < last < 1:
        # The public curves have no scores: the last value is kept, with the spread of the losses.
        spread = Drop(seen, 0.0, drop.low_log - drop.mean_log, drop.high_log - drop.mean_log)
        error = _around(1 - last, spread)
        return Interval(mid=1 - error.mid, low_80=max(0.0, 1 - error.high_80), high_80=1 - error.low_80)
    return None


def _around(value: float, drop: Drop) -> Interval:
    low, mid, high = (value * math.exp(log) for log in (drop.low_log, drop.mean_log, drop.high_log))
    return Interval(mid=mid, low_80=min(low, mid), high_80=max(high, mid))


def _across_parts(
    runs: Sequence[LearningCurve], question: Question, samples: float
) -> tuple[Interval | None, str | None]:
    """Sample err = c + a n^-b through complete runs on nested parts of the data, at the size of the whole."""
    points: dict[float, float] = {}
    for curve in runs:
        series = curve.series(question.metric)
        if curve.train_samples and series and (curve.seen or 0.0) >= COMPLETE:
            error = 1 - series[-1][1] if question.higher_is_better else series[-1][1]
            size = float(curve.train_samples)
            points[size] = min(error, points.get(size, math.inf))
    if len(points) < 2:
        return None, "the pilots used a part of the data: complete runs on two or more parts are needed"
    sizes, errors = np.array(sorted(points)), np.array([points[size] for size in sorted(points)])
    if not np.all(errors > 0):
        return None, "an error of zero on a part of the data: nothing to extrapolate"
    errors_at_full_size = _power_draws(sizes, errors, samples)
    low, mid, high = (float(x) for x in np.quantile(errors_at_full_size, (0.1, 0.5, 0.9)))
    if question.higher_is_better:
        return Interval(mid=max(0.0, 1 - mid), low_80=max(0.0, 1 - high), high_80=max(0.0, 1 - low)), None
    return Interval(mid=mid, low_80=low, high_80=high), None


def _power_draws(sizes: Column, errors: Column, samples: float, draws: int = 2000) -> Column:
    """Return draws of the error at `samples`: b from its prior, a and c >= 0 by least squares given b."""
    random = np.random.default_rng(_SEED)
    exponents = np.clip(random.normal(*EXPONENT, draws), 0.05, 1.0)
    noisy = errors * np.exp(SEED_LOG_SIGMA * random.standard_normal((draws, len(errors))))
    x: Column = sizes ** -exponents[:, np.newaxis]
    centred = x - x.mean(axis=1, keepdims=True)
    slope: Column = np.maximum(0.0, (centred * noisy).sum(axis=1) / (centred**2).sum(axis=1))
    c: Column = noisy.mean(axis=1) - slope * x.mean(axis=1)
    through_zero: Column = (x * noisy).sum(axis=1) / (x**2).sum(axis=1)
    a: Column = np.where(c < 0, through_zero, slope)
    return np.maximum(c, 0.0) + a * samples**-exponents


def ill_behaved(series: Sequence[tuple[int, float]]) -> bool:
    """Whether a curve, smoothed over three points, reverses by more than `ILL_BEHAVED` of its range."""
    values = np.array([value for _, value in series])
    if len(values) < 5:
        return False
    smooth = np.convolve(values, np.full(3, 1 / 3), mode="valid")
    whole = float(smooth.max() - smooth.min())
    if whole <= 0:
        return False
    rises = float((smooth - np.minimum.accumulate(smooth)).max())
    falls = float((np.maximum.accumulate(smooth) - smooth).max())
    return min(rises, falls) > ILL_BEHAVED * whole


def _twice_as_wide(value: Interval) -> Interval:
    return Interval(
        mid=value.mid,
        low_80=max(0.0, value.mid - 2 * (value.mid - value.low_80)),
        high_80=value.mid + 2 * (value.high_80 - value.mid),
    )
