"""Spot: notice, interruption bands and what they are worth, prices against on-demand."""

from __future__ import annotations

import itertools

import pytest

from trainfare_core.clouds import INTERRUPTION_BANDS
from trainfare_core.run_cost_facts import (
    Amount,
    InterruptionBand,
    Span,
    Unknown,
    find_fact,
    interruption_band,
)
from trainfare_core.run_cost_facts.table import all_facts


def value(answer: object) -> float:
    assert isinstance(answer, Amount)
    return answer.value


def band(instance_type: str, region: str) -> InterruptionBand:
    band = interruption_band("aws", instance_type, region)
    assert isinstance(band, InterruptionBand)
    return band


def test_notice() -> None:
    for cloud, service, seconds in (("aws", "ec2", 120), ("azure", "azure_vm", 30), ("gcp", "gce", 30)):
        assert value(find_fact("spot_notice", cloud, service=service)) == seconds
    assert isinstance(find_fact("spot_notice", "aws", service="sagemaker"), Unknown)


def test_a_region_s_own_band_is_used_before_one_without_a_region() -> None:
    interruption_band = band("p4d.24xlarge", "us-east-1")
    assert (interruption_band.lowest, interruption_band.highest, interruption_band.region_match) == (
        "10-15%",
        "10-15%",
        "exact",
    )
    assert (interruption_band.as_of, interruption_band.weak) == ("2025-06", False)
    assert [(row.words, row.as_of) for row in interruption_band.unused] == [("5-10%", "2026-02-24")]


def test_a_band_without_a_region_is_used_and_weak_where_the_region_has_none() -> None:
    interruption_band = band("p4d.24xlarge", "eu-west-3")
    assert (interruption_band.lowest, interruption_band.highest, interruption_band.region_match) == (
        "5-10%",
        "5-10%",
        "everywhere",
    )
    assert interruption_band.weak_because == "a rival's text that names no region"


def test_without_either_the_range_of_the_other_regions_is_the_answer() -> None:
    interruption_band = band("p4de.24xlarge", "eu-west-3")
    assert (interruption_band.lowest, interruption_band.highest, interruption_band.region_match) == (
        "<5%",
        "15-20%",
        "other_regions",
    )
    assert len(interruption_band.rows) == 6


@pytest.mark.parametrize(
    ("cloud", "machine", "why"),
    [
        ("aws", "p6-b200.48xlarge", "no region of aws has one"),
        ("aws", "ml.p4d.24xlarge", "no region of aws has one"),
        ("azure", "Standard_ND96isr_H100_v5", "eviction rates to accounts only"),
        ("gcp", "a3-highgpu-8g", "`spot_preemption` is its range for all"),
    ],
)
def test_a_machine_without_bands_is_unknown_and_says_why(cloud: str, machine: str, why: str) -> None:
    band = interruption_band(cloud, machine, "somewhere")
    assert isinstance(band, Unknown)
    assert why in band.because


def test_bands_are_in_aws_s_words_and_ascending() -> None:
    rows = [row for row in all_facts() if row.kind == "spot_interruption_band"]
    assert {row.words for row in rows} == set(INTERRUPTION_BANDS)


def test_one_region_says_little_about_another() -> None:
    """36 % of the pairs of regions of one machine have the same band, as the docstring and the page say."""
    regions: dict[str, list[str]] = {}
    for row in all_facts():
        if row.kind == "spot_interruption_band" and row.region != "*":
            regions.setdefault(row.machine, []).append(row.words)
    pairs = [pair for bands in regions.values() for pair in itertools.combinations(bands, 2)]
    assert len(pairs) == 4311
    assert round(sum(text == other for text, other in pairs) / len(pairs), 2) == 0.36


def test_savings_are_a_share_and_can_be_negative() -> None:
    assert value(find_fact("spot_savings", "aws", "af-south-1", machine="g4dn.12xlarge")) == 0.87
    costlier = find_fact("spot_savings", "aws", "ca-central-1", machine="p5.48xlarge")
    assert value(costlier) == -0.62
    assert isinstance(costlier, Amount)
    assert costlier.weak_because == "says that spot cost more than on-demand"
    assert isinstance(find_fact("spot_savings", "aws", "eu-west-3", machine="p5.48xlarge"), Unknown)


def test_price_ratio_of_a_machine_or_else_of_its_family() -> None:
    assert (
        value(find_fact("spot_price_ratio", "azure", "westeurope", machine="Standard_NC24ads_A100_v4"))
        == 0.2298
    )
    family = find_fact("spot_price_ratio", "aws", "us-east-1", machine="g5.xlarge")
    assert value(family) == 0.389
    assert isinstance(family, Amount)
    assert (family.region_match, family.rows[0].kind) == ("everywhere", "spot_price_ratio_median")
    unknown = find_fact("spot_price_ratio", "azure", "eastus", machine="Standard_NC24ads_A100_v4")
    assert isinstance(unknown, Unknown)
    assert "westeurope" in unknown.known_in


def test_a_spot_price_that_equals_on_demand_is_marked() -> None:
    ratio = find_fact("spot_price_ratio", "azure", "northeurope", machine="Standard_ND96isr_H200_v5")
    assert value(ratio) == 1
    assert isinstance(ratio, Amount)
    assert ratio.weak


def test_the_other_figures_of_spot_markets() -> None:
    assert value(find_fact("spot_zones_at_on_demand_price", "aws", machine="g6.12xlarge")) == 0.031
    assert value(find_fact("spot_zone_spread_median", "aws", machine="g6e.xlarge")) == 1.28
    assert value(find_fact("spot_price_floor", "aws")) == 0.1
    assert value(find_fact("spot_price_move_9_days", "vast", machine="H100-SXM")) == 0.77


def test_google_s_daily_share_is_a_range_and_contradicted() -> None:
    share = find_fact("spot_preemption", "gcp", service="gce")
    assert isinstance(share, Span)
    assert (share.low, share.high, share.unit) == (0.05, 0.15, "share_per_day")
    assert share.weak_because == "a third copy of Google's text says per seven days, not per day"
    assert isinstance(find_fact("spot_preemption", "aws", service="ec2"), Unknown)
