"""
Where nothing is feasible: the nearest runs, one for each limit that could be changed (after stage 6).

One of them keeps the smallest budget, or the earliest deadline, with the asked confidence. A cheaper run whose time or
price is uncertain may need a larger budget than a more expensive one with narrow intervals.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias

import numpy as np

from trainfare_core.arrays import Column
from trainfare_core.candidates import NODE_COUNTS, take
from trainfare_core.job_profile import JobProfile
from trainfare_core.number_format import percent
from trainfare_core.prediction import predict as predict_plans
from trainfare_core.prices.book import PriceBook
from trainfare_core.ranking.entries import Entries, every_offer
from trainfare_core.ranking.options.options import OptionMaker
from trainfare_core.ranking.pricing.chances import find_hours
from trainfare_core.ranking.pricing.plan_search import Predictor
from trainfare_core.ranking.pricing.price_doubt import usable_offers
from trainfare_core.ranking.pricing.priced_runs import Limits, PricedRuns
from trainfare_core.ranking.pricing.request import Request
from trainfare_core.ranking.pricing.run_pricer import RunPricer
from trainfare_core.ranking.rank import rank
from trainfare_core.recommendation import Alternative, Constraints, Option, Recommendation
from trainfare_core.variants import variants_of, why_not_split

Quantity: TypeAlias = Literal["usd", "hours"]

_NEARLY_SURE: Final = 1 - 1e-12
"""A limit that is kept so surely adds nothing to the doubt of another."""
_HALVINGS: Final = 40
"""Of the range of a limit: what is left is below the last digit of any figure here."""


@dataclass(frozen=True, slots=True)
class SureRun:
    """A run, and the dollars and hours that it keeps together with the asked confidence; None: not limited."""

    option: Option
    max_usd: float | None
    deadline_hours: float | None


def surest(
    profile: JobProfile,
    book: PriceBook,
    request: Request,
    least: Quantity,
    predict: Predictor,
    *,
    limit_both: bool = False,
) -> SureRun | None:
    """
    Return the drop-in whose limit of one quantity can be the smallest, and that limit.

    Args:
        profile: the job.
        book: all offers.
        request: with no limit of this quantity; one of the other is kept together with the limit found.
        least: the quantity.
        predict: the predictor.
        limit_both: find a limit of each quantity; the request has none.

    Returns:
        None where no drop-in keeps what is asked for.
    """
    pricer = RunPricer(profile, request, predict)
    constraints = pricer.applied_limits
    priced = pricer.price(usable_offers(book, constraints, request.as_of))
    entries = every_offer(priced, Limits.of(priced, constraints))
    entries = take(entries, ~priced.needs_porting[entries.run])
    usd, hours = _find_alone(priced, entries, constraints.confidence)
    alone, other = (usd, hours) if least == "usd" else (hours, usd)
    best, limits, smallest = -1, constraints, math.inf
    for row in np.lexsort((entries.offer, entries.run, other, alone)).tolist():
        if alone[row] >= smallest:
            break  # with the other limit it is no smaller
        quantities: tuple[Quantity, ...] = ("usd", "hours") if limit_both else (least,)
        found = _find_limits(priced, take(entries, np.array([row])), constraints, quantities)
        limit = None if found is None else found.max_usd if least == "usd" else found.deadline_hours
        if found is not None and limit is not None and limit < smallest:
            best, limits, smallest = row, found, limit
    if best < 0:
        return None
    maker = OptionMaker(profile, priced, constraints, book.newest_date, book.frame, request.writer)
    offer = priced.offers.frame.row(int(entries.offer[best]), named=True)
    option = maker.make(int(entries.run[best]), offer, rank=1, on_front=False)
    return SureRun(
        option,
        limits.max_usd if least == "usd" or limit_both else None,
        limits.deadline_hours if least == "hours" or limit_both else None,
    )


def _find_alone(priced: PricedRuns, entries: Entries, chance: float) -> tuple[Column, Column]:
    """Return the dollars and the hours that each entry keeps, whatever becomes of the other, shape (k,)."""
    usd = priced.run_usd(entries.run, entries.usd_per_hour, entries.price_log_sigma, chance)
    return usd, find_hours(priced.runs, entries.run, chance)


def _find_limits(
    priced: PricedRuns, entry: Entries, constraints: Constraints, quantities: tuple[Quantity, ...]
) -> Constraints | None:
    """
    Return the constraints with the smallest limits of some quantities that one entry keeps with the others.

    Of two, each by itself is as likely to be kept as the other. None where no limit is enough.
    """

    def limit(chance: float) -> Constraints:
        usd, hours = _find_alone(priced, entry, chance)
        values = {"usd": ("max_usd", float(usd[0])), "hours": ("deadline_hours", float(hours[0]))}
        return constraints.model_copy(update=dict(values[quantity] for quantity in quantities))

    def keeps(limits: Constraints) -> bool:
        chances = priced.compute_chances(entry.run, entry.usd_per_hour, entry.price_log_sigma, limits)
        return float(chances[0]) >= constraints.confidence

    low, high = constraints.confidence, _NEARLY_SURE
    if keeps(limit(low)):
        return limit(low)
    if not keeps(limit(high)):
        return None
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if keeps(limit(middle)) else (middle, high)
    return limit(high)


def with_alternatives(
    answer: Recommendation,
    profile: JobProfile,
    book: PriceBook,
    request: Request,
    *,
    predict: Predictor = predict_plans,
) -> Recommendation:
    """
    Return an answer without a machine that runs the script as it is, with what would give one; others as they are.

    Where runs on the usual numbers of machines take too long, and no number was asked for, more machines are tried.

    Args:
        answer: the result of `rank` for the same arguments.
        profile: the job.
        book: all offers.
        request: what was asked for.
        predict: the predictor.
    """
    if answer.cheapest_rank is not None:
        return answer
    search = _Search(profile, book, request, predict)
    raised = search.raise_nodes(answer)
    if raised is not None:
        return raised
    alternatives = search.alternatives()
    splits = request.plan_space.may_split(profile)
    limit = "" if splits else _batch_limit(profile, alternatives)
    because = None if answer.options else f"{answer.unknown_because}{limit}"
    return answer.model_copy(update={"alternatives": alternatives, "unknown_because": because})


def _batch_limit(profile: JobProfile, alternatives: tuple[Alternative, ...]) -> str:
    """Say that the global batch is what keeps a run from more devices, where it is."""
    batch = profile.global_samples_per_step
    whole = [alternative.option for alternative in alternatives if alternative.option.model_split is None]
    most = max((option.nodes * option.accelerator_count for option in whole), default=0)
    # Chosen: a usual machine has eight devices, and four times as many devices as the nearest run's are worth a try.
    if batch is None or batch > max(8, 4 * most):
        return ""
    return f"; a global batch of {batch} can be shared by at most {batch} devices"


class _Search:
    def __init__(self, profile: JobProfile, book: PriceBook, request: Request, predict: Predictor) -> None:
        self._profile, self._book, self._request, self._predict = profile, book, request, predict

    def raise_nodes(self, answer: Recommendation) -> Recommendation | None:
        """Return the answer with as many machines as can be planned, where no number of them was asked for."""
        if self._request.max_nodes is not None:
            return None
        if not any(rejection.reason in ("too_long", "past_deadline") for rejection in answer.rejections):
            return None
        request = replace(self._request, max_nodes=NODE_COUNTS[-1])
        wider = rank(self._profile, self._book, request, predict=self._predict)
        if wider.cheapest_rank is None:
            return None
        noted = dict.fromkeys((*wider.assumptions, *answer.assumptions[1:]))
        return wider.model_copy(
            update={
                "raised_max_nodes": request.max_nodes,
                "assumptions": tuple(noted),
                "constraints": answer.constraints,
            }
        )

    def alternatives(self) -> tuple[Alternative, ...]:
        """Return the nearest runs: those that change one limit, then those that change what may be rented."""
        limits, profile = self._request.constraints, self._profile
        tried = [*self._other_limits(limits), self._more_machines()]
        if limits.purchase is None:
            tried.append(self._try("cheapest at spot prices", "--purchase spot", purchase=("spot",)))
        if limits.quotas:
            tried.append(self._try("cheapest above your quota", "leave out --quota", quotas=()))
        if limits.no_porting:
            porting = self._try(
                "cheapest with porting", "leave out --no-porting", ported=True, no_porting=False
            )
            tried.append(porting)
        if limits.keep_plan:
            tried.append(self._try("cheapest with a changed plan", "leave out --keep-plan", keep_plan=False))
        if self._request.plan_space.scales_weakly(profile):
            tried.append(self._try("cheapest with its global batch shared", "--scale batch", scale="batch"))
        may_change = not limits.keep_plan
        has_precisions = may_change and len(variants_of(profile, precision=True)) > 1
        may_split = may_change and not why_not_split(profile)
        allowances = (
            ("plan", "with the fastest plan", may_change),
            ("batch-norm", "with fewer samples under BatchNorm", profile.batch.normalises),
            ("batch", "with another global batch", may_change),
            ("checkpointing", "with activation checkpointing", may_change),
            ("precision", "in another precision", has_precisions),
            ("model-parallel", "with the model split over devices", may_split),
        )
        tried += [
            self._try(f"cheapest {change}", f"--allow {name}", allow=(*limits.allow, name))
            for name, change, possible in allowances
            if possible and name not in limits.allow
        ]
        return tuple(dict.fromkeys(run for run in tried if run is not None))

    def _other_limits(self, constraints: Constraints) -> list[Alternative | None]:
        budget, deadline = constraints.max_usd is not None, constraints.deadline_hours is not None
        sure = f"kept with {percent(constraints.confidence)}"
        alternatives: list[Alternative | None] = []
        if deadline:
            change = f"earliest end {sure}{' within the budget' if budget else ''}"
            alternatives.append(self._surest(change, "hours", deadline_hours=None))
        if budget:
            change = f"lowest cost {sure}{' by the deadline' if deadline else ''}"
            alternatives.append(self._surest(change, "usd", max_usd=None))
        if budget and deadline and not any(alternatives):
            goals: tuple[tuple[str, Quantity], ...] = (("lowest cost", "usd"), ("earliest end", "hours"))
            for change, least in goals:
                alternatives.append(
                    self._surest(
                        f"{change} {sure}", least, limit_both=True, max_usd=None, deadline_hours=None
                    )
                )
        return alternatives

    def _surest(
        self, change: str, least: Quantity, *, limit_both: bool = False, **update: object
    ) -> Alternative | None:
        constraints = self._request.constraints.model_copy(update=update)
        request = replace(self._request, constraints=constraints)
        surest_option = surest(
            self._profile, self._book, request, least, self._predict, limit_both=limit_both
        )
        if surest_option is None:
            return None
        flags = [
            *([] if surest_option.max_usd is None else [f"--max-usd {_upwards(surest_option.max_usd)}"]),
            *(
                []
                if surest_option.deadline_hours is None
                else [f"--deadline {_upwards(surest_option.deadline_hours)}h"]
            ),
        ]
        return Alternative(change=change, flag=" ".join(flags), option=surest_option.option)

    def _more_machines(self) -> Alternative | None:
        """Return the cheapest run with the least larger number of machines that has one."""
        tried = int(self._request.plan_space.node_counts(self._profile)[-1])
        wider = [count for count in NODE_COUNTS if count > tried]
        for count in wider:
            option = self._find_best(replace(self._request, max_nodes=count, objective="cheapest"))
            if option is not None:
                change = f"cheapest on {option.nodes} machines"
                return Alternative(change=change, flag=f"--max-nodes {count}", option=option)
        return None

    def _try(self, change: str, flag: str, *, ported: bool = False, **update: object) -> Alternative | None:
        constraints = self._request.constraints.model_copy(update=update)
        request = replace(self._request, constraints=constraints, objective="cheapest")
        option = self._find_best(request, ported=ported)
        return None if option is None else Alternative(change=change, flag=flag, option=option)

    def _find_best(self, request: Request, *, ported: bool = False) -> Option | None:
        """Return the best drop-in; with `ported`, where there is none, the best measured machine that needs porting."""
        answer = rank(self._profile, self._book, replace(request, limit=1), predict=self._predict)
        measured = (option for option in answer.options if ported and not option.unmeasured_software)
        return answer.best(request.objective) or next(measured, None)


def _upwards(value: float) -> str:
    """Return a number rounded up to three significant digits, so that a limit of it is kept."""
    step = 10.0 ** (math.floor(math.log10(value)) - 2) if value > 0 else 1.0
    return f"{math.ceil(value / step - 1e-9) * step:.10g}"
