"""Which of a machine's plans is run (between stages 4 and 5)."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainfare_core.candidates import CandidateTable
from trainfare_core.prediction.table import PredictionTable
from trainfare_core.prediction.uncertainty import Z80

__all__ = ["WORTH_CHANGING", "best_plans", "quantised"]

Column = NDArray[np.float64]
Rows = NDArray[np.int64]

WORTH_CHANGING: Final = 0.9
"""Part of a plan's step time that another one must not exceed to be worth a change: below 10 % the prediction cannot
tell plans apart. A chosen value."""

_SIGNIFICANT: Final = 10
"""Digits of a time that are kept: the last bits of exp() differ between processors and would change ties."""


def quantised(values: Column) -> Column:
    """Return times rounded to ten significant digits."""
    with np.errstate(divide="ignore"):
        scale = 10.0 ** (_SIGNIFICANT - 1 - np.floor(np.log10(np.where(values > 0, values, 1.0))))
    return np.round(values * scale) / scale


def best_plans(candidates: CandidateTable, prediction: PredictionTable, *, scripted_first: bool) -> Rows:
    """
    Return one plan that fits of each shape x nodes.

    Of each precision and number of accelerators it is the fastest; ties: less accumulation, less sharding. With
    `scripted_first` it is the script's own where that fits, and checkpoints activations only where nothing else does.
    Then the script's precision and as many accelerators as can be are taken, unless others are faster by enough to be
    told apart; with `scripted_first`, narrower weights are taken only where nothing else fits.

    Args:
        candidates: plans.
        prediction: of the plans.
        scripted_first: see above.

    Returns:
        Rows of the plans, ordered by shape and nodes.
    """
    usable = np.flatnonzero(prediction.fits & np.isfinite(prediction.step_s) & (prediction.step_s > 0))
    scripted = candidates.as_scripted
    other = np.zeros(len(usable)) if scripted is None or not scripted_first else ~scripted[usable]
    of_plan = _Changes.of(candidates)
    checkpointing = of_plan.checkpointing[usable]
    group = (
        of_plan.precision,
        -candidates.devices_or_all,
        (of_plan.precision > 0).astype(np.int64),
        of_plan.narrows if scripted_first else np.zeros(len(candidates), dtype=np.int64),
        candidates.nodes,
        candidates.shape,
    )
    order: Rows = usable[
        np.lexsort(
            (
                checkpointing,
                candidates.sharding[usable],
                candidates.accumulate[usable],
                quantised(prediction.step_s[usable]),
                other,
                checkpointing if scripted_first else np.zeros(len(usable)),
                *(column[usable] for column in group),
            )
        )
    ]
    best = order[_first(np.stack([column[order] for column in group]))]
    return _worth_it(candidates, prediction, best, of_plan.narrows, narrower=not scripted_first)


def _worth_it(
    candidates: CandidateTable,
    prediction: PredictionTable,
    best: Rows,
    narrows: NDArray[np.int64],
    *,
    narrower: bool,
) -> Rows:
    """
    Return of each machine's plans its first one, or the fastest of those that are worth a change.

    One that is must also be faster at the upper end of its interval, so that no chance to keep a limit falls.
    """
    first = _first(np.stack([candidates.shape[best], candidates.nodes[best]]))
    usual = best[np.flatnonzero(first)[np.cumsum(first) - 1]] if len(best) else best
    step_s = quantised(prediction.step_s)
    latest_s = step_s * np.exp(Z80 * prediction.log_sigma)
    worth = (step_s[best] <= WORTH_CHANGING * step_s[usual]) & (latest_s[best] <= latest_s[usual])
    worth &= narrower | (narrows[best] <= narrows[usual])
    kept = best[first | worth]
    chosen: Rows = kept[
        np.lexsort((np.arange(len(kept)), step_s[kept], candidates.nodes[kept], candidates.shape[kept]))
    ]
    return chosen[_first(np.stack([candidates.shape[chosen], candidates.nodes[chosen]]))]


class _Changes(NamedTuple):
    """What each plan changes of the job: 0 or 1, and the place of its precision, 0 for the script's; shape (plans,)."""

    checkpointing: NDArray[np.int64]
    narrows: NDArray[np.int64]
    precision: NDArray[np.int64]

    @classmethod
    def of(cls, candidates: CandidateTable) -> _Changes:
        variants = candidates.variants
        places = list(dict.fromkeys(each.precision for each in variants))
        columns = np.array(
            [[each.checkpointing, each.narrows_weights, places.index(each.precision)] for each in variants],
            dtype=np.int64,
        )
        code = np.zeros(len(candidates), dtype=np.int64) if candidates.variant is None else candidates.variant
        return cls(*columns[code].T)


def _first(keys: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Mark the first of equal neighbouring columns of `keys`, shape (keys, n)."""
    mask = np.ones(keys.shape[1], dtype=np.bool_)
    mask[1:] = np.any(keys[:, 1:] != keys[:, :-1], axis=0)
    return mask
