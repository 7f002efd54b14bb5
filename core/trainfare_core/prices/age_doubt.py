"""
How far a price may have moved since it was last seen, by cloud, service, purchase option and age (part of stage 2).

A price that was last seen `age` days ago has changed since with chance p = 1 - exp(-(age / change_days)^change_power);
if it has, ln(price now / price seen) follows a Laplace distribution around 0 with mean size
b = size sqrt(1 - exp(-age / settle_days)). The central interval of level c then reaches b ln(p / (1 - c)) to either
side in ln, and is the price itself where p <= 1 - c. The median is always the last price seen. The four numbers of a
class were fitted to pairs of readings by `research/trainfare_research/runners/price_age.py`, which also scores
them on sources left out.
"""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from trainfare_core.arrays import Column
from trainfare_core.clouds import pricing_service
from trainfare_core.documents import Record, data_text
from trainfare_core.prices.precedence import OWN_RATES

if TYPE_CHECKING:
    import polars as pl

ANY: Final = "*"
"""Stands for every provider and service in the class of a purchase option without readings of its own."""

TOO_OLD_FACTOR: Final = 2.0
"""A spot price whose 80 % interval spans more than this factor from end to end is listed, not ranked. List prices move
seldom, and are ranked at any age."""

Z_80: Final = NormalDist().inv_cdf(0.9)
"""Standard deviations from the median to the edge of the central 80 %."""


class PriceMoves(Record):
    """How the prices of one class move; `provider` and `service` may be `ANY`."""

    provider: str
    service: str
    purchase_option: str
    change_days: float
    change_power: float
    size: float
    settle_days: float
    pairs: int
    """Pairs of readings that the class was fitted to; 0: only the pooled class of its kind."""

    def chance_changed(self, age_days: float) -> float:
        """Return the chance that a price has changed since it was seen."""
        return float(_compute_chance(np.array(age_days), self.change_days, self.change_power))

    def log_half_width(self, age_days: float, level: float = 0.8) -> float:
        """Return how far the central interval of a level reaches, in ln, to either side."""
        return float(log_half_width(self, np.array(age_days), level))


@lru_cache
def price_moves() -> tuple[PriceMoves, ...]:
    """Return all classes, the more specific ones first."""
    return TypeAdapter(tuple[PriceMoves, ...]).validate_json(data_text("price_age.json"))


@lru_cache(maxsize=1024)
def moves_of(provider: str, service: str, purchase_option: str) -> PriceMoves:
    """Return the class of a cloud's service and purchase option, that of the option where it was not measured."""
    service = pricing_service(service)
    return next(
        moves
        for moves in price_moves()
        if moves.provider in (provider, ANY)
        and moves.service in (service, ANY)
        and moves.purchase_option in (purchase_option, ANY)
    )


def log_half_width(moves: PriceMoves, age_days: Column, level: float = 0.8) -> Column:
    """
    Return how far central intervals reach to either side, in ln, shape of `age_days`.

    Args:
        moves: the class.
        age_days: since the price was seen; NaN, an unknown age, counts as infinite.
        level: of the central interval, between 0 and 1.
    """
    age = np.where(np.isnan(age_days), np.inf, age_days)
    changed = _compute_chance(age, moves.change_days, moves.change_power)
    size = moves.size * np.sqrt(-np.expm1(-age / moves.settle_days))
    return size * np.log(np.maximum(changed / (1 - level), 1.0))


def _compute_chance(age_days: Column, change_days: float, change_power: float) -> Column:
    return -np.expm1(-((age_days / change_days) ** change_power))


def price_log_sigma(aged: pl.DataFrame) -> Column:
    """
    Return the normal standard deviation whose central 80 % is that of ln(price now / price seen), shape (rows,).

    Args:
        aged: offers with the columns of `freshness.with_ages`. Negotiated rates are in force by contract: 0.
    """
    import polars as pl

    sigma = np.zeros(aged.height)
    age_days = aged["age_hours"].cast(pl.Float64).fill_null(float("nan")).to_numpy() / 24.0
    names = ("provider", "service", "purchase_option")
    number = aged.select(pl.struct(pl.col(names).cast(pl.String)).rank("dense")).to_series().to_numpy()
    classes, first = np.unique(number, return_index=True)
    for age_class, known in zip(classes.tolist(), aged.select(names)[first].rows(), strict=True):
        here = number == age_class
        sigma[here] = log_half_width(moves_of(*known), age_days[here]) / Z_80
    sigma[(aged["origin"] == OWN_RATES).to_numpy()] = 0.0
    return sigma


def too_old_to_rank(purchase_option: NDArray[np.str_], log_sigma: Column) -> NDArray[np.bool_]:
    """Mark spot prices whose 80 % interval spans more than `TOO_OLD_FACTOR`, shape (rows,)."""
    too_old: NDArray[np.bool_] = (2 * Z_80 * log_sigma > math.log(TOO_OLD_FACTOR)) & (
        purchase_option == "spot"
    )
    return too_old
