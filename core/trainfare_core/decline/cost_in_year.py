"""
What the same run costs in a later year: two different questions, kept apart.

"compute": the same computation, on what can be rented then. "quality": the same quality, with the methods of then: less
computation too. y(t) = y0 - (lambda_hardware + lambda_algorithms) tau + noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from .errors import DeclineError
from .forecast import Basis, Forecast, mixture
from .priors import DIFFUSION_PER_SQRT_YEAR, AlgorithmDomain, algorithms, hardware
from .uncertain_rate import UncertainRate

__all__ = ["CostQuestion", "Rates", "cost_in_year"]

CostQuestion: TypeAlias = Literal["compute", "quality"]


@dataclass(frozen=True, slots=True)
class Rates:
    """
    What moves a cost.

    Attributes:
        hardware: decline of price-performance, price and peak together.
        algorithms: decline of the computation that the quality needs.
        diffusion_per_sqrt_year: K, how far ln(cost) wanders about the trend in a year.
        source: where the rates are from, in a few words.
    """

    hardware: UncertainRate = field(default_factory=hardware)
    algorithms: UncertainRate = field(default_factory=lambda: algorithms("language"))
    diffusion_per_sqrt_year: float = DIFFUSION_PER_SQRT_YEAR
    source: str = "published, of hardware and algorithms"

    @classmethod
    def of(cls, domain: AlgorithmDomain) -> Rates:
        """Return the shipped priors for a domain."""
        return cls(algorithms=algorithms(domain))

    def total(self, question: CostQuestion) -> UncertainRate:
        """Return the decline that counts for a question: hardware alone, or with algorithms."""
        return self.hardware if question == "compute" else self.hardware.plus(self.algorithms)


def cost_in_year(
    cost_now: float,
    year_now: float,
    year: float,
    *,
    question: CostQuestion,
    rates: Rates | None = None,
    uncertain: bool = True,
    log_sigma_now: float = 0.0,
) -> Forecast:
    """
    Forecast the cost of a run from rates of its components; better than a trend through two points.

    Args:
        cost_now: cost at `year_now`, above 0; the forecast is in its unit.
        year_now: decimal year.
        year: decimal year, not before `year_now`.
        question: "compute" (FLOP stay the same) or "quality" (FLOP fall as methods get better).
        rates: None takes the shipped priors for language.
        uncertain: False gives the median trend alone, with no doubt at all.
        log_sigma_now: standard deviation of ln(cost now), where that is itself an estimate.

    Raises:
        DeclineError: a cost that is not above 0, a year before now, or a negative doubt.
    """
    tau = year - year_now
    if not (cost_now > 0 and tau >= 0 and log_sigma_now >= 0):
        msg = f"cost in year: {cost_now} in {year_now}, asked for {year}, sigma {log_sigma_now}"
        raise DeclineError(msg)
    chosen = rates or Rates()
    doubt = chosen.total(question)
    start = math.log(cost_now)
    note = (
        "the same computation, on what can be rented then"
        if question == "compute"
        else "the same quality, with the methods of then: needs new code"
    )
    basis = Basis("priors", None, 0.0, 1.0, "prior", None, (note, f"rates: {chosen.source}"))
    if not uncertain:
        return mixture((start - doubt.quantile(0.5) * tau,), 0.0, year, basis)
    swing = chosen.diffusion_per_sqrt_year**2 * tau
    scale = math.sqrt((doubt.std * tau) ** 2 + swing + log_sigma_now**2)
    centres = tuple(start - decline * tau for decline in doubt.centres)
    return mixture(centres if tau else (start,), scale, year, basis)
