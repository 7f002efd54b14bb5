"""
Forecast what the run of the cheapest option costs later, and whether to wait for that (part of stage 6).

Only price-performance of new hardware makes the same computation cheaper here: the ranking already takes the best
machine of today, new methods need new code, and the list price of one machine type mostly does not move. Nothing here
reads a clock: "now" is the day of the price.
"""

from __future__ import annotations

import math
from typing import Final, Literal

from trainfare_core.clouds import HOURS_PER_MONTH
from trainfare_core.decline import LogRate, Outlook, Rates, UncertainRate, outlook
from trainfare_core.prices.age_doubt import Z_80
from trainfare_core.recommendation import (
    Constraints,
    CostOutlook,
    FutureCost,
    Option,
    OutlookPart,
    Recommendation,
    WaitingValue,
)

HORIZON_MONTHS: Final = 12
"""Wait that the verdict weighs. A chosen value."""

MAX_RUN_HOURS: Final = 100 * 12 * HOURS_PER_MONTH
"""A century. A chosen value: rates of decline say nothing about a model that is ready later, and what waiting is worth
grows with the exponential of the run's length until no number holds it."""

DISCOUNT_PER_YEAR: Final = 0.1
"""Continuous discount rate of money. A chosen value, stated in the assumptions."""

QUALITY_MONTHS: Final = (0, 3, 6, 12, 18, 24, 36)
"""Dates of the forecast at equal quality, months from now: three years, denser at the start."""

MIN_CONFIDENCE: Final = 0.51
"""`outlook` needs more than 0.5, at which the two ends of its interval would coincide."""


def with_outlook(recommendation: Recommendation) -> Recommendation:
    """Add the outlook of the cheapest drop-in to an answer; where there is none, or it runs too long, add nothing."""
    best = recommendation.best("cheapest")
    if best is None or not best.run_usd.low_80 > 0 or best.run_hours.mid > MAX_RUN_HOURS:
        return recommendation
    outlook = cost_outlook(best, recommendation.constraints)
    return recommendation.model_copy(update={"outlook": outlook})


def cost_outlook(option: Option, constraints: Constraints) -> CostOutlook:
    """
    Forecast the run of one option and weigh waiting.

    Args:
        option: its `run_usd`, above 0, is the cost on the day of its price.
        constraints: deadline, confidence and what a month earlier is worth.
    """
    rates = Rates()
    usd = option.run_usd
    sigma = math.log(usd.high_80 / usd.low_80) / (2 * Z_80)
    run_months = option.run_hours.mid / HOURS_PER_MONTH
    left = None if constraints.deadline_hours is None else constraints.deadline_hours / HOURS_PER_MONTH
    compute = outlook(
        usd.mid,
        log_sigma=sigma,
        rates=rates,
        value_usd_per_month=constraints.value_usd_per_month,
        time_left_months=left,
        run_months=run_months,
        horizon_months=HORIZON_MONTHS,
        discount_per_year=DISCOUNT_PER_YEAR,
        confidence=max(MIN_CONFIDENCE, constraints.confidence),
    )
    quality = outlook(
        usd.mid,
        log_sigma=sigma,
        question="quality",
        rates=rates,
        months=QUALITY_MONTHS,
        run_months=run_months,
    )
    return CostOutlook(
        rank=option.rank,
        price_observed_on=option.price_observed_on,
        horizon_months=HORIZON_MONTHS,
        verdict=compute.verdict,
        because=compute.because,
        waiting=WaitingValue(
            **{name: _round_value(getattr(compute.waiting, name)) for name in WaitingValue.model_fields}
        ),
        same_compute=_list_costs(compute),
        same_quality=_list_costs(quality),
        parts=(
            _part("hardware", rates.hardware, counted=True),
            _part("price", UncertainRate.normal(0.0, rates.diffusion_per_sqrt_year), counted=True),
            _part("software", rates.algorithms, counted=False),
        ),
        assumptions=_assumptions(option),
    )


def _list_costs(outlook: Outlook) -> tuple[FutureCost, ...]:
    return tuple(
        FutureCost(
            months=cost.months,
            median=_round_value(cost.median),
            chance_cheaper=_round_value(cost.chance_cheaper),
            **{
                f"{end}_{name.removeprefix('within_')}": _round_value(getattr(getattr(cost, name), end))
                for name in ("within_50", "within_80", "within_90")
                for end in ("low", "high")
            },
        )
        for cost in outlook.costs
    )


def _part(
    name: Literal["hardware", "price", "software"], rate: UncertainRate, *, counted: bool
) -> OutlookPart:
    mid, low, high = (_round_value(LogRate(-rate.quantile(p)).decline) for p in (0.5, 0.05, 0.95))
    return OutlookPart(part=name, decline_per_year=mid, low_90=low, high_90=high, counted=counted)


def _assumptions(option: Option) -> tuple[str, ...]:
    lines = [
        "The intervals include the uncertainty of the run itself; the chance and the break-even value do not.",
        f"A wait of {HORIZON_MONTHS} months is weighed; money is discounted at {100 * DISCOUNT_PER_YEAR:.0f} % a year.",
    ]
    if option.purchase_option == "spot":
        lines.append("The price is a spot price, which swings more than list prices do.")
    return tuple(lines)


def _round_value(value: float) -> float:
    """Return nine significant digits: the same bytes whatever libm the machine has."""
    return float(f"{value:.9g}")
