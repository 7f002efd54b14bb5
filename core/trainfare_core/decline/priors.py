"""
Published rates of decline that ship with the package, each with its source.

Hardware price-performance makes the same computation cheaper; better algorithms reduce the computation that the same
quality needs. The list price of one machine type mostly does not change at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from .rates import LogRate
from .uncertain_rate import UncertainRate

__all__ = ["PRIORS", "AlgorithmDomain", "PublishedRate", "algorithms", "hardware"]

AlgorithmDomain: TypeAlias = Literal["language", "vision"]

HARDWARE_LOG_PER_YEAR = 0.30
HARDWARE_STD = 0.06
"""Chosen to cover the hardware rows of `PRIORS`, which fall by 0.23 to 0.34 a year in log."""
DIFFUSION_PER_SQRT_YEAR = 0.5
"""
Standard deviation of ln(price) about the trend after one year. Chosen: a one-year H100 contract rose from $1.70 to
$2.65 in eight months (October 2025 to June 2026), 1.6 such deviations off the trend.
"""


@dataclass(frozen=True, slots=True)
class PublishedRate:
    """
    A published or computed rate.

    Attributes:
        component: "hardware", "price", "algorithms" or "frontier".
        what: the quantity.
        rate: as a log-rate a year; below 0 falls.
        period: years of the observations.
        source: publication, or how it was computed.
        caution: limits; may be empty.
    """

    component: Literal["hardware", "price", "algorithms", "frontier"]
    what: str
    rate: LogRate
    period: str
    source: str
    caution: str = ""


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


def _doubling(years: float) -> LogRate:
    return LogRate.from_halving(12 * years)


_HOBBHAHN = "Hobbhahn & Besiroglu 2022"

PRIORS: tuple[PublishedRate, ...] = (
    PublishedRate(
        "hardware",
        "GPU FLOP/s per $, 470 GPUs, doubling in 2.46 years [2.24, 2.72]",
        _doubling(2.46),
        "2006-2021",
        _HOBBHAHN,
    ),
    PublishedRate(
        "hardware", "ML GPUs, doubling in 2.07 years [1.54, 3.13]", _doubling(2.07), "2006-2021", _HOBBHAHN
    ),
    PublishedRate(
        "hardware",
        "GPUs in FP16, doubling in 2.30 years [1.69, 3.62]",
        _doubling(2.30),
        "2006-2021",
        _HOBBHAHN,
    ),
    PublishedRate(
        "hardware",
        "the fastest GPUs, doubling in 2.95 years [2.54, 3.52]",
        _doubling(2.95),
        "2006-2021",
        _HOBBHAHN,
    ),
    PublishedRate(
        "hardware",
        "NVIDIA sales, $44,851 to $14,611 per H100-equivalent",
        LogRate.from_decline(0.259),
        "2022-2025",
        "computed from Epoch AI chip counts and prices",
    ),
    PublishedRate(
        "hardware",
        "rent per tensor TFLOP-hour, V100 on AWS $3.06 (2017) to H100 $2.35 (2026)",
        LogRate.from_decline(0.242),
        "2017-2026",
        "computed from dated list prices",
    ),
    PublishedRate(
        "price",
        "list price of one machine type: AWS K80 $0.90, Azure V100 $3.06, AWS A100 $4.10, unchanged for years",
        LogRate(0.0),
        "2017-2025",
        "dated list prices",
        "exceptions both ways: GCP P100 $2.30 to $1.46, AWS H100 -44 % (2025), H100 contracts +56 % (2025-26)",
    ),
    PublishedRate(
        "algorithms",
        "language models, halving in 8 months, 90 % [2, 22]",
        LogRate.from_halving(8),
        "2012-2023",
        "Ho et al. 2024 (NeurIPS)",
        "needs new code and recipes",
    ),
    PublishedRate(
        "algorithms",
        "vision, halving in 9 months, 95 % [4, 25]",
        LogRate.from_halving(9),
        "2012-2022",
        "Erdil & Besiroglu 2022",
        "needs new code and recipes",
    ),
    PublishedRate(
        "algorithms",
        "AlexNet level, halving in 16 months",
        LogRate.from_halving(16),
        "2012-2019",
        "Hernandez & Brown 2020",
    ),
    PublishedRate(
        "algorithms",
        "NanoGPT speedrun on one machine, 36.6 times faster in 2.13 years",
        LogRate.from_decline(0.8149),
        "2024-2026",
        "computed from the record list",
        "records, and slowing down",
    ),
    PublishedRate(
        "algorithms",
        "GPT-2 level, $43,008 to $39.60: hardware, price and software together",
        LogRate.from_decline(0.6276),
        "2019-2026",
        "computed from nanochat",
        "at $3 an H100-hour",
    ),
    PublishedRate(
        "frontier",
        "the most expensive runs, 2.4 times more expensive each year [2.0, 3.1]",
        LogRate.from_factor(1 / 2.4),
        "2016-2024",
        "Cottier et al. 2024",
        "the frontier rises while a fixed capability falls",
    ),
)
