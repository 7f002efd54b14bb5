"""
Stage 6: constraints, order, cost-time front, and reasons -> `Recommendation`.

**Chance constraints.** A budget or deadline is kept when the chance of keeping both is at least the
confidence. Dollars are hours times a price that may have moved since it was seen (`limits`, `chances`).
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timezone
from typing import Final, get_args

import numpy as np
from numpy.typing import NDArray

from trainfare_core.arrays import Rows
from trainfare_core.candidates import take
from trainfare_core.hardware.earlier_runs import DeviceFigures, EarlierRuns
from trainfare_core.installation import __version__
from trainfare_core.job_profile import JobProfile
from trainfare_core.prediction import predict as predict_plans
from trainfare_core.prices.book import PriceBook
from trainfare_core.ranking.entries import (
    Entries,
    best_entries,
    best_of_each,
    every_offer,
    in_order,
    look_up_entries,
    lowest_offers,
    median_front,
    on_front,
)
from trainfare_core.ranking.fold import fold_options
from trainfare_core.ranking.options.assumed_numbers import list_assumed_numbers
from trainfare_core.ranking.options.assumptions import (
    assumptions_of,
    describe_critical_batch,
    job_summary,
)
from trainfare_core.ranking.options.commitment import find_commitment
from trainfare_core.ranking.options.named_options import find_best, find_own_plan, runner_up_of
from trainfare_core.ranking.options.options import OptionMaker
from trainfare_core.ranking.options.rejections import rejections_of, why_nothing
from trainfare_core.ranking.pricing.plan_search import Predictor
from trainfare_core.ranking.pricing.price_doubt import usable_offers
from trainfare_core.ranking.pricing.priced_runs import Limits
from trainfare_core.ranking.pricing.request import DEFAULT_PURCHASE, Request
from trainfare_core.ranking.pricing.run_pricer import RunPricer
from trainfare_core.recommendation import Constraints, Objective, Option, Recommendation

_BEST_TYPES: Final = 3
"""Accelerators of a cloud whose best options are always listed, so that a runner-up is, whatever `limit` is: the second
can need porting. A chosen value."""

_WORTH_SCALING: Final = 0.8
"""Part of the fastest run's hours that one with the script's batch on each device must not exceed to be named. A chosen
value."""


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
    constraints = request.constraints
    # Before the others, so that its offers and theirs are never in memory together: 100 MB at a million offers.
    best_spot, no_spot_because = _best_spot(profile, book, request, predict)
    scaled = _find_scaled(profile, book, request, predict)
    usable = usable_offers(book, constraints, request.as_of)
    pricer = RunPricer(profile, request, predict)
    priced = pricer.price(usable)
    limits = Limits.of(priced, pricer.applied_limits)
    entries = every_offer(priced, limits) if request.all_regions else lowest_offers(priced, limits)
    marks = on_front(priced, limits, entries)
    maker = OptionMaker(profile, priced, limits.asked, book.newest_date, book.frame, request.writer)
    options = _make_options(maker, entries, marks, request)
    ranks = {objective: find_best(options, objective, constraints) for objective in get_args(Objective)}
    answer = next((option for option in options if option.rank == ranks[request.objective]), None)
    ready = np.unique(entries.run[~priced.needs_porting[entries.run]])
    rejected = rejections_of(priced, limits, constraints, usable)
    fastest = next((option for option in options if option.rank == ranks["fastest"]), None)
    if fastest is None or (scaled and scaled.run_hours.mid > _WORTH_SCALING * fastest.run_hours.mid):
        scaled = None
    return Recommendation(
        tool_version=__version__,
        job=job_summary(profile),
        basis="whole_run" if profile.plan.optimizer_steps is not None else "per_1000_steps",
        objective=request.objective,
        constraints=constraints,
        priced_on=None
        if request.as_of is None
        else request.as_of.astimezone(timezone.utc).date().isoformat(),
        critical_batch=describe_critical_batch(profile, constraints),
        options=options,
        options_total=sum(int(marks.sum()) for marks in limits.affordable_offers()),
        cheapest_rank=ranks["cheapest"],
        fastest_rank=ranks["fastest"],
        best_value_rank=ranks["best_value"],
        runner_up=runner_up_of(
            options,
            answer or next(iter(options), None),
            request.objective,
            constraints,
            object_usd_per_hour=priced.side_costs.object_usd_per_hour,
        ),
        rejections=rejected,
        price_books=usable.book.facts(),
        assumptions=assumptions_of(profile, request, notes),
        assumed_numbers=() if answer is None else list_assumed_numbers(profile, constraints, answer),
        unknown_because=None if options else why_nothing(rejected),
        earlier_runs=tuple(entry for entry in request.earlier_runs if isinstance(entry, EarlierRuns)),
        device_figures=tuple(entry for entry in request.earlier_runs if isinstance(entry, DeviceFigures)),
        best_spot=best_spot,
        fastest_scaled=scaled,
        own_plan=find_own_plan(maker, ready),
        best_commitment=find_commitment(maker, book, request, ready, answer),
        no_spot_because=priced.machines.no_spot_because or no_spot_because,
        other_clouds=_find_cheapest(
            profile,
            usable.left_out.other_clouds,
            request,
            predict,
            on_demand=book,
            all_clouds=True,
            purchase=constraints.purchase or DEFAULT_PURCHASE,
        )[0],
    )


def _best_spot(
    profile: JobProfile, book: PriceBook, request: Request, predict: Predictor
) -> tuple[Option | None, str | None]:
    """Return the cheapest drop-in at a spot price, where no purchase option was named; or why there is none."""
    if request.constraints.purchase is not None:
        return None, None
    return _find_cheapest(profile, book, request, predict, on_demand=book, purchase=("spot",))


def _find_scaled(profile: JobProfile, book: PriceBook, request: Request, predict: Predictor) -> Option | None:
    """Return the fastest drop-in whose devices each keep the batch of a script that says its devices itself."""
    asked = request.constraints
    if profile.batch.scales != "fixed" or asked.scale or asked.keep_plan or "batch" in asked.allow:
        return None
    if profile.plan.optimizer_steps is None:
        return None
    changes = {"scale": "samples", "purchase": asked.purchase or DEFAULT_PURCHASE}
    scaled = replace(request, constraints=asked.model_copy(update=changes), objective="fastest", limit=1)
    return rank(profile, book, scaled, predict=predict).best("fastest")


def _find_cheapest(
    profile: JobProfile,
    book: PriceBook,
    request: Request,
    predict: Predictor,
    *,
    on_demand: PriceBook,
    **changes: object,
) -> tuple[Option | None, str | None]:
    """Return the cheapest drop-in of a book, or why a spot machine is none; `changes` are of the constraints."""
    constraints = request.constraints.model_copy(update=changes)
    usable = usable_offers(book, constraints, request.as_of)
    if not len(usable.book):
        return None, None
    pricer = RunPricer(profile, replace(request, constraints=constraints), predict)
    priced = pricer.price(usable)
    limits = Limits.of(priced, pricer.applied_limits)
    entries = lowest_offers(priced, limits)
    entries = take(entries, ~priced.needs_porting[entries.run])
    if not len(entries.run):
        return None, priced.machines.no_spot_because or None
    first = take(entries, in_order(priced, entries, "cheapest")[:1])
    maker = OptionMaker(profile, priced, limits.asked, book.newest_date, on_demand.frame, request.writer)
    chosen = look_up_entries(priced, first)
    offer = priced.offers.frame.row(int(chosen.offer[0]), named=True)
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
    priced = RunPricer(profile, request, predict).price(usable)
    runs = np.flatnonzero(~priced.needs_porting)
    if len(priced.runs) and not len(runs):
        return "only machines that need porting could run it"
    if not len(runs):
        return why_nothing(rejections_of(priced, Limits.of(priced, Constraints()), constraints, usable))
    maker = OptionMaker(profile, priced, constraints, book.newest_date, book.frame, request.writer)
    run = _likeliest(maker, runs)
    offer = priced.cheapest_offers(priced.machine_of_run[[run]]).row(0, named=True)
    return maker.make(run, offer, rank=1, on_front=False)


def _likeliest(maker: OptionMaker, runs: Rows) -> int:
    """Return the cheapest run with the asked confidence, else the likeliest, else the nearest miss."""
    priced = maker.priced
    machine = priced.machine_of_run[runs]
    price, doubt = priced.machines.lowest_usd_per_hour[machine], priced.machines.lowest_log_sigma[machine]
    limits, usd = maker.constraints, priced.lowest_usd[runs]
    chance = priced.compute_chances(runs, price, doubt, limits)
    hourly = priced.compute_hourly_excess(runs, price, limits)
    excess = hourly
    with np.errstate(divide="ignore", invalid="ignore"):
        for value, limit in ((usd, limits.max_usd), (priced.runs.hours[runs], limits.deadline_hours)):
            excess = excess if limit is None else np.fmax(excess, value / limit)
    second = np.where(chance > 0, usd, excess)
    # A guess keeps no limit for sure: a measured machine with the asked confidence comes before it.
    guess = priced.search.prediction.is_guess[priced.runs.plan[runs]]
    enough_confidence = np.minimum(chance, np.where(guess, limits.confidence / 2, limits.confidence))
    order = np.lexsort(
        (priced.nodes[runs], priced.machine_of_run[runs], second, hourly > 1, -enough_confidence)
    )
    return int(runs[order[0]])


def _make_options(
    maker: OptionMaker, entries: Entries, on_front: NDArray[np.bool_], request: Request
) -> tuple[Option, ...]:
    """Return the first `limit` options, the first of each service and of the best accelerators, and the front."""
    priced, objective = maker.priced, request.objective
    listed = np.unique(
        np.r_[
            best_entries(priced, entries, objective, request.limit),
            best_of_each(priced, entries, objective, ("provider", "service", "purchase_option")),
            best_of_each(priced, entries, objective, ("provider", "accelerator"))[:_BEST_TYPES],
            np.flatnonzero(on_front | median_front(priced, entries)),
        ]
    )
    listed = listed[in_order(priced, take(entries, listed), objective)]
    chosen = look_up_entries(priced, take(entries, listed))
    rows = priced.offers.frame[chosen.offer].iter_rows(named=True)
    return fold_options(
        maker.make(int(chosen.run[index]), row, rank=index + 1, on_front=bool(on_front[listed[index]]))
        for index, row in enumerate(rows)
    )
