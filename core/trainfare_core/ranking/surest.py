"""
The run that keeps the smallest budget, or the earliest deadline, with the asked confidence (part of stage 6).

A cheaper run whose time or price is uncertain may need a larger budget than a more expensive one with narrow intervals.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np

from trainfare_core.arrays import Column
from trainfare_core.candidates import take
from trainfare_core.job_profile import JobProfile
from trainfare_core.prices.book import PriceBook
from trainfare_core.ranking.entries import Entries, every_offer
from trainfare_core.ranking.options.options import OptionMaker
from trainfare_core.ranking.pricing.chances import find_hours
from trainfare_core.ranking.pricing.plan_search import Predictor
from trainfare_core.ranking.pricing.price_doubt import usable_offers
from trainfare_core.ranking.pricing.priced_runs import Limits, PricedRuns
from trainfare_core.ranking.pricing.request import Request
from trainfare_core.ranking.pricing.run_pricer import RunPricer
from trainfare_core.recommendation import Constraints, Option

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
