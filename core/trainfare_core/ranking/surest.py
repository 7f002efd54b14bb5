"""
The run that keeps the smallest budget, or the earliest deadline, with the asked confidence (part of stage 6).

A cheaper run whose time or price is uncertain may need a larger budget than a more expensive one with narrow intervals.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final, Literal, TypeAlias

import numpy as np

from trainfare_core.arrays import Column
from trainfare_core.candidates import take
from trainfare_core.job_profile import JobProfile
from trainfare_core.prices.book import PriceBook
from trainfare_core.ranking.entries import Entries, every_offer
from trainfare_core.ranking.options.options import OptionMaker
from trainfare_core.ranking.pricing.chances import probability_of_both
from trainfare_core.ranking.pricing.limits import Limits
from trainfare_core.ranking.pricing.plan_search import Predictor
from trainfare_core.ranking.pricing.price_doubt import usable_offers
from trainfare_core.ranking.pricing.priced_runs import PricedRuns
from trainfare_core.ranking.pricing.request import Request
from trainfare_core.ranking.pricing.run_pricer import RunPricer
from trainfare_core.recommendation import Constraints, Option

Quantity: TypeAlias = Literal["usd", "hours"]

_WIDEST: Final = 10.0
"""Standard deviations within which a limit is looked for: a normal distribution holds no more."""
_HALVINGS: Final = 60
"""Of that range: what is left is below the last digit of any figure here."""


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
    # Two limits that each break with half of the doubt break together with no more than all of it.
    confidence = (1 + constraints.confidence) / 2 if limit_both else constraints.confidence
    z = NormalDist().inv_cdf(confidence)
    usd, hours = _alone(priced, entries, z)
    alone = usd if least == "usd" else hours
    best, limit = -1, math.inf
    for row in np.lexsort((entries.offer, entries.run, alone)).tolist():
        if alone[row] >= limit:
            break  # with the other limit it is no smaller
        surest_option = _together(priced, entries, row, constraints, least, float(alone[row]))
        if surest_option < limit:
            best, limit = row, surest_option
    if best < 0:
        return None
    maker = OptionMaker(profile, priced, constraints, book.newest_date, book.frame, request.writer)
    offer = priced.offers.frame.row(int(entries.offer[best]), named=True)
    option = maker.make(int(entries.run[best]), offer, rank=1, on_front=False)
    other = float((hours if least == "usd" else usd)[best]) if limit_both else None
    return SureRun(option, *((limit, other) if least == "usd" else (other, limit)))


def _alone(priced: PricedRuns, entries: Entries, z: float) -> tuple[Column, Column]:
    """Return the dollars and the hours that each entry keeps, whatever becomes of the other, shape (k,)."""
    sigma, once = priced.runs.log_sigma[entries.run], priced.side_costs.once_usd[entries.run]
    usd = once + (entries.usd - once) * np.exp(z * np.hypot(sigma, entries.price_log_sigma))
    return usd, entries.hours * np.exp(z * sigma)


def _together(
    priced: PricedRuns, entries: Entries, row: int, constraints: Constraints, least: Quantity, alone: float
) -> float:
    """Return the smallest limit that an entry keeps together with the other limit; inf where none does."""
    run = int(entries.run[row])
    hours, once = float(entries.hours[row]), float(priced.side_costs.once_usd[run])
    hourly_usd = float(entries.usd[row]) - once
    sigma, price_sigma = float(priced.runs.log_sigma[run]), float(entries.price_log_sigma[row])
    if least == "usd":
        if constraints.deadline_hours is None or hourly_usd <= 0:
            return alone
        other = math.log(constraints.deadline_hours / hours)

        def usd_chance(margin: float) -> float:
            return probability_of_both(other, margin, sigma, price_sigma)

        width = math.hypot(sigma, price_sigma)
        return once + hourly_usd * math.exp(
            _smallest(usd_chance, math.log((alone - once) / hourly_usd), width, constraints.confidence)
        )
    if constraints.max_usd is None or hourly_usd <= 0:
        return alone
    other = math.log((constraints.max_usd - once) / hourly_usd)

    def hours_chance(margin: float) -> float:
        return probability_of_both(margin, other, sigma, price_sigma)

    return hours * math.exp(_smallest(hours_chance, math.log(alone / hours), sigma, constraints.confidence))


def _smallest(chance_of: Callable[[float], float], low: float, width: float, confidence: float) -> float:
    """Return the smallest margin from `low` up whose chance reaches the confidence; inf where none does."""
    if chance_of(low) >= confidence:
        return low
    high = low + _WIDEST * width
    if chance_of(high) < confidence:
        return math.inf
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if chance_of(middle) >= confidence else (middle, high)
    return high
