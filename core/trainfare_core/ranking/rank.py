"""
Stage 6: constraints, order, cost-time front, and reasons -> `Recommendation`.

**Order.** Options are sorted by the objective, then by the other of dollars and hours, then drop-in before
needs porting, then by provider, service, instance type, purchase option, shape, nodes, region, zone, price
date and source: no two options are equal in all of these, so the order is total and does not depend on how
the rows came in.

**Chance constraints.** A budget or deadline is kept when the chance of keeping both is at least the
confidence. Dollars are hours times a price that may have moved since it was seen (`limits`, `chances`).

**Front.** An option is on the cost-time front unless another one costs no more, takes no longer, and is strictly
better in one of the two. A machine that needs porting does not push off the front one that runs the script unchanged
(a "drop-in"), because the work of porting is not in the dollars. It is itself compared with all options.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from datetime import timezone
from typing import Final, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trainfare_core._version import __version__
from trainfare_core.candidates import own_sharding, take
from trainfare_core.job_profile import JobProfile
from trainfare_core.prediction import predict as predict_plans
from trainfare_core.prediction.source import input_pipeline
from trainfare_core.prices.book import PriceBook
from trainfare_core.ranking.assumed_numbers import assumed_numbers
from trainfare_core.ranking.fold import folded
from trainfare_core.ranking.limits import Limits
from trainfare_core.ranking.options import OptionMaker, newest_date, rounded
from trainfare_core.ranking.price_doubt import Usable, usable_offers
from trainfare_core.ranking.priced_runs import Predictor, PricedRuns, pairs, price_runs, sort_offers
from trainfare_core.ranking.rejections import rejections_of, why_nothing
from trainfare_core.ranking.request import DEFAULT_PURCHASE, Request
from trainfare_core.ranking.runner_up import runner_up_of
from trainfare_core.recommendation import (
    Constraints,
    Interval,
    JobSummary,
    Objective,
    Option,
    Recommendation,
)
from trainfare_core.run_cost import cost_assumptions

__all__ = ["best_chance", "front", "job_summary", "rank"]

Column = NDArray[np.float64]
Rows = NDArray[np.int64]

_BEST_TYPES: Final = 3
"""Machine types whose best options are always listed, so that a runner-up is, whatever `limit` is: the second can be
another name of the first. A chosen value."""


@dataclass(frozen=True, slots=True)
class _Entries:
    """Feasible options as columns, shape (k,): the run, its offer's price, and the row of the offer or -1."""

    run: Rows
    offer: Rows
    usd: Column
    hours: Column


def rank(
    profile: JobProfile,
    book: PriceBook,
    request: Request,
    *,
    notes: tuple[str, ...] = (),
    predict: Predictor = predict_plans,
) -> Recommendation:
    """
    Rank every way to run a job.

    What does not fit, cannot train, is not known or breaks a constraint is not ranked but counted with its
    reason. Machines that need porting are ranked and marked; `cheapest_rank` and `fastest_rank` name drop-ins
    only, and are None where there is none. A run of unknown length has no total to compare with a budget or a
    deadline: those are then not applied, and the assumptions say so.

    Args:
        profile: the job.
        book: all offers; the constraints filter it here, so that what they leave out is counted.
        request: constraints, objective, and what to list.
        notes: further sentences for the assumptions, such as a price source that failed.
        predict: the predictor.
    """
    asked = request.constraints
    usable = usable_offers(book, asked, request.as_of)
    priced = _priced(profile, usable, request, predict)
    limits = Limits.of(priced, _applied(profile, asked))
    entries = _every_offer(priced, limits) if request.all_regions else _lowest_offers(priced, limits)
    on_front = _fronts(priced, entries)
    maker = OptionMaker(profile, priced, _applied(profile, asked), newest_date(book.frame), book.frame)
    options = _options(maker, entries, on_front, request)
    ranks = {objective: _best(options, objective) for objective in get_args(Objective)}
    answer = next((option for option in options if option.rank == ranks[request.objective]), None)
    rejected = rejections_of(priced, limits, asked, usable)
    best_spot, no_spot_because = _best_spot(profile, book, request, predict)
    return Recommendation(
        tool_version=__version__,
        job=job_summary(profile),
        basis="whole_run" if profile.plan.optimizer_steps is not None else "per_1000_steps",
        objective=request.objective,
        constraints=asked,
        priced_on=None
        if request.as_of is None
        else request.as_of.astimezone(timezone.utc).date().isoformat(),
        options=options,
        options_total=sum(int(marks.sum()) for marks in limits.affordable_offers()),
        cheapest_rank=ranks["cheapest"],
        fastest_rank=ranks["fastest"],
        runner_up=runner_up_of(options, answer or next(iter(options), None), request.objective),
        rejections=rejected,
        price_books=usable.book.facts(),
        assumptions=_assumptions(profile, request, notes),
        assumed_numbers=() if answer is None else assumed_numbers(profile, asked, answer),
        unknown_because=None if options else why_nothing(rejected),
        best_spot=best_spot,
        no_spot_because=priced.no_spot_because or no_spot_because,
        other_clouds=_cheapest(
            profile,
            usable.left_out.other_clouds,
            request,
            predict,
            on_demand=book,
            all_clouds=True,
            purchase=asked.purchase or DEFAULT_PURCHASE,
        )[0],
    )


def _priced(profile: JobProfile, usable: Usable, request: Request, predict: Predictor) -> PricedRuns:
    return price_runs(
        profile,
        usable.book,
        usable.log_sigma,
        transfer_usd=usable.transfer_usd,
        assumed=request.constraints.run_cost,
        data_gb=request.constraints.data_gb or 0.0,
        space=request.plan_space,
        any_plan="plan" in request.constraints.allow,
        no_porting=request.constraints.no_porting,
        max_accelerators=request.constraints.max_accelerators,
        confidence=request.constraints.confidence,
        predict=predict,
    )


def _best_spot(
    profile: JobProfile, book: PriceBook, request: Request, predict: Predictor
) -> tuple[Option | None, str | None]:
    """Return the cheapest drop-in at a spot price, where no purchase option was named; or why there is none."""
    if request.constraints.purchase is not None:
        return None, None
    spot = book.filter(purchase=["spot"])
    if request.constraints.providers is None and not request.constraints.all_clouds:
        spot = spot.without_other_clouds()
    return _cheapest(profile, spot, request, predict, on_demand=book, purchase=("spot",))


def _cheapest(
    profile: JobProfile,
    book: PriceBook,
    request: Request,
    predict: Predictor,
    *,
    on_demand: PriceBook,
    **asked: object,
) -> tuple[Option | None, str | None]:
    """Return the cheapest drop-in of a book, or why a spot machine is none; `asked` changes the constraints."""
    if not len(book):
        return None, None
    constraints = request.constraints.model_copy(update=asked)
    usable = usable_offers(book, constraints, request.as_of)
    priced = _priced(profile, usable, replace(request, constraints=constraints), predict)
    applied = _applied(profile, constraints)
    entries = _lowest_offers(priced, Limits.of(priced, applied))
    entries = take(entries, ~priced.needs_porting[entries.run])
    if not len(entries.run):
        return None, priced.no_spot_because or None
    first = take(entries, _order(priced, entries, "cheapest")[:1])
    maker = OptionMaker(profile, priced, applied, newest_date(book.frame), on_demand.frame)
    chosen = _looked_up(priced, first)
    offer = priced.offers.row(int(chosen.offer[0]), named=True)
    return maker.make(int(chosen.run[0]), offer, rank=1, on_front=True), None


def best_chance(
    profile: JobProfile,
    book: PriceBook,
    request: Request,
    *,
    predict: Predictor = predict_plans,
) -> Option | str:
    """
    Find the drop-in to compare with budget and deadline, whether it keeps them or not.

    That is the cheapest that keeps them with the asked confidence; else the one most likely to; where no
    option has any chance, the nearest miss; equal ones by the total order of `rank`. The chance is the option's
    `probability_within`. A reason where no drop-in can be priced or the length of the run is not known.
    """
    if profile.plan.optimizer_steps is None:
        return f"the length of the run is not known: {profile.plan.unknown_because}"
    constraints = request.constraints
    usable = usable_offers(book, constraints, request.as_of)
    priced = _priced(profile, usable, request, predict)
    runs = np.flatnonzero(~priced.needs_porting)
    if len(priced.runs) and not len(runs):
        return "only machines that need porting could run it"
    if not len(runs):
        return why_nothing(rejections_of(priced, Limits.of(priced, Constraints()), constraints, usable))
    maker = OptionMaker(profile, priced, constraints, newest_date(book.frame), book.frame)
    run = _likeliest(maker, runs)
    offer = priced.cheapest_offers(priced.machine_of_run[[run]]).row(0, named=True)
    return maker.make(run, offer, rank=1, on_front=False)


def _likeliest(maker: OptionMaker, runs: Rows) -> int:
    """Return the cheapest run with the asked confidence, else the likeliest, else the nearest miss."""
    priced = maker.priced
    machine = priced.machine_of_run[runs]
    price, doubt = priced.lowest_usd_per_hour[machine], priced.lowest_log_sigma[machine]
    each = list(zip(runs.tolist(), price.tolist(), doubt.tolist(), strict=True))
    chances = [maker.probability_within(run, usd, sigma) for run, usd, sigma in each]
    chance = np.array([1.0 if one is None else one for one in chances])  # without a limit, all are kept
    limit_hours = np.array([maker.limit_hours(run, usd) for run, usd, _ in each])
    hourly = np.array([maker.hourly_excess(run, usd) for run, usd, _ in each])
    with np.errstate(divide="ignore"):
        excess = np.maximum(priced.runs.hours[runs] / limit_hours, hourly)
    second = np.where(chance > 0, priced.lowest_usd[runs], excess)
    enough_confidence = np.minimum(chance, maker.constraints.confidence)
    order = np.lexsort(
        (priced.nodes[runs], priced.machine_of_run[runs], second, hourly > 1, -enough_confidence)
    )
    return int(runs[order[0]])


def front(usd: Column, hours: Column) -> NDArray[np.bool_]:
    """
    Mark the options that no other one dominates; equal ones stand together.

    Args:
        usd: dollars, shape (n,).
        hours: hours, shape (n,).
    """
    if not len(usd):
        return np.zeros(0, dtype=np.bool_)
    order = np.lexsort((usd, hours))
    sorted_usd, sorted_hours = usd[order], hours[order]
    starts = np.r_[True, sorted_hours[1:] != sorted_hours[:-1]]
    group = np.cumsum(starts) - 1
    lowest = sorted_usd[starts]
    before = np.r_[np.inf, np.minimum.accumulate(lowest)[:-1]]
    good = (sorted_usd == lowest[group]) & (sorted_usd < before[group])
    marks = np.zeros(len(usd), dtype=np.bool_)
    marks[order] = good
    return marks


def _applied(profile: JobProfile, asked: Constraints) -> Constraints:
    """Return the constraints that can be applied: a run of unknown length has no total to limit."""
    if profile.plan.optimizer_steps is not None:
        return asked
    return asked.model_copy(
        update={"max_usd": None, "deadline_hours": None, "max_run_hours": sys.float_info.max}
    )


def _lowest_offers(priced: PricedRuns, limits: Limits) -> _Entries:
    """Return every feasible run at its machine's lowest price, with that offer still to be looked up."""
    run = np.flatnonzero(limits.in_time)
    machine = priced.machine_of_run[run]
    run = run[limits.affordable(run, priced.lowest_usd_per_hour[machine], priced.lowest_log_sigma[machine])]
    run = run[_cheapest_of_kinds(priced, run)]
    return _Entries(run, np.full(len(run), -1), priced.lowest_usd[run], priced.runs.hours[run])


def _cheapest_of_kinds(priced: PricedRuns, run: Rows) -> Rows:
    """Return the places of the cheapest runs of machines that differ only in how often they are taken back."""
    kind, nodes, usd = (
        priced.kind_of_machine[priced.machine_of_run[run]],
        priced.nodes[run],
        priced.lowest_usd[run],
    )
    order = np.lexsort((run, priced.runs.hours[run], usd, nodes, kind))
    first = np.ones(len(run), dtype=np.bool_)
    first[1:] = (np.diff(kind[order]) != 0) | (np.diff(nodes[order]) != 0)
    return np.sort(order[first])


def _fronts(priced: PricedRuns, entries: _Entries) -> NDArray[np.bool_]:
    porting = priced.needs_porting[entries.run]
    marks = front(entries.usd, entries.hours)
    marks[~porting] = front(entries.usd[~porting], entries.hours[~porting])
    return marks


def _every_offer(priced: PricedRuns, limits: Limits) -> _Entries:
    """Return every feasible run on every offer."""
    order = np.argsort(priced.machine_of_offer, kind="stable")
    run, place = pairs(priced.machine_of_run, priced.machine_of_offer[order])
    offer = order[place]
    price = priced.usd_per_hour[offer]
    keep = limits.in_time[run] & limits.affordable(run, price, priced.price_log_sigma[offer])
    run, offer, price = run[keep], offer[keep], price[keep]
    hours = priced.runs.hours[run]
    return _Entries(run, offer, priced.run_usd(run, price), hours)


def _options(
    maker: OptionMaker, entries: _Entries, on_front: NDArray[np.bool_], request: Request
) -> tuple[Option, ...]:
    """Return the first `limit` options, the first of each service, of the best types, and the front, in order."""
    priced, objective = maker.priced, request.objective
    listed = np.unique(
        np.r_[
            _first(priced, entries, objective, request.limit),
            _first_of(priced, entries, objective, ("provider", "service", "purchase_option")),
            _first_of(priced, entries, objective, ("provider", "instance_type"))[:_BEST_TYPES],
            np.flatnonzero(on_front),
        ]
    )
    listed = listed[_order(priced, take(entries, listed), objective)]
    chosen = _looked_up(priced, take(entries, listed))
    rows = priced.offers[chosen.offer].iter_rows(named=True)
    return folded(
        maker.make(int(chosen.run[place]), row, rank=place + 1, on_front=bool(on_front[listed[place]]))
        for place, row in enumerate(rows)
    )


def _first(priced: PricedRuns, entries: _Entries, objective: Objective, limit: int) -> Rows:
    """Return the rows of the best `limit` entries; only those that can be among them are sorted by name."""
    rows = np.arange(len(entries.run))
    if limit < len(rows):
        lead = entries.usd if objective == "cheapest" else entries.hours
        rows = np.flatnonzero(lead <= np.partition(lead, limit)[limit])
    return rows[_order(priced, take(entries, rows), objective)[:limit]]


def _first_of(priced: PricedRuns, entries: _Entries, objective: Objective, group: tuple[str, ...]) -> Rows:
    """Return the best entry of every group of offers, drop-in and needs porting apart, in order, drop-ins first."""
    keys = priced.machines.select(pl.concat_str(group, separator="\0").rank("dense"))
    porting = priced.needs_porting[entries.run]
    group_of = 2 * keys.to_series().to_numpy().astype(np.int64)[priced.machine_of_run[entries.run]] + porting
    lead = entries.usd if objective == "cheapest" else entries.hours
    lowest = np.full(int(group_of.max(initial=0)) + 1, np.inf)
    np.minimum.at(lowest, group_of, lead)
    rows = np.flatnonzero(lead == lowest[group_of])
    rows = rows[_order(priced, take(entries, rows), objective)]
    rows = rows[np.argsort(porting[rows], kind="stable")]
    _, first = np.unique(group_of[rows], return_index=True)
    return rows[np.sort(first)]


def _order(priced: PricedRuns, entries: _Entries, objective: Objective) -> Rows:
    """Sort entries by the total order in this module's docstring; machines are numbered in theirs already."""
    money_first = objective == "cheapest"
    return np.lexsort(
        (
            _places(priced, entries.offer),
            priced.nodes[entries.run],
            priced.machine_of_run[entries.run],
            priced.needs_porting[entries.run],
            entries.hours if money_first else entries.usd,
            entries.usd if money_first else entries.hours,
        )
    )


def _places(priced: PricedRuns, offer: Rows) -> Rows:
    """Number offers by region, zone, date and source; all 0 where they are not looked up, one a machine."""
    rows, inverse = np.unique(offer, return_inverse=True)
    if not len(rows) or rows[0] < 0:
        return np.zeros(len(offer), dtype=np.int64)
    ordered = sort_offers(priced.offers[rows].with_columns(pl.Series("place", np.arange(len(rows)))))
    places = np.empty(len(rows), dtype=np.int64)
    places[ordered["place"].to_numpy()] = np.arange(len(rows))
    return places[inverse]


def _looked_up(priced: PricedRuns, entries: _Entries) -> _Entries:
    """Put the cheapest offer of its machine where an entry has none yet."""
    if not len(entries.run) or entries.offer[0] >= 0:
        return entries
    machine = priced.machine_of_run[entries.run]
    found = priced.cheapest_offers(machine)
    offer_of = np.full(len(priced.machines), -1)
    offer_of[found["machine"].to_numpy()] = found["row"].to_numpy()
    return _Entries(entries.run, offer_of[machine], entries.usd, entries.hours)


def _best(options: tuple[Option, ...], objective: Objective) -> int | None:
    """
    Return the rank of the best drop-in; the front holds it, so no cut of the list can lose it.

    The fastest is the cheapest of those whose times tie: each median lies within the other's interval. A run that is
    mostly start-up takes as long on every machine, and the most expensive is then no faster than the cheapest.
    """

    def order(option: Option) -> tuple[float, float, int]:
        return (option.run_usd.mid, option.run_hours.mid, option.rank)

    ready = [option for option in options if not option.needs_porting]
    if not ready:
        return None
    if objective == "fastest":
        fastest = min((option.run_hours for option in ready), key=lambda hours: hours.mid)
        ready = [option for option in ready if _tie(option.run_hours, fastest)]
    return min(ready, key=order).rank


def _tie(one: Interval, other: Interval) -> bool:
    return one.low_80 <= other.mid <= one.high_80 and other.low_80 <= one.mid <= other.high_80


def job_summary(profile: JobProfile) -> JobSummary:
    """Return what an answer says about its job."""
    measured, variation = profile.measured, profile.batch.variation
    return JobSummary(
        name=profile.name,
        precision=profile.precision,
        parameters=sum(group.count for group in profile.parameters),
        trainable_parameters=profile.trainable_parameters,
        step_flops=profile.step_flops,
        batch_flops=None if variation is None else (variation.smallest_flops, variation.largest_flops),
        work_note=profile.work_note,
        optimizer_steps=profile.plan.optimizer_steps,
        steps_note=profile.plan.steps_note,
        global_batch_size=profile.global_samples_per_step,
        trace_coverage=rounded(profile.coverage),
        input_known=input_pipeline(profile).worker_s is not None,
        measured_on=None if measured is None else measured.device_name,
        measured_step_s=None if measured is None else measured.step.median_s,
    )


def _plan_assumption(profile: JobProfile, asked: Constraints) -> str:
    own = profile.parallel.strategy
    kept = (
        "each machine runs the fastest strategy and micro-batch that fit"
        if "plan" in asked.allow
        else f"the script's own strategy ({own}, on several devices {own_sharding(profile).upper()}) and micro-batch "
        "are " + ("kept" if asked.keep_plan else "kept where they fit, and what is changed is named")
    )
    if profile.batch.batch_norm is None:
        return (
            f"{kept}; whether the model has BatchNorm, which sees fewer samples on more devices, is not known"
        )
    if not profile.batch.batch_norm:
        return kept
    lowered = "may have fewer samples than in the script, which changes what is trained"
    return f"{kept}; under BatchNorm a device " + (
        lowered if "batch-norm" in asked.allow else f"never {lowered[4:]}"
    )


def _assumptions(profile: JobProfile, request: Request, notes: tuple[str, ...]) -> tuple[str, ...]:
    asked = request.constraints
    lines = [
        (
            "the global batch stays what the profile trains with: more devices share it, and the number of optimizer "
            "steps does not change"
            + (
                ", but where all accelerators cannot share it the nearest batch that they can is trained with, in as "
                "many steps as see the same samples: the learning rate must be set anew and the result may differ"
                if "batch" in asked.allow
                else ""
            )
            + f"; up to {request.plan_space.node_counts(profile)[-1]} machines of one kind"
        ),
        _plan_assumption(profile, asked),
        (
            "intervals are the central 80 %; an option is feasible when it keeps budget and deadline "
            f"together with {asked.confidence:.0%} confidence"
        ),
        (
            "machines marked 'needs porting' do not run the script as it is, are never called cheapest "
            "or fastest, and do not push others off the cost-time front"
        ),
    ]
    if not request.all_regions:
        lines.append("each machine is listed once per number of machines, at its cheapest region")
    if asked.purchase is None:
        lines.append("spot, reserved, savings-plan and capacity-block prices are left out unless asked for")
    if profile.plan.optimizer_steps is None and (asked.max_usd, asked.deadline_hours) != (None, None):
        lines.append("the length of the run is not known: budget and deadline could not be applied")
    lines += cost_assumptions(profile, asked.run_cost, asked.data_gb)
    lines += [f"profile: {note}" for note in profile.notes]
    return (*lines, *notes)
