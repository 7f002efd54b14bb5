"""
Pilots: strategies ranked by their values at the same step, and their final values with intervals.

On 45 public fine-tuning curves of one task and schedule, the order at the last common step was right in 95-99 % of
pairs, and curves fitted inside one run predicted its end worse than its last value did. So the final value is the
last value times the mean remaining drop of those curves, and their residuals give the interval. Across nested parts
of the data err = c + a n^-b is sampled, not fitted to a point.
"""

from __future__ import annotations

import csv
import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from statistics import NormalDist
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from trainfare_core.documents import Document, Record
from trainfare_core.errors import InputError
from trainfare_core.recommendation import Interval
from trainfare_core.strategy.curves import LearningCurve
from trainfare_core.strategy.draws import ReachedBy
from trainfare_core.strategy.strategies import STRATEGIES, STRATEGY_NAMES, Strategy

__all__ = [
    "Drop",
    "PilotLine",
    "PilotReport",
    "common_metric",
    "drops",
    "reached_by",
    "read_pilots",
    "sentences",
]

Column = NDArray[np.float64]

EARLIEST: Final = 0.2
"""Part of its schedule before which a run is not extrapolated: the scores of docs/strategy.md begin there."""
LATE_EARLIEST: Final = 0.5
"""The same, and before which it is not ranked, for a strategy that crosses the others late. Chosen."""
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
_Z80: Final = NormalDist().inv_cdf(0.9)
_SEED: Final = 20_261_124
"""Any fixed number: it makes equal curves give equal answers."""


@dataclass(frozen=True, slots=True)
class Drop:
    """Remaining change of a loss after part of a schedule: mean and central 80 % of ln(final / value so far)."""

    seen: float
    mean_log: float
    low_log: float
    high_log: float


class PilotLine(Record):
    """Result of one strategy's pilots."""

    strategy: Strategy
    runs: int
    value_at_common_step: float | None
    rank: int | None
    final: Interval | None
    steps_to_target: int | None
    cannot_tell: str | None
    notes: tuple[str, ...]


class PilotReport(Document):
    """All pilots of one job; `lines` is sorted by rank."""

    schema_version: Literal[1] = 1
    tool_version: str
    metric: str
    higher_is_better: bool
    common_step: int | None
    lines: tuple[PilotLine, ...]
    notes: tuple[str, ...]


@functools.cache
def drops() -> tuple[Drop, ...]:
    """Return the remaining drops of the public curves, by part of the schedule seen."""
    text = files("trainfare_core").joinpath("data/strategy_drops.csv").read_text(encoding="utf-8")
    return tuple(
        Drop(*(float(row[name]) for name in ("seen", "mean_log", "low_log", "high_log")))
        for row in csv.DictReader(text.splitlines())
    )


def drop_at(seen: float, table: Sequence[Drop]) -> Drop:
    """Return the drop that remains after a part of the schedule, interpolated in a table."""
    at = [one.seen for one in table]

    def between(values: list[float]) -> float:
        return float(np.interp(seen, [*at, 1.0], [*values, 0.0]))

    return Drop(
        seen,
        between([one.mean_log for one in table]),
        between([one.low_log for one in table]),
        between([one.high_log for one in table]),
    )


def read_pilots(
    curves: Mapping[Strategy, Sequence[LearningCurve]],
    *,
    metric: str | None,
    higher_is_better: bool,
    target_value: float | None = None,
    samples: float | None = None,
    tool_version: str = "",
) -> PilotReport:
    """
    Rank strategies by their pilots and predict their final values.

    Args:
        curves: by strategy.
        metric: as recorded; None takes the one that most curves have, validation before training loss.
        higher_is_better: of the metric.
        target_value: whose first step is reported.
        samples: of the whole data set, where the pilots used parts of it.
        tool_version: of trainfare.

    Raises:
        InputError: no curve, or none that has the metric.
    """
    everything = [curve for several in curves.values() for curve in several]
    name = _metric(everything, metric)
    best: dict[Strategy, LearningCurve] = {}
    for strategy, several in curves.items():
        best[strategy] = _chosen(several, name, higher_is_better)
    common = _common_step(list(best.values()), name)
    order = _order(best, name, common, higher_is_better=higher_is_better)
    lines = [
        _line(
            strategy,
            curves[strategy],
            best[strategy],
            name,
            order,
            higher_is_better,
            target_value,
            samples,
        )
        for strategy in STRATEGY_NAMES
        if strategy in best
    ]
    lines.sort(key=lambda line: (line.rank is None, line.rank or 0, STRATEGY_NAMES.index(line.strategy)))
    return PilotReport(
        tool_version=tool_version,
        metric=name,
        higher_is_better=higher_is_better,
        common_step=common,
        lines=tuple(lines),
        notes=_notes(best, name, common),
    )


def reached_by(report: PilotReport) -> dict[Strategy, ReachedBy]:
    """Return the predicted final values in the form of `draws`, without strategies that have none."""
    out: dict[Strategy, ReachedBy] = {}
    for line in report.lines:
        final = line.final
        if final is not None and final.mid > 0 and final.low_80 > 0:
            width = math.log(final.high_80 / final.low_80) / (2 * _Z80)
            out[line.strategy] = ReachedBy(math.log(final.mid), max(width, SEED_LOG_SIGMA))
    return out


def sentences(report: PilotReport) -> tuple[str, ...]:
    """Return the limits of the pilots, in sentences."""
    lines = [f"pilots: {note}" for note in report.notes]
    for line in report.lines:
        lines += [f"pilots: {line.strategy}: {line.cannot_tell}"] if line.cannot_tell else []
        lines += [f"pilots: {line.strategy}: {note}" for note in line.notes]
    return tuple(lines)


def common_metric(curves: Mapping[Strategy, Sequence[LearningCurve]]) -> str:
    """
    Return the metric that most curves recorded, validation before training loss.

    Raises:
        InputError: no curve, or none with a metric.
    """
    return _metric([curve for several in curves.values() for curve in several], None)


def _metric(curves: Sequence[LearningCurve], metric: str | None) -> str:
    if not curves:
        raise InputError("there is no pilot: give the curves that FareMeter wrote")
    counts: dict[str, int] = {}
    for curve in curves:
        for name in curve.metric_names():
            counts[name] = counts.get(name, 0) + 1
    if metric is not None:
        if metric not in counts:
            there = ", ".join(sorted(counts)) or "none"
            raise InputError(f"no pilot recorded {metric!r}; the metrics there are: {there}")
        return metric
    if not counts:
        raise InputError("no pilot recorded a loss or a metric")
    return min(counts, key=lambda name: (-counts[name], name == "train_loss", "loss" not in name, name))


def _chosen(several: Sequence[LearningCurve], name: str, higher: bool) -> LearningCurve:  # noqa: FBT001 - private
    """Return the run that stands for a strategy: most data, then most steps, then best value (its best rate)."""

    def key(curve: LearningCurve) -> tuple[float, float, float]:
        series = curve.series(name)
        value = series[-1][1] if series else -math.inf
        return (float(curve.train_samples or 0), float(curve.last_step), value if higher else -value)

    return max(several, key=key)


def _common_step(curves: Sequence[LearningCurve], name: str) -> int | None:
    """Return the last step that every curve has reached."""
    ends = [series[-1][0] for curve in curves if (series := curve.series(name))]
    return min(ends) if len(ends) == len(curves) and ends else None


def value_at(series: Sequence[tuple[int, float]], step: int) -> float | None:
    """Return the value at a step, linear between points; None before the first."""
    if not series or step < series[0][0]:
        return None
    return float(np.interp(step, [at for at, _ in series], [value for _, value in series]))


def _order(
    best: Mapping[Strategy, LearningCurve], name: str, common: int | None, *, higher_is_better: bool
) -> dict[Strategy, tuple[int, float]]:
    """Return each strategy's rank and value at the last common step; rank 0 is too early to rank."""
    if common is None:
        return {}
    values: dict[Strategy, float] = {}
    for strategy, curve in best.items():
        value = value_at(curve.series(name), common)
        if value is not None:
            values[strategy] = value
    ranked: list[Strategy] = [one for one in values if not _too_early(one, best[one])]
    ranked.sort(
        key=lambda one: (-values[one] if higher_is_better else values[one], STRATEGY_NAMES.index(one))
    )
    return {one: (ranked.index(one) + 1 if one in ranked else 0, value) for one, value in values.items()}


def _rate(curve: LearningCurve) -> float | None:
    """Return the peak of a run's learning rate."""
    return max((one.learning_rate for one in curve.points if one.learning_rate is not None), default=None)


def _too_early(strategy: Strategy, curve: LearningCurve) -> bool:
    return STRATEGIES[strategy].crosses_late and (curve.seen is None or curve.seen < LATE_EARLIEST)


def _line(
    strategy: Strategy,
    several: Sequence[LearningCurve],
    curve: LearningCurve,
    name: str,
    order: Mapping[Strategy, tuple[int, float]],
    higher: bool,  # noqa: FBT001 - private
    target: float | None,
    samples: float | None,
) -> PilotLine:
    series = curve.series(name)
    notes: list[str] = []
    if ill_behaved(series):
        notes.append("the curve has a peak or a dip: its interval is twice as wide")
    final, cannot = _final(strategy, several, curve, name, higher, samples)
    if final is not None and ill_behaved(series):
        final = _wider(final)
    rank, value = order.get(strategy, (0, None))
    if strategy in order and not rank:
        notes.append("scratch and fine-tuning cross late: it has no place before half of its schedule")
    if len({_rate(one) for one in several}) < 2:
        notes.append("one learning rate was tried: a strategy may do better at another")
    return PilotLine(
        strategy=strategy,
        runs=len(several),
        value_at_common_step=value,
        rank=rank or None,
        final=final,
        steps_to_target=None if target is None else steps_to(series, target, higher_is_better=higher),
        cannot_tell=cannot,
        notes=tuple(notes),
    )


def _final(
    strategy: Strategy,
    several: Sequence[LearningCurve],
    curve: LearningCurve,
    name: str,
    higher: bool,  # noqa: FBT001 - private
    samples: float | None,
) -> tuple[Interval | None, str | None]:
    """Return the final value on the whole data, or the reason for which there is no prediction."""
    series = curve.series(name)
    seen = curve.seen
    if not series:
        return None, f"{name} was not recorded"
    if seen is None:
        return None, "the length of its schedule is not known"
    if seen < EARLIEST or _too_early(strategy, curve):
        return None, f"it saw {seen:.0%} of its schedule: too early to predict its end"
    last = series[-1][1]
    ended = _ended(last, seen, higher=higher)
    if ended is None:
        return None, f"{name} is {last:.4g}: neither a positive loss nor a score between 0 and 1"
    part = None if samples is None or not curve.train_samples else samples / curve.train_samples
    if part is None or part <= SAME_SIZE:
        return ended, None
    if part > FARTHEST:
        return None, f"the data set is {part:,.0f} times larger than the pilot's part"
    return _across_parts(several, name, higher, samples or 0.0)


def _ended(last: float, seen: float, *, higher: bool) -> Interval | None:
    """Return the final value of a run: a loss by the usual drop, a score by its error without a drop."""
    if seen >= COMPLETE:
        drop = Drop(seen, 0.0, -_Z80 * SEED_LOG_SIGMA, _Z80 * SEED_LOG_SIGMA)
    else:
        drop = drop_at(seen, drops())
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
    several: Sequence[LearningCurve],
    name: str,
    higher: bool,  # noqa: FBT001 - private
    samples: float,
) -> tuple[Interval | None, str | None]:
    """Sample err = c + a n^-b through complete runs on nested parts of the data, at the size of the whole."""
    points: dict[float, float] = {}
    for curve in several:
        series = curve.series(name)
        if curve.train_samples and series and (curve.seen or 0.0) >= COMPLETE:
            error = 1 - series[-1][1] if higher else series[-1][1]
            size = float(curve.train_samples)
            points[size] = min(error, points.get(size, math.inf))
    if len(points) < 2:
        return None, "the pilots used a part of the data: complete runs on two or more parts are needed"
    sizes, errors = np.array(sorted(points)), np.array([points[size] for size in sorted(points)])
    if not np.all(errors > 0):
        return None, "an error of zero on a part of the data: nothing to extrapolate"
    errors_at_full_size = _power_draws(sizes, errors, samples)
    low, mid, high = (float(x) for x in np.quantile(errors_at_full_size, (0.1, 0.5, 0.9)))
    if higher:
        return Interval(mid=max(0.0, 1 - mid), low_80=max(0.0, 1 - high), high_80=max(0.0, 1 - low)), None
    return Interval(mid=mid, low_80=low, high_80=high), None


def _power_draws(sizes: Column, errors: Column, samples: float, draws: int = 2000) -> Column:
    """Return draws of the error at `samples`: b from its prior, a and c >= 0 by least squares given b."""
    random = np.random.default_rng(_SEED)
    exponents = np.clip(random.normal(*EXPONENT, draws), 0.05, 1.0)
    noisy = errors * np.exp(SEED_LOG_SIGMA * random.standard_normal((draws, len(errors))))
    out = np.empty(draws)
    for place, (exponent, row) in enumerate(zip(exponents, noisy, strict=True)):
        x = sizes**-exponent
        centred = x - x.mean()
        a = max(0.0, float((centred * row).sum() / (centred**2).sum()))
        c = float(row.mean() - a * x.mean())
        if c < 0:
            c, a = 0.0, float((x * row).sum() / (x**2).sum())
        out[place] = c + a * samples**-exponent
    return out


def steps_to(series: Sequence[tuple[int, float]], target: float, *, higher_is_better: bool) -> int | None:
    """
    Return the steps after which a metric first reaches a target, interpolated in ln(step) on its running best.

    Args:
        series: (step, value), by step.
        target: the value.
        higher_is_better: of the metric.

    Returns:
        None where it has not; a longer run may.
    """
    sign = 1.0 if higher_is_better else -1.0
    best = np.maximum.accumulate([sign * value for _, value in series]) if series else np.zeros(0)
    hits = np.flatnonzero(best >= sign * target)
    if not len(hits):
        return None
    first = int(hits[0])
    step = series[first][0]
    if first == 0 or best[first] == best[first - 1]:
        return step
    before = series[first - 1][0]
    share = (sign * target - best[first - 1]) / (best[first] - best[first - 1])
    return math.ceil(math.exp(math.log(before) + share * (math.log(step) - math.log(before))))


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


def _wider(value: Interval) -> Interval:
    return Interval(
        mid=value.mid,
        low_80=max(0.0, value.mid - 2 * (value.mid - value.low_80)),
        high_80=value.mid + 2 * (value.high_80 - value.mid),
    )


def _notes(best: Mapping[Strategy, LearningCurve], name: str, common: int | None) -> tuple[str, ...]:
    lines: list[str] = []
    plans = {curve.planned_steps for curve in best.values()}
    if common is None:
        lines.append(f"not every strategy's run recorded {name}: there is no common step to compare at")
    if len(plans) > 1:
        lines.append("the schedules differ in length: values at the same step are not of the same schedule")
    if name == "train_loss":
        lines.append("training loss, not validation: overfitting is not visible")
    if len(best) == 1:
        lines.append("only one strategy: there is no ranking")
    return tuple(lines)
