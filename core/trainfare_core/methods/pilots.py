"""
Pilots: methods ranked by their values at the same step, with the final values that `pilot_ends` predicts.

On 45 public fine-tuning curves of one task and schedule, the order at the last common step was right in 95-99 % of
pairs.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from trainfare_core.documents import Document, Interval, Record
from trainfare_core.errors import InputError
from trainfare_core.methods.curves import LearningCurve
from trainfare_core.methods.draws import ReachedBy
from trainfare_core.methods.methods import METHOD_NAMES, Method
from trainfare_core.methods.pilot_ends import SEED_LOG_SIGMA, Z80, final_value, ill_behaved, too_early
from trainfare_core.methods.question import Question


class PilotLine(Record):
    """Result of one strategy's pilots."""

    strategy: Method
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


def read_pilots(
    curves: Mapping[Method, Sequence[LearningCurve]], question: Question, *, tool_version: str
) -> PilotReport:
    """
    Rank methods by their pilots and predict their final values.

    Args:
        curves: by method.
        question: the metric as recorded, its direction, the target whose first step is reported, and the size of the
            whole data set, where the pilots used parts of it.
        tool_version: of trainfare.

    Raises:
        InputError: no curve, or none that has the metric.
    """
    name, counts = question.metric, _metric_counts(curves)
    if name not in counts:
        there = ", ".join(sorted(counts)) or "none"
        raise InputError(f"no pilot recorded {name!r}; the metrics there are: {there}")
    best: dict[Method, LearningCurve] = {
        method: _choose_run(several, question) for method, several in curves.items()
    }
    common = _common_step(list(best.values()), name)
    order = _order(best, question, common)
    lines = [
        _build_line(method, curves[method], best[method], question, order)
        for method in METHOD_NAMES
        if method in best
    ]
    lines.sort(key=lambda line: (line.rank is None, line.rank or 0))
    return PilotReport(
        tool_version=tool_version,
        metric=name,
        higher_is_better=question.higher_is_better,
        common_step=common,
        lines=tuple(lines),
        notes=_write_notes(best, name, common),
    )


def predict_reached(report: PilotReport) -> dict[Method, ReachedBy]:
    """Return the predicted final values in the form of `draws`, without methods that have none."""
    out: dict[Method, ReachedBy] = {}
    for line in report.lines:
        final = line.final
        if final is not None and final.mid > 0 and final.low_80 > 0:
            width = math.log(final.high_80 / final.low_80) / (2 * Z80)
            out[line.strategy] = ReachedBy(math.log(final.mid), max(width, SEED_LOG_SIGMA))
    return out


def sentences(report: PilotReport) -> tuple[str, ...]:
    """Return the limits of the pilots, in sentences."""
    lines = list(report.notes)
    for line in report.lines:
        lines += [f"{line.strategy}: {line.cannot_tell}"] if line.cannot_tell else []
        lines += [f"{line.strategy}: {note}" for note in line.notes]
    return tuple(lines)


def common_metric(curves: Mapping[Method, Sequence[LearningCurve]]) -> str:
    """
    Return the metric that most curves recorded, validation before training loss.

    Raises:
        InputError: no curve, or none with a metric.
    """
    counts = _metric_counts(curves)
    if not counts:
        raise InputError("no pilot recorded a loss or a metric")
    return min(counts, key=lambda name: (-counts[name], name == "train_loss", "loss" not in name, name))


def _metric_counts(curves: Mapping[Method, Sequence[LearningCurve]]) -> Counter[str]:
    """Return how many curves recorded each metric."""
    if not curves:
        raise InputError("there is no pilot: give the curves that FareMeter wrote")
    return Counter(name for several in curves.values() for curve in several for name in curve.metric_names())


def _choose_run(runs: Sequence[LearningCurve], question: Question) -> LearningCurve:
    """Return the run that stands for a method: most data, then most steps, then best value (its best rate)."""
    sign = 1 if question.higher_is_better else -1

    def key(curve: LearningCurve) -> tuple[float, float, float]:
        series = curve.series(question.metric)
        return (
            float(curve.train_samples or 0),
            float(curve.last_step),
            sign * (series[-1][1] if series else -math.inf),
        )

    return max(runs, key=key)


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
    best: Mapping[Method, LearningCurve], question: Question, common: int | None
) -> dict[Method, tuple[int, float]]:
    """Return each strategy's rank and value at the last common step; rank 0 is too early to rank."""
    if common is None:
        return {}
    values: dict[Method, float] = {}
    for method, curve in best.items():
        value = value_at(curve.series(question.metric), common)
        if value is not None:
            values[method] = value
    ranked: list[Method] = [strategy for strategy in values if not too_early(strategy, best[strategy])]
    sign = -1 if question.higher_is_better else 1
    ranked.sort(key=lambda strategy: (sign * values[strategy], METHOD_NAMES.index(strategy)))
    return {
        strategy: (ranked.index(strategy) + 1 if strategy in ranked else 0, value)
        for strategy, value in values.items()
    }


def _rate(curve: LearningCurve) -> float | None:
    """Return the peak of a run's learning rate."""
    return max(
        (point.learning_rate for point in curve.points if point.learning_rate is not None), default=None
    )


def _build_line(
    method: Method,
    runs: Sequence[LearningCurve],
    chosen: LearningCurve,
    question: Question,
    order: Mapping[Method, tuple[int, float]],
) -> PilotLine:
    series, target = chosen.series(question.metric), question.target_value
    final, cannot_tell = final_value(method, runs, chosen, question)
    rank, value = order.get(method, (0, None))
    notes = (
        "the curve has a peak or a dip: its interval is twice as wide" if ill_behaved(series) else "",
        "its curve crosses those of the others late: it is not ranked before half of its schedule"
        if method in order and not rank
        else "",
        "one learning rate was tried: a strategy may do better at another"
        if len({_rate(run) for run in runs}) < 2
        else "",
    )
    return PilotLine(
        strategy=method,
        runs=len(runs),
        value_at_common_step=value,
        rank=rank or None,
        final=final,
        steps_to_target=None
        if target is None
        else steps_to(series, target, higher_is_better=question.higher_is_better),
        cannot_tell=cannot_tell,
        notes=tuple(note for note in notes if note),
    )


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


def _write_notes(best: Mapping[Method, LearningCurve], name: str, common: int | None) -> tuple[str, ...]:
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
