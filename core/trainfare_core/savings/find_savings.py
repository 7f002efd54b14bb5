"""Price a run with each lever pulled alone, then the best ones in pairs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, get_args

from trainfare_core.changes.change_factors import MixedProfiles
from trainfare_core.changes.change_range import find_pair_errors, find_ranges
from trainfare_core.changes.explain_change import describe_side
from trainfare_core.errors import CannotTellError
from trainfare_core.installation import __version__
from trainfare_core.job_profile import JobProfile
from trainfare_core.prediction import predict as predict_plans
from trainfare_core.prices.book import PriceBook
from trainfare_core.ranking.pricing.plan_search import Predictor
from trainfare_core.ranking.pricing.request import Request
from trainfare_core.ranking.rank import best_chance
from trainfare_core.recommendation import ChangeRange, LeverName, Option, Saving, SavingGroup
from trainfare_core.savings.answer import JointSaving, NotPriced, Savings
from trainfare_core.savings.levers import LEVERS, ChangedRun, Lever

LEAST_PAIRS: Final = 10
"""Of measured steps, below which a saving is not known well."""

_LEAST_SHARE: Final = 0.005
"""Of the run's dollars, below which a change saves nothing worth a line. A chosen value."""
_PAIRED: Final = 4
"""Levers that are tried in pairs. Chosen: six pairs take no longer than the levers themselves."""

_NOT_PREDICTED: Final = (
    ("channels-last", "what it does to a step is not predicted"),
    ("a fused optimizer or attention kernel", "what it does to a step is not predicted"),
)
"""What the prediction has no term for."""


@dataclass(frozen=True, slots=True)
class _Found:
    """A lever, the run with it, and its best option."""

    lever: Lever
    run: ChangedRun
    option: Option


class _Pricer:
    """The ranking of one job and its changes."""

    def __init__(self, book: PriceBook, request: Request, predict: Predictor) -> None:
        self._book, self._request, self._predict = book, request, predict

    def price(self, run: ChangedRun) -> Option | str:
        """Return the best option of a changed run, or why there is none."""
        request = replace(self._request, constraints=run.constraints)
        try:
            return best_chance(run.profile, self._book, request, predict=self._predict)
        except CannotTellError as error:  # a filter that the change leaves without an offer
            return str(error)


@dataclass(slots=True)
class _Pulled:
    """What each lever does alone: those that save, by group and amount; those that do not; those without a price."""

    found: list[_Found] = field(default_factory=list[_Found])
    saves_nothing: list[LeverName] = field(default_factory=list[LeverName])
    not_priced: list[NotPriced] = field(default_factory=list[NotPriced])


def list_savings(
    profile: JobProfile, book: PriceBook, request: Request, *, predict: Predictor = predict_plans
) -> tuple[Saving, ...]:
    """Return the changes that would make a run cheaper, as `find_savings` does, without their pairs."""
    pricer = _Pricer(book, request, predict)
    before = pricer.price(ChangedRun(profile, request.constraints))
    if isinstance(before, str):
        return ()
    pulled = _pull_each(pricer, profile, request, before)
    return _describe_all(profile, request, before, pulled.found)


def find_savings(
    profile: JobProfile, book: PriceBook, request: Request, *, predict: Predictor = predict_plans
) -> Savings:
    """
    Return what would make a run cheaper.

    Each change is priced alone, by the same ranking as the run itself, on whatever machine is then the best. The
    interval is that of the difference: errors that both runs share cancel (`changes.change_range`).

    Args:
        profile: the job.
        book: all offers.
        request: limits of the run; changes that they allow already are a part of the run as it is.
        predict: the predictor.
    """
    pricer = _Pricer(book, request, predict)
    before = pricer.price(ChangedRun(profile, request.constraints))
    answer = Savings(
        tool_version=__version__,
        job=profile.name,
        loop=profile.source.loop,
        before=describe_side("as it is", before),
        savings=(),
        together=(),
        saves_nothing=(),
        not_priced=(),
    )
    if isinstance(before, str):
        return answer.model_copy(update={"unknown_because": before})
    pulled = _pull_each(pricer, profile, request, before)
    not_predicted = (NotPriced(what=what, because=because) for what, because in _NOT_PREDICTED)
    update = {
        "savings": _describe_all(profile, request, before, pulled.found),
        "together": _combine(pricer, before, pulled.found),
        "saves_nothing": tuple(pulled.saves_nothing),
        "not_priced": (*not_predicted, *pulled.not_priced),
    }
    return answer.model_copy(update=update)


def _pull_each(pricer: _Pricer, profile: JobProfile, request: Request, before: Option) -> _Pulled:
    own = ChangedRun(profile, request.constraints)
    pulled = _Pulled()
    for lever in LEVERS:
        changed = lever.change(own, before)
        if changed is None:
            continue
        option = changed if isinstance(changed, str) else pricer.price(changed)
        if isinstance(changed, str) or isinstance(option, str):
            pulled.not_priced.append(NotPriced(what=lever.name, because=str(option)))
        elif before.run_usd.mid - option.run_usd.mid <= _LEAST_SHARE * before.run_usd.mid:
            pulled.saves_nothing.append(lever.name)
        elif any(option == other.option for other in pulled.found):
            continue  # the lever before it makes the same plan possible
        else:
            pulled.found.append(_Found(lever, changed, option))
    groups: tuple[SavingGroup, ...] = get_args(SavingGroup)
    pulled.found.sort(key=lambda one: (groups.index(one.lever.group), one.option.run_usd.mid))
    return pulled


def _describe_all(
    profile: JobProfile, request: Request, before: Option, found: Sequence[_Found]
) -> tuple[Saving, ...]:
    return tuple(_describe(profile, before, one, request.constraints.confidence) for one in found)


def _describe(profile: JobProfile, before: Option, one: _Found, confidence: float) -> Saving:
    mixed = MixedProfiles(profile, one.run.profile)
    _, usd = find_ranges(mixed, before, one.option, confidence)
    rests_on = find_pair_errors(mixed, before, one.option)
    pairs = min((errors.pairs for errors in rests_on), default=None)
    return Saving(
        lever=one.lever.name,
        group=one.lever.group,
        machine=one.option.purchased_machines,
        usd=one.option.run_usd,
        hours=one.option.run_hours,
        plan=one.option.trainer,
        saved_usd=before.run_usd.mid - one.option.run_usd.mid,
        # What is saved is the change with its sign turned, and so are its ends.
        saved_usd_range=ChangeRange(low_80=-usd.high_80, high_80=-usd.low_80, low=-usd.high, high=-usd.low),
        saved_hours=before.run_hours.mid - one.option.run_hours.mid,
        pairs=pairs,
        well_known="compilation" not in mixed.changed and (pairs is None or pairs >= LEAST_PAIRS),
    )


def _combine(pricer: _Pricer, before: Option, found: Sequence[_Found]) -> tuple[JointSaving, ...]:
    """Return the pairs of the levers that save most which save more than each of the two alone."""
    most = sorted(found, key=lambda one: one.option.run_usd.mid)[:_PAIRED]
    joint: list[JointSaving] = []
    for first, second in itertools.combinations(most, 2):
        changed = second.lever.change(first.run, first.option)
        if not isinstance(changed, ChangedRun):
            continue
        option = pricer.price(changed)
        if isinstance(option, str):
            continue
        usd, alone = option.run_usd.mid, min(first.option.run_usd.mid, second.option.run_usd.mid)
        if alone - usd > _LEAST_SHARE * before.run_usd.mid:
            joint.append(
                JointSaving(
                    levers=(first.lever.name, second.lever.name),
                    saved_usd=before.run_usd.mid - usd,
                    usd=usd,
                    machine=option.purchased_machines,
                )
            )
    return tuple(sorted(joint, key=lambda pair: pair.usd))
