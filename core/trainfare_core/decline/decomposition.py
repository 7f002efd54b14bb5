"""
The cost of a training run, and how much of a change in cost each cause explains.

C = F p / (Pi u): F FLOP to reach the quality, p USD a device-hour, Pi peak FLOP a device-hour, u utilisation (MFU).
ln(C0 / C1) = ln(F0/F1) [algorithm] + ln(p0/p1) [price] + ln(Pi1/Pi0) [hardware] + ln(u1/u0) [systems software]: exact
and independent of order, so that the log shares are also the Shapley shares.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

from pydantic import Field

from trainfare_core.decline.rates import LogRate
from trainfare_core.decline.records import DeclineError, Finite
from trainfare_core.documents import Answer, Record

Cause: TypeAlias = Literal["total", "algorithm", "price", "hardware", "utilisation", "price_performance"]

SECONDS_PER_HOUR = 3600.0
TOLERANCE = 0.02
"""Largest relative difference of a stated cost from the product of its four factors: published factors are rounded to
two or three digits. Chosen."""


@dataclass(frozen=True, slots=True)
class RunState:
    """
    One run at one date.

    Attributes:
        year: decimal year.
        flop: F, floating-point operations to reach the quality.
        usd_per_device_hour: p.
        peak_flop_per_s: Pi of one device, dense, in the precision used.
        utilisation: u, model FLOP utilisation, 0 < u <= 1.
        stated_cost_usd: cost as published; None where it was not.

    Raises:
        DeclineError: a factor that is not above 0, utilisation above 1, or a stated cost more than 2 % off.
    """

    year: float
    flop: float
    usd_per_device_hour: float
    peak_flop_per_s: float
    utilisation: float
    stated_cost_usd: float | None = None

    def __post_init__(self) -> None:
        factors = (self.flop, self.usd_per_device_hour, self.peak_flop_per_s, self.utilisation)
        if any(not (math.isfinite(factor) and factor > 0) for factor in factors) or self.utilisation > 1:
            msg = f"run: FLOP, price, peak and utilisation must be above 0, and utilisation at most 1: {factors}"
            raise DeclineError(msg)
        stated, actual = self.stated_cost_usd, self.cost_usd
        if stated is not None and not abs(stated - actual) <= TOLERANCE * actual:
            msg = f"run: the cost given, {stated:,.2f} USD, is not FLOP x price / (peak x utilisation) = {actual:,.2f}"
            raise DeclineError(msg)

    @property
    def device_hours(self) -> float:
        """Hours of one device: F / (Pi u)."""
        return self.flop / (self.peak_flop_per_s * SECONDS_PER_HOUR * self.utilisation)

    @property
    def cost_usd(self) -> float:
        """F p / (Pi u)."""
        return self.device_hours * self.usd_per_device_hour


def run_cost(flop: float, peak_flop_per_s: float, mfu: float, usd_per_device_hour: float) -> float:
    """
    Return the cost of a run in USD: flop x price / (peak x utilisation).

    Args:
        flop: floating-point operations of the whole run.
        peak_flop_per_s: dense peak of one device.
        mfu: model FLOP utilisation, 0 < u <= 1.
        usd_per_device_hour: price of one device.

    Raises:
        DeclineError: a factor that is not above 0, or utilisation above 1.
    """
    return RunState(0.0, flop, usd_per_device_hour, peak_flop_per_s, mfu).cost_usd


class PartLine(Record):
    """One cause of a change in cost."""

    cause: Cause
    """"price_performance" is price and hardware together, since p and Pi change together."""
    factor: Finite = Field(description="by which it made the run cheaper; below 1: more expensive")
    share: Finite = Field(description="of the log change; may be negative")
    """Those of the four factors add up to 1."""
    decline_per_year: Finite
    """Of the constant rate with the same effect, as a fraction."""


class DecompositionAnswer(Answer):
    """How much of a change in cost each cause explains."""

    cost_from_usd: Finite
    cost_to_usd: Finite
    years: Finite
    parts: tuple[PartLine, ...]
    """The total last."""


def decompose(earlier: RunState, later: RunState) -> DecompositionAnswer:
    """
    Split the change of cost between two runs of the same quality.

    Raises:
        DeclineError: the second is not after the first, or the cost did not change at all.
    """
    years = later.year - earlier.year
    if not years > 0:
        raise DeclineError(f"decomposition: {later.year} is not after {earlier.year}")
    algorithm = math.log(earlier.flop / later.flop)
    price = math.log(earlier.usd_per_device_hour / later.usd_per_device_hour)
    hardware = math.log(later.peak_flop_per_s / earlier.peak_flop_per_s)
    utilisation = math.log(later.utilisation / earlier.utilisation)
    total = math.fsum((algorithm, price, hardware, utilisation))
    if total == 0:
        raise DeclineError("decomposition: the cost did not change, so it cannot be split")
    logs: dict[Cause, float] = {
        "algorithm": algorithm,
        "price": price,
        "hardware": hardware,
        "price_performance": price + hardware,
        "utilisation": utilisation,
        "total": total,
    }
    parts = tuple(
        PartLine(
            cause=cause,
            factor=1 / LogRate(log).factor,
            share=log / total,
            decline_per_year=LogRate(-log / years).decline,
        )
        for cause, log in logs.items()
    )
    return DecompositionAnswer(
        cost_from_usd=earlier.cost_usd, cost_to_usd=later.cost_usd, years=years, parts=parts
    )
