"""
Interruptions per hour of a spot machine, from the bands that clouds publish.

A band is the share of capacity that was taken back within a month. No cloud says how long those machines had run, so a
band is a wide range of hourly rates, and `Hazard` keeps both of its ends.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainfare_core.clouds import HOURS_PER_MONTH, INTERRUPTION_BANDS
from trainfare_core.run_cost_facts import Unknown, interruption_band
from trainfare_core.run_cost_facts.table import matching

_BAND_SHARES: Final = ((0.01, 0.05), (0.05, 0.10), (0.10, 0.15), (0.15, 0.20), (0.20, 0.90))
"""Both ends of each of `INTERRUPTION_BANDS`. The lowest band has no lower end and the highest no upper end: 1 % and
90 % are chosen values, the latter a pool that gives back nearly all of its machines within a month."""

BANDS_PER_YEAR: Final = 1
"""By which a band may have moved to either side for each year since it was read: a planning figure, since no cloud
publishes its earlier bands."""

LONGEST_LIFE_HOURS: Final = HOURS_PER_MONTH
SHORTEST_LIFE_HOURS: Final = 24.0
"""What a band leaves open: its machines may have run all month, or a day each, the length of a training job. The lower
end of a hazard takes the lower end of the band over the month, the upper end the upper one over the day."""

_PRIOR_PER_HOUR: Final = (0.001, 0.1)
"""Where nothing is published of a machine: once in six weeks to once in ten hours. Google's range for all of its types
(5 to 15 % in a day or in a week, `spot_preemption` of the run-cost facts) and the upper ends of all bands lie
between or near these ends."""

CHANCES: Final = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Quantiles that stand for a hazard, equally likely: the middles of five parts. Beyond the ends nothing is known, so a
mean over them is one of the middle 80 %, and is called so."""

_Z: Final = np.array([NormalDist().inv_cdf(chance) for chance in CHANCES])


@dataclass(frozen=True, slots=True)
class Hazard:
    """
    How often one spot machine is taken back.

    Attributes:
        low_per_hour: lower end of the central 80 %, interruptions per machine and hour.
        high_per_hour: upper end.
        words: where it comes from.
    """

    low_per_hour: float
    high_per_hour: float
    words: str

    @property
    def median_per_hour(self) -> float:
        """Interruptions per machine and hour, the geometric middle of both ends."""
        return math.sqrt(self.low_per_hour * self.high_per_hour)

    @property
    def per_hour(self) -> NDArray[np.float64]:
        """Five equally likely rates per machine and hour, rising, shape (5,): quantiles of a log-normal."""
        log_sigma = math.log(self.high_per_hour / self.low_per_hour) / (2 * float(_Z[-1]))
        return np.asarray(self.median_per_hour * np.exp(log_sigma * _Z))


def _of_bands(lowest: int, highest: int) -> Hazard:
    low, high = _BAND_SHARES[lowest][0], _BAND_SHARES[highest][1]
    first, last = INTERRUPTION_BANDS[lowest], INTERRUPTION_BANDS[highest]
    return Hazard(
        -math.log1p(-low) / LONGEST_LIFE_HOURS,
        -math.log1p(-high) / SHORTEST_LIFE_HOURS,
        f"{first} a month" if lowest == highest else f"{first} to {last} a month in other regions or years",
    )


_RANGES: Final = tuple(
    (low, high) for low in range(len(INTERRUPTION_BANDS)) for high in range(low, len(INTERRUPTION_BANDS))
)

PRIOR: Final = 0
"""Row of `HAZARDS` for machines of which nothing is published."""

HAZARDS: Final = (
    Hazard(*_PRIOR_PER_HOUR, "not published: a wide planning figure"),
    *(_of_bands(low, high) for low, high in _RANGES),
)
"""The prior, and every range of bands from a lowest to a highest one."""


def hazard_of_range(lowest: str, highest: str, years: int = 0) -> int:
    """Return the row of `HAZARDS` for a range of `INTERRUPTION_BANDS` that was read so many years ago."""
    most = len(INTERRUPTION_BANDS) - 1
    moved = years * BANDS_PER_YEAR
    low = max(INTERRUPTION_BANDS.index(lowest) - moved, 0)
    return 1 + _RANGES.index((low, min(INTERRUPTION_BANDS.index(highest) + moved, most)))


def hazard_of_band(band: str) -> int:
    """
    Return the row of `HAZARDS` for one band.

    >>> HAZARDS[hazard_of_band(">20%")].words
    '>20% a month'
    """
    return hazard_of_range(band, band)


@lru_cache(maxsize=4096)
def find_hazards(cloud: str, instance_type: str, as_of: date | None = None) -> tuple[Mapping[str, int], int]:
    """
    Return what is published of a machine type.

    Args:
        cloud: as in the price book.
        instance_type: as in the price book.
        as_of: the day to which the ages of bands count, in whole years; None takes each as of now.

    Returns:
        The row of `HAZARDS` by region, and the row for every other region: the range of the known ones, or `PRIOR`.
    """
    regions = {row.region for row in matching("spot_interruption_band", cloud, machine=instance_type)}
    hazards: dict[str, int] = {}
    for region in sorted(regions):
        band = interruption_band(cloud, instance_type, region)
        if not isinstance(band, Unknown):
            hazards[region] = hazard_of_range(band.lowest, band.highest, _count_years(band.as_of, as_of))
    elsewhere = interruption_band(cloud, instance_type, "")
    if isinstance(elsewhere, Unknown):
        return hazards, PRIOR
    years = _count_years(elsewhere.as_of, as_of)
    return hazards, hazard_of_range(elsewhere.lowest, elsewhere.highest, years)


def _count_years(read_on: str, as_of: date | None) -> int:
    """Return whole years since a day, month or year."""
    if as_of is None:
        return 0
    year, month, day = (*map(int, read_on.split("-")), 1, 1)[:3]
    return max(as_of.year - year - ((as_of.month, as_of.day) < (month, day)), 0)
