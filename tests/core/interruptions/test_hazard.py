"""How often machines are taken back: from the published bands, with the doubt that these leave."""

from __future__ import annotations

import math
from datetime import date

import numpy as np
import pytest

from trainfare_core.interruptions.hazard import HAZARDS, PRIOR, find_hazards, hazard_of_band, hazard_of_range


def test_a_band_is_read_over_the_month_and_over_a_day() -> None:
    """10 to 15 % taken back: at least 10 % in 730 hours, at most 15 % in 24 hours."""
    hazard = HAZARDS[hazard_of_band("10-15%")]
    assert hazard.low_per_hour == pytest.approx(-math.log(0.90) / 730)
    assert hazard.high_per_hour == pytest.approx(-math.log(0.85) / 24)


def test_a_band_open_at_the_top_is_wider_than_the_others() -> None:
    """Above 20 % may be nearly all: two factors of ten more doubt than a band with both ends has."""
    width = {band: HAZARDS[hazard_of_band(band)] for band in (">20%", "15-20%")}
    open_, closed = (hazard.high_per_hour / hazard.low_per_hour for hazard in width.values())
    assert open_ > 5 * closed


def test_the_rates_are_quantiles_of_the_interval() -> None:
    """The ends of the 80 % interval and its middle are among the five, which are equally likely."""
    hazard = HAZARDS[PRIOR]
    np.testing.assert_allclose(hazard.per_hour[[0, 2, 4]], [0.001, 0.01, 0.1])


def test_a_region_s_own_band_is_used_and_the_range_elsewhere() -> None:
    """g5.xlarge has bands of its own in some regions; in others it has the range of those."""
    regions, elsewhere = find_hazards("aws", "g5.xlarge")
    assert regions["us-east-1"] == hazard_of_band(">20%")
    assert regions["eu-north-1"] == hazard_of_band("5-10%")
    assert "no-such-region" not in regions
    assert elsewhere == hazard_of_range("5-10%", ">20%")


@pytest.mark.parametrize(
    ("day", "low", "high"),
    [
        ((2025, 6, 1), "10-15%", "10-15%"),
        ((2026, 5, 31), "10-15%", "10-15%"),
        ((2026, 6, 1), "5-10%", "15-20%"),
        ((2027, 6, 1), "<5%", ">20%"),
        ((2099, 1, 1), "<5%", ">20%"),
        ((2024, 1, 1), "10-15%", "10-15%"),
    ],
)
def test_a_band_ages(day: tuple[int, int, int], low: str, high: str) -> None:
    """The 10 to 15 % of p4d in 2025-06 is one band wider to either side a year later, and never beyond the outermost."""
    regions, elsewhere = find_hazards("aws", "p4d.24xlarge", date(*day))
    assert regions["us-east-1"] == hazard_of_range(low, high)
    fresh = HAZARDS[find_hazards("aws", "p4d.24xlarge")[1]]
    assert HAZARDS[elsewhere].high_per_hour >= fresh.high_per_hour


def test_what_nobody_publishes_has_the_prior() -> None:
    """Azure and Google publish no band of a machine."""
    for cloud, machine in (("azure", "Standard_ND96asr_v4"), ("gcp", "a2-highgpu-1g"), ("example", "x")):
        assert find_hazards(cloud, machine) == ({}, PRIOR)


def test_a_hazard_says_its_bands() -> None:
    """One band is of the machine's region, a range of the other regions'."""
    assert HAZARDS[hazard_of_band("10-15%")].words == "10-15% a month"
    assert HAZARDS[hazard_of_range("<5%", ">20%")].words == "<5% to >20% a month in other regions or years"
