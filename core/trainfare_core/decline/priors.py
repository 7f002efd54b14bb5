"""
Published rates of decline that ship with the package, each with its source in `published_rates.csv` in this folder.

Hardware price-performance makes the same computation cheaper; better algorithms reduce the computation that the same
quality needs. The list price of one machine type mostly does not change at all.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

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
