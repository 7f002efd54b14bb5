"""
Published comparisons of methods that differ in nothing else.

`data/strategy_evidence.csv` holds one row a comparison: its source, model and data set, and for each method tried its
advantage over full fine-tuning (or, where that was not tried, over LoRA) as 100 ln(ratio) of the metric, so that
positive is better and advantages subtract. It is written by `research/trainfare_research/fitting/strategy.py`;
of several runs of a method the best counts.
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
from trainfare_core.methods.methods import METHOD_NAMES, Method
from trainfare_core.methods.situation import Situation, metric_kind

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
