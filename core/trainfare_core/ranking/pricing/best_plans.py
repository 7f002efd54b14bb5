"""Which of a machine's plans is run (between stages 4 and 5)."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainfare_core.arrays import Column, Rows
from trainfare_core.candidates import CandidateTable, take
from trainfare_core.prediction.table import PredictionTable
from trainfare_core.prediction.uncertainty import Z80
from trainfare_core.run_cost.timing import Rentals, RunTimer

_WORTH_CHANGING: Final = 0.9
"""Part of a run's hours, or of its billed hours, that one with another plan must not exceed to be worth a change: below
10 % the prediction cannot tell plans apart. A chosen value."""

_SIGNIFICANT: Final = 10
"""Digits of a time that are kept: the last bits of exp() differ between processors and would change ties."""


def quantise_times(values: Column) -> Column:
    """Return times rounded to ten significant digits."""
    with np.errstate(divide="ignore"):
        scale = 10.0 ** (_SIGNIFICANT - 1 - np.floor(np.log10(np.where(values > 0, values, 1.0))))
    return np.round(values * scale) / scale


class PlanChoice(NamedTuple):
    """
    Two plans that fit of each shape x nodes, ordered by these: rows of the `CandidateTable`; shape (n,).

    Attributes:
        usual: of the whole model, in the script's precision, on as many accelerators as can be.
        changed: the fastest of those that change these; the usual one where none is faster.
    """

    usual: Rows
    changed: Rows


def best_plans(
    candidates: CandidateTable, prediction: PredictionTable, steps: Column, *, scripted_first: bool
) -> PlanChoice:
    """
    Return the plans of each shape x nodes between which the time of the whole run decides (`worth_changing`).

    Of each precision and number of accelerators, and of those that split the model, it is the fastest; ties: less
    accumulation, less sharding. With `scripted_first` it is the script's own where that fits, and checkpoints
    activations only where nothing else does; narrower weights and fp8 are then taken only where nothing else fits.

    Medians are compared. A change is also no slower at the upper end of its interval, and with standard deviations
    below `Z80` its mean, and every quantile from the median to there, is then no longer either. Plans with the same
    changes have nearly the same intervals, so that a choice by mean or upper end would gain no more than the prediction
    can tell.

    Args:
        candidates: plans.
        prediction: of the plans.
        steps: optimizer steps of a run with each plan, shape (plans,).
        scripted_first: see above.
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
        of_plan.training if scripted_first else np.zeros(len(candidates), dtype=np.int64),
        *(() if candidates.parallel is None else (candidates.parallel.splits.astype(np.int64),)),
        candidates.nodes,
        candidates.shape,
    )
    order: Rows = usable[
        np.lexsort(
            (
                checkpointing,
                candidates.sharding[usable],
                candidates.accumulate[usable],
                quantise_times(prediction.step_s[usable]),
                other,
                checkpointing if scripted_first else np.zeros(len(usable)),
                *(column[usable] for column in group),
            )
        )
    ]
    best = order[_mark_first(np.stack([column[order] for column in group]))]
    return _choose_plans(
        candidates, prediction, steps, best, of_plan.training, any_training=not scripted_first
    )


def _choose_plans(
    candidates: CandidateTable,
    prediction: PredictionTable,
    steps: Column,
    best: Rows,
    training: NDArray[np.int64],
    *,
    any_training: bool,
) -> PlanChoice:
    """
    Return of each shape x nodes its first plan, and the fastest of all.

    That must also be faster at the upper end of its interval, so that no chance to keep a limit falls.
    """
    first = _mark_first(np.stack([candidates.shape[best], candidates.nodes[best]]))
    usual = best[np.flatnonzero(first)[np.cumsum(first) - 1]] if len(best) else best
    training_s = quantise_times(steps * prediction.step_s)
    latest_s = training_s * np.exp(Z80 * prediction.log_sigma)
    surely = latest_s[best] <= latest_s[usual]
    surely &= any_training | (training[best] <= training[usual])
    chosen = best[first | surely]
    order = np.lexsort(
        (np.arange(len(chosen)), training_s[chosen], candidates.nodes[chosen], candidates.shape[chosen])
    )
    fastest = chosen[order]
    return PlanChoice(
        best[first], fastest[_mark_first(np.stack([candidates.shape[fastest], candidates.nodes[fastest]]))]
    )


def worth_changing(own_plans: Rows, other: Rows, timer: RunTimer, rentals: Rentals) -> Rows:
    """
    Return the other plan of each run where it takes a tenth less of its hours or of what is billed, else its own.

    Args:
        own_plans: plan of each run, shape (n,).
        other: what it could be changed to, shape (n,).
        timer: times the runs, which are compared without interruptions.
        rentals: of each run, n rows.
    """
    rows = np.flatnonzero(own_plans != other)
    if not len(rows):
        return own_plans
    before, after = (timer.time_undisturbed(plan[rows], take(rentals, rows)) for plan in (own_plans, other))
    worth = np.zeros(len(rows), dtype=np.bool_)
    for ours, theirs in ((before.hours, after.hours), (before.billed_hours, after.billed_hours)):
        worth |= quantise_times(theirs) <= _WORTH_CHANGING * quantise_times(ours)
    chosen = own_plans.copy()
    chosen[rows[worth]] = other[rows[worth]]
    return chosen


class _Changes(NamedTuple):
    """What each plan changes of the job: 0 or 1, and the place of its precision, 0 for the script's; shape (plans,)."""

    checkpointing: NDArray[np.int64]
    training: NDArray[np.int64]
    precision: NDArray[np.int64]

    @classmethod
    def of(cls, candidates: CandidateTable) -> _Changes:
        variants = candidates.variants
        places = list(dict.fromkeys(variant.precision for variant in variants))
        columns = np.array(
            [
                [variant.checkpointing, variant.changes_training, places.index(variant.precision)]
                for variant in variants
            ],
            dtype=np.int64,
        )
        return cls(*columns[candidates.variant_or_none].T)


def _mark_first(keys: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Mark the first of equal neighbouring columns of `keys`, shape (keys, n)."""
    mask = np.ones(keys.shape[1], dtype=np.bool_)
    mask[1:] = np.any(keys[:, 1:] != keys[:, :-1], axis=0)
    return mask
