"""
Which method reaches the better quality, from published comparisons weighted by similarity and the rules of `prior`.

`data/strategy_evidence.csv` holds one row a comparison of methods that differ in nothing else: its source, model and
data set, and for each method tried its
advantage over full fine-tuning (or, where that was not tried, over LoRA) as 100 ln(ratio) of the metric, so that
positive is better and advantages subtract. It is written by `research/trainfare_research/fitting/strategy.py`;
of several runs of a method the best counts.

For each pair of methods the advantages of all comparisons that tried both form a weighted sample. A comparison
weighs less the further its domain, size, metric and schedule are from the situation, and comparisons of one source
weigh less together than apart, because they are correlated. The rule's expectation joins as a few pseudo-comparisons.
The share of weight above zero is P(better); the quantiles give the interval.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from trainfare_core.arrays import Column
from trainfare_core.documents import data_rows
from trainfare_core.methods.methods import METHOD_NAMES, METHODS, Method
from trainfare_core.methods.prior import CONSTANTS, ChoiceConstants, prior
from trainfare_core.methods.situation import Situation, metric_kind, modality_of, task_of

_TEXTS: Final = ("source", "domain", "dataset", "model", "metric")
_NUMBERS: Final = ("samples", "scratch_epochs", "scratch_step_ratio")
COLUMNS: Final = (*_TEXTS, *_NUMBERS)
"""Of the table, before one column a method and `published_in`. A method without a column was never compared."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """
    One published comparison.

    Attributes:
        source: id of the source; rows of one source are correlated.
        domain, dataset, model, metric: of the runs.
        samples: training samples, None where not stated.
        scratch_epochs: passes of the run from scratch, None where not stated or not tried.
        scratch_step_ratio: steps from scratch over steps of full fine-tuning, None where not stated.
        advantage_pct: of each method over the reference, 100 ln(ratio), positive is better.
        published_in: reference of the source.
    """

    source: str
    domain: str
    dataset: str
    model: str
    metric: str
    samples: float | None
    scratch_epochs: float | None
    scratch_step_ratio: float | None
    advantage_pct: dict[Method, float]
    published_in: str

    @property
    def situation(self) -> Situation:
        """The facts that were known before the comparison."""
        return Situation(
            domain=self.domain,
            offered=tuple(name for name in METHOD_NAMES if name in self.advantage_pct),
            samples=self.samples,
            metric=metric_kind(self.metric),
            scratch_epochs=self.scratch_epochs,
            scratch_step_ratio=self.scratch_step_ratio,
        )


@dataclass(frozen=True, slots=True)
class Evidence:
    """Comparisons as columns of shape (n,); NaN is "not stated" or "not tried"."""

    source: NDArray[np.str_]
    domain: NDArray[np.str_]
    kind: NDArray[np.str_]
    samples: Column
    scratch_epochs: Column
    advantage_pct: Column
    """Shape (n, methods), in the order of `METHOD_NAMES`."""

    def __len__(self) -> int:
        """Return the number of comparisons."""
        return len(self.source)

    @classmethod
    def of(cls, comparisons: Sequence[Comparison]) -> Evidence:
        """Put comparisons into columns."""
        advantage = [
            [row.advantage_pct.get(method, np.nan) for method in METHOD_NAMES] for row in comparisons
        ]
        return cls(
            source=np.array([row.source for row in comparisons], dtype=np.str_),
            domain=np.array([row.domain for row in comparisons], dtype=np.str_),
            kind=np.array([metric_kind(row.metric) for row in comparisons], dtype=np.str_),
            samples=np.array([row.samples for row in comparisons], dtype=np.float64),
            scratch_epochs=np.array([row.scratch_epochs for row in comparisons], dtype=np.float64),
            advantage_pct=np.array(advantage, dtype=np.float64).reshape(-1, len(METHOD_NAMES)),
        )

    def without(self, source: str) -> Evidence:
        """Return the comparisons of all other sources."""
        return self.where(self.source != source)

    def where(self, keep: NDArray[np.bool_]) -> Evidence:
        """Return the comparisons marked in `keep`, shape (n,)."""
        return Evidence(*(getattr(self, column.name)[keep] for column in fields(self)))

    def advantage_of(self, method: Method, over: Method) -> Column:
        """Return 100 ln(ratio) of one method over another, shape (n,); NaN where either was not tried."""
        first, second = METHOD_NAMES.index(method), METHOD_NAMES.index(over)
        return self.advantage_pct[:, first] - self.advantage_pct[:, second]


@functools.cache
def comparisons() -> tuple[Comparison, ...]:
    """Return the shipped comparisons, in the order of the file."""
    return tuple(_comparison(row) for row in data_rows("strategy_evidence.csv"))


@functools.cache
def evidence() -> Evidence:
    """Return the shipped comparisons as columns."""
    return Evidence.of(comparisons())


def _comparison(row: dict[str, str]) -> Comparison:
    cells: dict[str, Any] = {name: row[name] for name in (*_TEXTS, "published_in")}
    cells |= {name: float(row[name]) if row[name] else None for name in _NUMBERS}
    advantages: dict[Method, str] = {name: row.get(f"{name}_pct", "") for name in METHOD_NAMES}
    return Comparison(**cells, advantage_pct={name: float(cell) for name, cell in advantages.items() if cell})


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


def advantage(
    situation: Situation,
    method: Method,
    over: Method,
    known: Evidence | None = None,
    constants: ChoiceConstants = CONSTANTS,
) -> Advantage:
    """
    Return the advantage of `strategy` over `over`, as 100 ln(ratio) of the metric; positive is better.

    Args:
        situation: the question.
        method: the method that is judged.
        over: the method that it is compared with.
        known: comparisons; None takes the shipped ones.
        constants: weights of the comparisons, and the rules.
    """
    rows = evidence() if known is None else known
    values = rows.advantage_of(method, over)
    tried = ~np.isnan(values)
    rows, values = rows.where(tried), values[tried]
    near = _nearness(situation, rows, {method, over}, constants)
    _, source = np.unique(rows.source, return_inverse=True)
    total = np.bincount(source, weights=near)
    weights = near * np.maximum(total[source], np.finfo(np.float64).tiny) ** (constants.source_power - 1.0)
    rule = prior(situation, method, over, constants)
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


def _nearness(situation: Situation, rows: Evidence, pair: set[Method], constants: ChoiceConstants) -> Column:
    """Return the similarity weight of each comparison, 0..1, shape (n,)."""
    near = _domain_nearness(situation, rows, constants) * _metric_nearness(situation, rows, constants)
    if situation.metric == "conserve":
        near = np.where(rows.kind == "conserve", np.maximum(near, constants.both_conserve), near)
    adapters = [METHODS[strategy].trains == "adapters" for strategy in pair]
    if not all(adapters):
        near = near * _size_nearness(situation, rows, constants, adapters=any(adapters))
    if not all(METHODS[strategy].needs_checkpoint for strategy in pair):
        near = near * _schedule_nearness(situation.scratch_epochs, rows.scratch_epochs, constants)
    return near


def _domain_nearness(situation: Situation, rows: Evidence, constants: ChoiceConstants) -> Column:
    names, position = np.unique(rows.domain, return_inverse=True)
    near = [_pair_of_domains(situation, name, constants) for name in names.tolist()]
    return np.array(near, dtype=np.float64)[position]


def _pair_of_domains(situation: Situation, domain: str, constants: ChoiceConstants) -> float:
    if domain == situation.domain:
        return 1.0
    task = task_of(domain)
    if task == situation.task:
        return constants.same_task
    return constants.same_modality if modality_of(task) == situation.modality else constants.other_modality


def _metric_nearness(situation: Situation, rows: Evidence, constants: ChoiceConstants) -> Column:
    same = rows.kind == situation.metric
    unlike = (rows.kind == "conserve") | (situation.metric == "conserve")
    return np.where(same, 1.0, np.where(unlike, constants.unlike_metric, constants.other_metric))


def _size_nearness(
    situation: Situation, rows: Evidence, constants: ChoiceConstants, *, adapters: bool
) -> Column:
    if situation.samples is None:
        return np.full(len(rows), constants.unknown_size)
    apart = np.abs(np.log10(rows.samples / situation.samples))
    near = np.where(np.isnan(apart), constants.unknown_size, np.exp(-apart / constants.decades))
    across = (rows.samples <= constants.few_samples) != (situation.samples <= constants.few_samples)
    return np.where(across & ~np.isnan(apart) & adapters, near * constants.across_few, near)


def _schedule_nearness(epochs: float | None, rows_epochs: Column, constants: ChoiceConstants) -> Column:
    if epochs is None:
        return np.where(np.isnan(rows_epochs), 1.0, constants.unknown_schedule)
    apart = np.abs(np.log2(rows_epochs / epochs))
    return np.where(np.isnan(apart), constants.unknown_schedule, np.exp(-apart))
