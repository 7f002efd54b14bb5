"""
Which method reaches the better quality, from published comparisons weighted by similarity and the rules of `prior`.

For each pair of methods the advantages of all comparisons that tried both form a weighted sample. A comparison
weighs less the further its domain, size, metric and schedule are from the situation, and comparisons of one source
weigh less together than apart, because they are correlated. The rule's expectation joins as a few pseudo-comparisons.
The share of weight above zero is P(better); the quantiles give the interval.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from trainfare_core.arrays import Column
from trainfare_core.methods.evidence import Evidence, evidence
from trainfare_core.methods.methods import METHODS, Method
from trainfare_core.methods.prior import FEW_SAMPLES, prior
from trainfare_core.methods.situation import Situation, modality_of, task_of

# The similarity weights below are chosen values, relative to 1 for a comparison just like the situation: larger values
# use more comparisons, smaller ones only those that are alike.
# `research/trainfare_research/runners/strategy.py` scores them together.
SAME_TASK: Final = 0.35
"""Another domain of the same kind of task."""
SAME_MODALITY: Final = 0.12
OTHER_MODALITY: Final = 0.05
OTHER_METRIC: Final = 0.5
"""A loss for a task score, or the reverse."""
UNLIKE_METRIC: Final = 0.03
"""
One metric measures what the model keeps (forgetting, shifted data), the other what it learns: often opposite signs.
"""
BOTH_CONSERVE: Final = 0.3
"""At least this where both metrics measure what the model keeps: such comparisons are few in any domain."""
SOURCE_POWER: Final = 0.67
"""All comparisons of one source together weigh their sum to this power, because they are correlated. Any power from
0.5 to 1 gives the same share of right winners."""
DECADES: Final = 0.65
"""Sizes this many powers of ten apart have the weight 1/e. Chosen: a factor of ten has 0.21."""
UNKNOWN_SIZE: Final = 0.4
"""Weight of a comparison whose size is not known: that of a size a factor of four apart."""
ACROSS_FEW: Final = 0.4
"""
Factor for a comparison on the other side of `FEW_SAMPLES`, where the sign of adapters against full fine-tuning
changes.
"""
UNKNOWN_SCHEDULE: Final = 0.5
"""Weight where one of two schedules from scratch is not known: that of a schedule 1.6 times as long or short."""
NEAR: Final = 0.1
"""Comparisons of at least this weight count as similar, in the number shown to the user."""

WIDENING: Final = 1.67
"""Factor on the half-widths of the intervals: fitted by `research/trainfare_research/fitting/strategy.py` so
that 80 % intervals contain 80 % of the outcomes of sources left out."""

_QUANTILES: Final = np.array([-1.64, -1.04, -0.67, -0.39, -0.13, 0.13, 0.39, 0.67, 1.04, 1.64])
"""Ten equally likely values of a standard normal."""


@dataclass(frozen=True, slots=True, eq=False)
class Advantage:
    """
    Distribution of the advantage of one method over another.

    Attributes:
        values_pct: 100 ln(ratio) of the metrics, distinct and ascending, shape (n,).
        weights: of the values, adding up to 1.
        analogs: number of similar comparisons.
        sources: of the similar comparisons.
        because: the rule that was added to them.
    """

    values_pct: Column
    weights: Column
    analogs: int
    sources: tuple[str, ...]
    because: str

    @property
    def p_better(self) -> float:
        """Chance that the method is better; a tie counts half to each."""
        above = float(self.weights[self.values_pct > _TIE_PCT].sum())
        tied = float(self.weights[np.abs(self.values_pct) <= _TIE_PCT].sum())
        return above + 0.5 * tied

    def quantile_pct(self, share: float, *, widening: float = WIDENING) -> float:
        """Return the quantile, its distance from the median times `widening`."""
        middle = self._quantile(0.5)
        return middle + widening * (self._quantile(share) - middle)

    def _quantile(self, share: float) -> float:
        at = np.cumsum(self.weights) - 0.5 * self.weights
        return float(np.interp(share, at, self.values_pct))


_TIE_PCT: Final = 1e-9
"""Advantages up to this are ties: the table has three decimals."""


def advantage(situation: Situation, method: Method, over: Method, known: Evidence | None = None) -> Advantage:
    """
    Return the advantage of `strategy` over `over`, as 100 ln(ratio) of the metric; positive is better.

    Args:
        situation: the question.
        method: the method that is judged.
        over: the method that it is compared with.
        known: comparisons; None takes the shipped ones.
    """
    rows = evidence() if known is None else known
    values = rows.advantage_of(method, over)
    tried = ~np.isnan(values)
    rows, values = rows.where(tried), values[tried]
    near = _nearness(situation, rows, {method, over})
    weights = near.copy()
    for source in np.unique(rows.source):
        mine = rows.source == source
        total = float(weights[mine].sum())
        weights[mine] *= total ** (SOURCE_POWER - 1.0) if total > 0 else 0.0
    rule = prior(situation, method, over)
    values = np.concatenate([values, rule.mean_pct + _QUANTILES * rule.deviation_pct])
    weights = np.concatenate([weights, np.full(len(_QUANTILES), rule.weight / len(_QUANTILES))])
    distinct, position = np.unique(values, return_inverse=True)
    analogs = near >= NEAR
    return Advantage(
        values_pct=distinct,
        weights=np.bincount(position, weights=weights) / weights.sum(),
        analogs=int(analogs.sum()),
        sources=tuple(sorted({str(name) for name in rows.source[analogs]})),
        because=rule.because,
    )


def _nearness(situation: Situation, rows: Evidence, pair: set[Method]) -> Column:
    """Return the similarity weight of each comparison, 0..1, shape (n,)."""
    near = _domain_nearness(situation, rows) * _metric_nearness(situation, rows)
    if situation.metric == "conserve":
        near = np.where(rows.kind == "conserve", np.maximum(near, BOTH_CONSERVE), near)
    adapters = [METHODS[strategy].trains == "adapters" for strategy in pair]
    if not all(adapters):
        near = near * _size_nearness(situation, rows, adapters=any(adapters))
    if not all(METHODS[strategy].needs_checkpoint for strategy in pair):
        near = near * _schedule_nearness(situation.scratch_epochs, rows.scratch_epochs)
    return near


def _domain_nearness(situation: Situation, rows: Evidence) -> Column:
    return np.array([_pair_of_domains(situation, name) for name in rows.domain.tolist()], dtype=np.float64)


def _pair_of_domains(situation: Situation, domain: str) -> float:
    if domain == situation.domain:
        return 1.0
    task = task_of(domain)
    if task == situation.task:
        return SAME_TASK
    return SAME_MODALITY if modality_of(task) == situation.modality else OTHER_MODALITY


def _metric_nearness(situation: Situation, rows: Evidence) -> Column:
    same = rows.kind == situation.metric
    unlike = (rows.kind == "conserve") | (situation.metric == "conserve")
    return np.where(same, 1.0, np.where(unlike, UNLIKE_METRIC, OTHER_METRIC))


def _size_nearness(situation: Situation, rows: Evidence, *, adapters: bool) -> Column:
    if situation.samples is None:
        return np.full(len(rows), UNKNOWN_SIZE)
    apart = np.abs(np.log10(rows.samples / situation.samples))
    near = np.where(np.isnan(apart), UNKNOWN_SIZE, np.exp(-apart / DECADES))
    across = (rows.samples <= FEW_SAMPLES) != (situation.samples <= FEW_SAMPLES)
    return np.where(across & ~np.isnan(apart) & adapters, near * ACROSS_FEW, near)


def _schedule_nearness(epochs: float | None, rows_epochs: Column) -> Column:
    if epochs is None:
        return np.where(np.isnan(rows_epochs), 1.0, UNKNOWN_SCHEDULE)
    apart = np.abs(np.log2(rows_epochs / epochs))
    return np.where(np.isnan(apart), UNKNOWN_SCHEDULE, np.exp(-apart))
