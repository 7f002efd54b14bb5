"""
Chances that a run keeps its budget and its deadline (part of stage 6).

Hours H and the price P are independent and log-normal, and dollars are H x P. A price that does not move leaves one
uncertain quantity, and the tighter limit alone decides. On spot machines hours and billed hours have the joint
distribution of `RunEnds` instead.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from trainfare_core.arrays import Array, Column, Rows
from trainfare_core.interruptions.ends import find_normals
from trainfare_core.run_cost.billing import book_block_hours, find_block_use
from trainfare_core.run_cost.table import NOT_SPOT, RunTable

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(40)
"""Of Gauss-Legendre quadrature over sixteen standard deviations: 40 nodes give a chance to 1e-6."""
_CERTAIN: Final = 1e-9
"""Standard deviation of a logarithm up to which a quantity is certain: below the last digit of any figure here."""
_FARTHEST: Final = 8.0
"""Standard deviations beyond which a normal distribution holds less than 1e-15."""

_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def find_hours(runs: RunTable, rows: Rows, chance: float | Column) -> Column:
    """Return the hours within which runs end with a probability, one for all or one each, shape (k,)."""
    hours: Column = runs.hours[rows] * np.exp(find_normals(chance) * runs.log_sigma[rows])
    spot = np.flatnonzero(runs.hazard[rows] != NOT_SPOT)
    if len(spot):
        asked = np.broadcast_to(chance, len(rows))[spot]
        hours[spot] = runs.ends.select(runs.ends_row[rows[spot]]).find_hours(asked)
    return hours


def find_billed_hours(runs: RunTable, rows: Rows, price_sigma: Column, chance: float | Column) -> Column:
    """Return what billed hours x (price now / price seen) do not exceed with a probability, shape (k,)."""
    width = np.hypot(runs.log_sigma[rows], price_sigma)
    hours: Column = runs.billed_hours[rows] * np.exp(find_normals(chance) * width)
    in_block = runs.in_block[rows]
    if in_block.any():
        normals, sigma = find_normals(chance), runs.log_sigma[rows]
        booked = book_block_hours(runs.hours[rows] * np.exp(normals * sigma))
        hours = np.where(in_block, booked * np.exp(normals * (width - sigma)), hours)
    spot = np.flatnonzero(runs.hazard[rows] != NOT_SPOT)
    if len(spot):
        # The offers of a machine differ in price, but few in the doubt of it.
        asked: Array = np.column_stack(
            [rows[spot].astype(np.float64), price_sigma[spot], np.broadcast_to(chance, len(rows))[spot]]
        )
        distinct, places = np.unique(asked, axis=0, return_inverse=True)
        ends = runs.ends.select(runs.ends_row[distinct[:, 0].astype(np.int64)])
        hours[spot] = ends.find_billed_hours(distinct[:, 2], distinct[:, 1])[places.ravel()]
    return hours


def find_chances(
    runs: RunTable, rows: Rows, deadline_hours: float, billed_hours: Column, price_sigma: Column
) -> Column:
    """
    Return the chance that runs keep both limits, shape (k,).

    Args:
        runs: the runs.
        rows: of `runs`, shape (k,).
        deadline_hours: inf: there is none.
        billed_hours: which the budget pays at the price seen, shape (k,); inf: there is none.
        price_sigma: standard deviation of ln(price), shape (k,).
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        hours_margin = np.log(deadline_hours / runs.hours[rows])
        usd_margin = np.log(
            np.where(
                runs.in_block[rows],
                find_block_use(billed_hours) / runs.hours[rows],
                billed_hours / runs.billed_hours[rows],
            )
        )
    chances = np.ones(len(rows))
    spot = runs.hazard[rows] != NOT_SPOT
    sure, spot = np.flatnonzero(~spot), np.flatnonzero(spot)
    chances[sure] = chances_of_both(
        hours_margin[sure], usd_margin[sure], runs.log_sigma[rows[sure]], price_sigma[sure]
    )
    if len(spot):
        deadline = np.full(len(spot), deadline_hours)
        ends = runs.ends.select(runs.ends_row[rows[spot]])
        chances[spot] = ends.find_chances(deadline, billed_hours[spot], price_sigma[spot])
    return chances


def probability(limit: float, median: float, log_sigma: float) -> float:
    """Chance that a log-normal quantity is at most `limit`; all in the same unit."""
    if limit <= 0:
        return 0.0
    if math.isinf(limit) or median <= 0:
        return 1.0
    return float(_below(np.array([math.log(limit / median)]), np.array([log_sigma]))[0])


def chances_of_both(
    hours_margin: Column, usd_margin: Column, hours_sigma: Column, price_sigma: Column
) -> Column:
    """
    Return the chance that hours and dollars of each of k runs both stay within their limits, shape (k,).

    Args:
        hours_margin: ln(deadline / median hours); inf where there is no deadline.
        usd_margin: ln(budget / median dollars); inf where there is no budget.
        hours_sigma: standard deviation of ln(hours).
        price_sigma: standard deviation of ln(price).
    """
    sure_price = price_sigma <= _CERTAIN
    no_deadline, no_budget = np.isposinf(hours_margin), np.isposinf(usd_margin)
    tighter = np.minimum(hours_margin, usd_margin)  # where only one limit is given, that one
    sigma = np.where(no_deadline & ~sure_price, np.hypot(hours_sigma, price_sigma), hours_sigma)
    chances = _below(tighter, sigma)
    rows = np.flatnonzero(~(sure_price | no_deadline | no_budget | np.isneginf(tighter)))
    if len(rows):
        chances[rows] = _both_in_doubt(
            hours_margin[rows], usd_margin[rows], hours_sigma[rows], price_sigma[rows]
        )
    return chances


def _both_in_doubt(
    hours_margin: Column, usd_margin: Column, hours_sigma: Column, price_sigma: Column
) -> Column:
    # Integrate over the surer of the two, so that the chance of the other is a smooth function of it.
    sure_hours = hours_sigma <= _CERTAIN
    over_hours = price_sigma >= hours_sigma
    latest = np.minimum(hours_margin / np.where(sure_hours, 1.0, hours_sigma), _FARTHEST)
    latest = np.where(sure_hours, np.where(hours_margin < 0, -_FARTHEST, _FARTHEST), latest)
    # Below this deviation of the price the deadline is the tighter limit, above it the budget.
    turn = np.clip((usd_margin - hours_margin) / price_sigma, -_FARTHEST, _FARTHEST)
    in_time = np.where(over_hours, 0.0, _cdf(turn) * _below(hours_margin, hours_sigma))
    return np.minimum(
        1.0,
        in_time
        + _mean_below(
            usd_margin,
            np.where(over_hours, hours_sigma, price_sigma),
            np.where(over_hours, price_sigma, hours_sigma),
            np.where(over_hours, -_FARTHEST, turn),
            np.where(over_hours, latest, _FARTHEST),
        ),
    )


def _mean_below(margin: Column, slope: Column, log_sigma: Column, low: Column, high: Column) -> Column:
    """Integrate, over a standard normal x from low to high, the chance that a deviate is at most margin - slope x."""
    half = np.maximum(high - low, 0.0)[:, None] / 2
    points = low[:, None] + half * (1 + _NODES)
    density = np.exp(-(points**2) / 2) / math.sqrt(2 * math.pi)
    inside = _below(margin[:, None] - slope[:, None] * points, log_sigma[:, None])
    total: Column = np.sum(half * _WEIGHTS * density * inside, axis=1)
    return total


def _below(margin: Column, log_sigma: Column) -> Column:
    """Chance that a normal deviate of mean 0 is at most `margin`."""
    certain = log_sigma <= _CERTAIN
    chance = _cdf(margin / np.where(certain, 1.0, log_sigma))
    return np.where(certain, np.where(margin >= 0, 1.0, 0.0), chance)


def _cdf(deviate: Column) -> Column:
    """Return the chance that a standard normal deviate is at most so large."""
    chance: Column = 0.5 * _erfc(-deviate / math.sqrt(2))
    return chance
