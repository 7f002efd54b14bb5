"""
Split the difference of two runs' dollars into causes that add up to it.

Base and head differ in some of the factors of `change_factors`. Head is reached from base by changing one factor at a
time, in the order of `FACTORS`, and pricing the job after each: with the same request, by `best_chance`, on whatever
machine is then the best. A factor's part is the difference that its change made. The order matters where factors
multiply (twice the steps of a model twice as large), so the path is also walked in the reverse order and the two parts
are averaged; for two factors that is their Shapley value. The parts add up to the difference because each path leads
from base to head, and swapping base and head changes every sign.

Where a job between base and head cannot be priced (nothing holds it, a batch that no device count divides), the
factors around it cannot be told apart, and their joint part is `other`, with the reason.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, get_args

from trainfare_core.batch_scaling import CriticalBatch, explain_not_predicted, find_critical_batch
from trainfare_core.changes.change_factors import FACTORS, Factor, MixedProfiles, compare_on_same_devices
from trainfare_core.changes.change_range import find_ranges
from trainfare_core.changes.change_words import factor_text, flops_changes
from trainfare_core.changes.cost_change import CauseName, CostCause, CostChange, CostSide, QualityCost
from trainfare_core.changes.module_changes import module_changes
from trainfare_core.errors import CannotTellError
from trainfare_core.job_profile import JobProfile
from trainfare_core.prediction import predict as predict_plans
from trainfare_core.prices.book import PriceBook
from trainfare_core.ranking.options.options import predict_quality
from trainfare_core.ranking.pricing.plan_search import Predictor
from trainfare_core.ranking.pricing.request import Request
from trainfare_core.ranking.rank import best_chance
from trainfare_core.recommendation import Option

_DIGITS: Final = 9
"""Decimals of dollars that are kept: below the cost of the smallest run, and the same text on every processor."""


@dataclass(frozen=True, slots=True)
class PricedJob:
    """
    One side of a change.

    Attributes:
        profile: the job.
        book: the prices to price it with.
        label: what to call it: a file, or a commit.
        notes: sentences on it for the reader.
    """

    profile: JobProfile
    book: PriceBook
    label: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class UnknownJob:
    """A base that has no profile, such as a commit in which the job is not there yet; `because` says why."""

    label: str
    because: str
    notes: tuple[str, ...] = ()


def explain_change(
    base: PricedJob | UnknownJob, head: PricedJob, request: Request, *, predict: Predictor = predict_plans
) -> CostChange:
    """
    Price both sides and split the difference into causes.

    Args:
        base: the job before the change.
        head: the job after it; the same `book` object as the base's where prices are the same.
        request: budget, deadline, filters: the same for both.
        predict: the predictor.

    Returns:
        The change. Where one of the two has no cost, `change_usd` is None and `unknown_because` says why.
    """
    if isinstance(base, UnknownJob):
        last = _find_best(head, request, predict)
        return _report_unknown(
            describe_side(base.label, base.because),
            describe_side(head.label, last),
            (*base.notes, *head.notes),
        )
    walk = _Walk(base, head, request, predict)
    everything = frozenset(walk.changed)
    first, last = walk.price(frozenset()), walk.price(everything)
    notes = (*base.notes, *head.notes)
    sides = describe_side(base.label, first), describe_side(head.label, last)
    if isinstance(first, str) or isinstance(last, str):
        return _report_unknown(*sides, notes)
    change_usd = round(last.run_usd.mid - first.run_usd.mid, _DIGITS)
    causes = _Causes(walk)
    for order in walk.orders:
        causes.add(order)
    fraction_range, usd_range = (
        find_ranges(walk.mixed, first, last, request.constraints.confidence)
        if first.run_usd.mid and last.run_usd.mid
        else (None, None)
    )
    return CostChange(
        base=sides[0],
        head=sides[1],
        change_usd=change_usd,
        change_fraction=change_usd / first.run_usd.mid if first.run_usd.mid else None,
        fraction_range=fraction_range,
        usd_range=usd_range,
        quality=None if "model" in everything else _price_quality(base.profile, request, first, last),
        causes=causes.all(),
        notes=notes,
    )


def _price_quality(profile: JobProfile, request: Request, first: Option, last: Option) -> QualityCost | None:
    """Return what `last` costs to the quality of the smaller global batch of `first`."""
    own, batch, constraints = first.global_batch_size, last.global_batch_size, request.constraints
    steps = first.optimizer_steps, last.optimizer_steps
    if not own or not batch or batch <= own or not all(steps) or constraints.scale == "quality":
        return None
    critical = find_critical_batch(profile, constraints.critical_batch)
    if critical is not None and not isinstance(critical, CriticalBatch):
        because = explain_not_predicted(critical)
        return QualityCost(ratio=None, low_usd=None, high_usd=None, unknown_because=because)
    ratio = predict_quality(critical, own, batch)
    if ratio is None:
        return None
    seen = (steps[0] or 0) * own / ((steps[1] or 1) * batch)
    low, high = (
        None if times is None else round(last.price_samples(seen * times), _DIGITS)
        for times in (ratio.low, ratio.high)
    )
    return QualityCost(ratio=ratio, low_usd=low, high_usd=high)


def _report_unknown(base: CostSide, head: CostSide, notes: tuple[str, ...]) -> CostChange:
    reasons = (f"{side.label}: {side.unknown_because}" for side in (base, head) if side.unknown_because)
    return CostChange(
        base=base,
        head=head,
        change_usd=None,
        change_fraction=None,
        causes=(),
        unknown_because="; ".join(reasons),
        notes=notes,
    )


def _find_best(job: PricedJob, request: Request, predict: Predictor) -> Option | str:
    """Return the best option; a filter that the prices of one side do not know is a reason, too."""
    try:
        return best_chance(job.profile, job.book, request, predict=predict)
    except CannotTellError as error:
        return str(error)


class _Walk:
    """Prices of the jobs between base and head, each priced once."""

    def __init__(self, base: PricedJob, head: PricedJob, request: Request, predict: Predictor) -> None:
        self.mixed = MixedProfiles(*compare_on_same_devices(base.profile, head.profile))
        self._base, self._head = base, head
        self._request, self._predict = request, predict
        self._found: dict[frozenset[Factor], Option | str] = {}

    @property
    def changed(self) -> tuple[Factor, ...]:
        """The factors that differ."""
        same_prices = self._base.book is self._head.book
        return tuple(
            name for name in FACTORS if name in self.mixed.changed or (name == "prices" and not same_prices)
        )

    @property
    def orders(self) -> tuple[tuple[Factor, ...], ...]:
        """The two paths; a measured step is left out first and put in last on both."""
        first: tuple[Factor, ...] = tuple(name for name in self.changed if name == "base_measurement")
        last: tuple[Factor, ...] = tuple(name for name in self.changed if name == "head_measurement")
        middle = self.changed[len(first) : len(self.changed) - len(last)]
        return (*first, *middle, *last), (*first, *reversed(middle), *last)

    def price(self, taken: frozenset[Factor]) -> Option | str:
        """Return the best option of the job with these factors of head, or why there is none."""
        if taken not in self._found:
            self._found[taken] = self._price_anew(taken)
        return self._found[taken]

    def _price_anew(self, taken: frozenset[Factor]) -> Option | str:
        book = self._head.book if "prices" in taken else self._base.book
        own_factors = frozenset(self.mixed.changed)
        # The profiles themselves, as `judge` prices them.
        if taken & own_factors in (frozenset(), own_factors):
            side = self._head if own_factors and taken >= own_factors else self._base
            return _find_best(PricedJob(side.profile, book, ""), self._request, self._predict)
        profile_or_reason = self.mixed.mix(taken)
        if isinstance(profile_or_reason, str):
            return profile_or_reason
        predict = self.mixed.predictor(taken, self._predict)
        return _find_best(PricedJob(profile_or_reason, book, ""), self._request, predict)


class _Causes:
    """Parts of the change, half from each of two paths."""

    def __init__(self, walk: _Walk) -> None:
        self._walk = walk
        self._usd: dict[CauseName, float] = {}
        self._details: dict[CauseName, list[str]] = {}

    def add(self, order: Iterable[Factor]) -> None:
        """Walk one path from base to head and add half of each difference to its cause."""
        taken: frozenset[Factor] = frozenset()
        before = self._walk.price(taken)
        since: list[Factor] = []
        reason = ""
        for factor in order:
            taken = taken.union((factor,))
            since.append(factor)
            after = self._walk.price(taken)
            if isinstance(after, str):
                reason = after
                continue
            if isinstance(before, Option):
                self._count(since, reason, before, after)
            before, since = after, []

    def _count(self, factors: list[Factor], reason: str, before: Option, after: Option) -> None:
        half_usd = (after.run_usd.mid - before.run_usd.mid) / 2
        if not half_usd:
            return
        if len(factors) > 1:
            names = " and ".join(name.replace("_", " ") for name in factors)
            cause: CauseName = "other"
            detail = f"{names} together, which cannot be priced one by one: {reason}"
        else:
            cause = _cause_of(factors[0], before, after)
            detail = factor_text(factors[0], cause, self._walk.mixed, before, after)
        self._usd[cause] = self._usd.get(cause, 0.0) + half_usd
        details = self._details.setdefault(cause, [])
        if not details or (cause == "other" and detail not in details):
            details.append(detail)

    def all(self) -> tuple[CostCause, ...]:
        """Return the causes that are not zero, in the order of `CauseName`."""
        names: tuple[CauseName, ...] = get_args(CauseName)
        mixed = self._walk.mixed
        return tuple(
            CostCause(
                cause=name,
                usd=round(self._usd[name], _DIGITS),
                detail="; ".join(self._details[name]),
                flops=flops_changes(mixed.base, mixed.head) if name == "model" else (),
                modules=module_changes(mixed.base, mixed.head) if name == "model" else (),
            )
            for name in names
            if round(self._usd.get(name, 0.0), _DIGITS)
        )


def _cause_of(factor: Factor, before: Option, after: Option) -> CauseName:
    """Return the cause that a factor's part belongs to; memory that leaves the machine as it is changed its plan."""
    if factor == "memory_fit":
        same = (before.machine, before.nodes) == (after.machine, after.nodes)
        return "strategy" if same else "memory_fit"
    names: tuple[CauseName, ...] = get_args(CauseName)
    for name in names:
        if name == factor:
            return name
    return "other"


def describe_side(label: str, option: Option | str) -> CostSide:
    """Return the machine and the cost of a best option, or the reason why there is none."""
    if isinstance(option, str):
        return CostSide(label=label, machine=None, usd=None, hours=None, unknown_because=option)
    return CostSide(
        label=label,
        machine=option.purchased_machines,
        usd=option.run_usd,
        hours=option.run_hours,
        global_batch_size=option.global_batch_size,
        optimizer_steps=option.optimizer_steps,
    )
