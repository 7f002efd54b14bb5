"""
The interval of a change: errors that base and head share cancel.

How far the errors of two steps on one machine come apart was fitted to pairs of measured runs that differ in one thing
(`research/trainfare_research/runners/change_errors.py`). A step that did not change has the same error on both sides;
steps on different accelerators share none. Start-up and price have the same error on one machine. Numbers of steps are
known, and the luck of a run on spot machines is not counted. The logarithm of a side's dollars follows each error by
the share of its dollars that does: so the ratio is log-normal, and the difference is base x (ratio - 1).
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final, Literal, TypeAlias

import numpy as np
from pydantic import TypeAdapter

from trainfare_core.arrays import Column
from trainfare_core.changes.change_factors import MixedProfiles
from trainfare_core.documents import Finite, Interval, Record, data_text
from trainfare_core.interruptions.ends import find_normals
from trainfare_core.job_profile import JobProfile
from trainfare_core.number_format import round_figure
from trainfare_core.prices.age_doubt import Z_80
from trainfare_core.recommendation import ChangeRange, Option
from trainfare_core.run_cost.interrupted import STARTUP_LOG_SIGMA
from trainfare_core.run_cost.timing import RIDGE_FLOP_PER_BYTE

ChangedThing: TypeAlias = Literal["batch", "precision", "model", "devices"]

_POINTS: Final = 200
"""Equally likely points of each of two normal deviates. Chosen: dollars are then within 0.5 % of the width."""


class PairErrors(Record):
    """Standard deviation of ln(measured ratio / predicted ratio) of two steps that differ in one thing."""

    thing: ChangedThing
    least: Finite
    """Where the predicted steps take the same time."""
    slope: Finite
    """Added for each factor of e between them."""
    pairs: int
    sources: int

    def compute_sigma(self, log_ratio: float) -> float:
        """Return the standard deviation at ln(predicted ratio), where all of the step changed."""
        return self.least + self.slope * abs(log_ratio)


@lru_cache
def pair_errors() -> dict[ChangedThing, PairErrors]:
    """Return the errors of each thing that can differ."""
    rows = TypeAdapter(tuple[PairErrors, ...]).validate_json(data_text("change_errors.json"))
    return {row.thing: row for row in rows}


def find_ranges(
    mixed: MixedProfiles, base: Option, head: Option, confidence: float
) -> tuple[ChangeRange, ChangeRange]:
    """
    Return the ranges of (head - base) / base and of head - base in USD.

    Args:
        mixed: both jobs.
        base: the machine of the job before the change; neither costs nothing.
        head: the machine after it.
        confidence: with which each of the outer ends holds.
    """
    base_variance, head_variance, covariance = _compute_covariances(mixed, base, head)
    base_sigma = math.sqrt(base_variance)
    ratio_sigma = math.sqrt(max(base_variance + head_variance - 2 * covariance, 0.0))
    spread = base_sigma * ratio_sigma
    correlation = float(np.clip((covariance - base_variance) / spread, -1, 1)) if spread else 0.0
    log_ratio = math.log(head.run_usd.mid / base.run_usd.mid)
    deviates = find_normals((np.arange(_POINTS) + 0.5) / _POINTS)
    ratio_deviates = correlation * deviates[:, None] + math.sqrt(1 - correlation**2) * deviates
    base_usd = base.run_usd.mid * np.exp(base_sigma * deviates[:, None])
    usd = base_usd * np.expm1(log_ratio + ratio_sigma * ratio_deviates)
    chances = np.array([0.1, 0.9, 1 - confidence, confidence])
    fractions = np.expm1(log_ratio + ratio_sigma * find_normals(chances))
    usd_ends: Column = np.array([float(np.quantile(usd, chance)) for chance in chances])
    # Dollars that do not follow the step, such as those of checkpoints, bend under the log-normal ratio: most at the
    # medians, whose difference would then lie outside.
    difference = head.run_usd.mid - base.run_usd.mid
    lower = np.array([True, False, True, False])
    usd_ends = np.where(lower, np.minimum(usd_ends, difference), np.maximum(usd_ends, difference))
    return _make_range(fractions), _make_range(usd_ends)


def _make_range(ends: Column) -> ChangeRange:
    low_80, high_80, low, high = (round_figure(float(end)) for end in ends)
    return ChangeRange(low_80=low_80, high_80=high_80, low=low, high=high)


def _compute_covariances(mixed: MixedProfiles, base: Option, head: Option) -> tuple[float, float, float]:
    """Return the variances of ln(dollars) of base and head, and their covariance."""
    same_machine = not _differ(base, head, "machine", "service", "zone", "purchase_option")
    first, second = (
        np.array([_get_log_sigma(side.step_s), STARTUP_LOG_SIGMA, _get_log_sigma(side.usd_per_hour_now)])
        for side in (base, head)
    )
    shared = first * second * same_machine
    # From var(h - b) = var(h) + var(b) - 2 cov(h, b).
    shared[0] = (first[0] ** 2 + second[0] ** 2 - _compute_step_sigma(mixed, base, head) ** 2) / 2
    base_shares, head_shares = np.array(_split_usd(base)), np.array(_split_usd(head))
    return (
        float((base_shares * base_shares * (first * first)).sum()),
        float((head_shares * head_shares * (second * second)).sum()),
        float((base_shares * head_shares * shared).sum()),
    )


def _split_usd(option: Option) -> tuple[float, float, float]:
    """Return the shares of the dollars that follow the step's time, the start-up's, and the price of an hour."""
    parts = option.cost_parts
    start_usd = parts.startup_usd + parts.staging_usd
    steps_usd = parts.training_usd + parts.validation_usd + parts.interruption_usd
    timed_usd = steps_usd + start_usd + parts.checkpoint_usd + parts.rounding_usd
    hourly = (timed_usd + parts.storage_usd) / option.run_usd.mid
    scale = hourly / timed_usd if timed_usd else 0.0
    return scale * steps_usd, scale * start_usd, hourly


def _compute_step_sigma(mixed: MixedProfiles, base: Option, head: Option) -> float:
    """Return the standard deviation of ln(ratio of the two steps)."""
    things = _list_changed_things(mixed, base, head)
    independent = math.hypot(_get_log_sigma(base.step_s), _get_log_sigma(head.step_s))
    if _are_independent(mixed, base, head):
        return independent
    if not things:
        return 0.0
    log_ratio = math.log(head.step_s.mid / base.step_s.mid)
    sigma = math.hypot(*(pair_errors()[thing].compute_sigma(log_ratio) for thing in things))
    # What is the same in both steps takes the same time on the same machine; what they differ by is not the same.
    least_share = -math.expm1(-abs(log_ratio))
    changed_share = (
        max(least_share, measure_changed_share(mixed.base, mixed.head)) if things == ["model"] else 1.0
    )
    return changed_share * min(sigma, independent)


def find_pair_errors(mixed: MixedProfiles, base: Option, head: Option) -> tuple[PairErrors, ...]:
    """Return what the doubt of the ratio of two steps rests on; nothing where they share no error, or are the same."""
    if _are_independent(mixed, base, head):
        return ()
    return tuple(pair_errors()[thing] for thing in _list_changed_things(mixed, base, head))


def _are_independent(mixed: MixedProfiles, base: Option, head: Option) -> bool:
    """Return whether the steps are on two accelerators, or in two implementations, or one was measured."""
    changed = set(mixed.changed)
    return base.accelerator != head.accelerator or bool(changed & {"compilation", "base_measurement"})


def _list_changed_things(mixed: MixedProfiles, base: Option, head: Option) -> list[ChangedThing]:
    """Return what differs between two steps."""
    changed = set(mixed.changed)
    differs: dict[ChangedThing, bool] = {
        "batch": "global_batch" in changed
        or _differ(base, head, "micro_batch_size", "accumulate_grad_batches"),
        "precision": "precision" in changed or _differ(base.trainer, head.trainer, "precision"),
        "model": not changed.isdisjoint(("model", "trace")),
        "devices": "devices" in changed
        or _differ(base, head, "machine", "accelerator_count", "nodes", "sharding", "model_split"),
    }
    return [thing for thing, differ in differs.items() if differ]


def _differ(base: object, head: object, *names: str) -> bool:
    return any(getattr(base, name, None) != getattr(head, name, None) for name in names)


def _get_log_sigma(interval: Interval | None) -> float:
    return math.log(interval.high_80 / interval.mid) / Z_80 if interval and interval.mid else 0.0


def measure_changed_share(base: JobProfile, head: JobProfile) -> float:
    """Return how much of the larger step the two do not share, 0 to 1: operations of a kind, type and shape."""
    works: list[dict[tuple[object, ...], float]] = [{}, {}]
    for work, profile in zip(works, (base, head), strict=True):
        for group in profile.operations:
            key = (group.name, group.phase, group.dtype, group.shape)
            weight = max(group.flops / RIDGE_FLOP_PER_BYTE, float(group.bytes_moved))
            work[key] = work.get(key, 0.0) + weight
    total = max(sum(work.values()) for work in works)
    shared = sum(min(weight, works[1].get(key, 0.0)) for key, weight in works[0].items())
    return 1.0 - shared / total if total else 1.0
