"""
The cost of the same run in a later year, for two different questions.

"compute": the same computation on the hardware that can be rented then. "quality": the same quality with the methods of
that year, which also need less computation. y(t) = y0 - (lambda_hardware + lambda_algorithms) tau + noise.

The rates that ship with the package are published, each with its source in `published_rates.csv` in this folder.
Hardware price-performance makes the same computation cheaper; better algorithms reduce the computation that the same
quality needs. The list price of one machine type mostly does not change at all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from trainfare_core.decline.forecast import Basis, Forecast, LogSpread
from trainfare_core.decline.records import DeclineError
from trainfare_core.decline.uncertain_rate import UncertainRate

AlgorithmDomain: TypeAlias = Literal["language", "vision"]

HARDWARE_LOG_PER_YEAR = 0.30
HARDWARE_STD = 0.06
"""Chosen to cover the hardware rows of the table, which fall by 0.23 to 0.34 a year in log."""
DIFFUSION_PER_SQRT_YEAR = 0.5
"""
Standard deviation of ln(price) about the trend after one year. Chosen: a one-year H100 contract rose from $1.70 to
$2.65 in eight months (October 2025 to June 2026), 1.6 such deviations off the trend.
"""


def hardware() -> UncertainRate:
    """Return the decline of the price of performance: lambda 0.30 +- 0.06 a year, 26 % cheaper (18 to 33 %)."""
    return UncertainRate.normal(HARDWARE_LOG_PER_YEAR, HARDWARE_STD)


def algorithms(domain: AlgorithmDomain) -> UncertainRate:
    """
    Return the decline of the computation needed for a quality.

    Language: halving in 8 months, 90 % interval 2 to 22 (Ho et al. 2024 as published; the preprint's is narrower).
    Vision: 9 months, 95 % interval 4 to 25 (Erdil & Besiroglu 2022).
    """
    return (
        UncertainRate.halving(8, 2, 22, 0.90)
        if domain == "language"
        else UncertainRate.halving(9, 4, 25, 0.95)
    )


CostQuestion: TypeAlias = Literal["compute", "quality"]


@dataclass(frozen=True, slots=True)
class Rates:
    """
    The rates at which the components of a cost decline.

    Attributes:
        hardware: decline of the price of performance, price and peak FLOP/s together.
        algorithms: decline of the computation needed for a quality.
        diffusion_per_sqrt_year: K, standard deviation of ln(cost) about the trend after one year.
        source: of the rates, in a few words.
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
        """Return the total decline for a question: hardware alone, or hardware and algorithms."""
        return self.hardware if question == "compute" else self.hardware.plus(self.algorithms)


def cost_in_year(
    cost_now: float,
    year_now: float,
    year: float,
    *,
    question: CostQuestion,
    rates: Rates | None = None,
    log_sigma_now: float = 0.0,
) -> Forecast:
    """
    Forecast the cost of a run from the rates of its components.

    Args:
        cost_now: cost at `year_now`, above 0; the forecast is in its unit.
        year_now: decimal year.
        year: decimal year, not before `year_now`.
        question: "compute" (FLOP stay the same) or "quality" (FLOP fall as methods improve).
        rates: None takes the shipped rates for language.
        log_sigma_now: standard deviation of ln(cost now), where that is itself an estimate.

    Raises:
        DeclineError: a cost that is not above 0, a year before now, or a negative standard deviation.
    """
    tau = year - year_now
    if not (cost_now > 0 and tau >= 0 and log_sigma_now >= 0):
        raise DeclineError(f"cost in year: {cost_now} in {year_now}, asked for {year}, sigma {log_sigma_now}")
    chosen = rates or Rates()
    rate = chosen.total(question)
    start = math.log(cost_now)
    note = (
        "the same computation, on the hardware of that year"
        if question == "compute"
        else "the same quality, with the methods of that year: needs new code"
    )
    basis = Basis("priors", None, 0.0, 1.0, "prior", None, (note, f"rates: {chosen.source}"))
    swing = chosen.diffusion_per_sqrt_year**2 * tau
    scale = math.sqrt((rate.std * tau) ** 2 + swing + log_sigma_now**2)
    declines = rate.centres if tau else (0.0,)
    parts = tuple(LogSpread(start - decline * tau, scale) for decline in declines)
    return Forecast(year, parts, None, basis)
