"""Are the prices of Azure whole and right? Of the snapshot in CI, of live prices by the scheduled workflow."""

from __future__ import annotations

import pytest

from integrity import book

KARPENTER = "Azure/karpenter-provider-azure@352646f59929"

LIST_PRICES = [
    # karpenter's table is made from the Retail Prices API.
    ("azure:Standard_ND96isr_H100_v5@eastus", 98.32, KARPENTER),
    ("azure:Standard_ND96asr_v4@eastus", 27.197, KARPENTER),
    ("azure:Standard_ND96amsr_A100_v4@eastus", 32.77, KARPENTER),
    ("azure:Standard_NC24ads_A100_v4@eastus", 3.673, KARPENTER),
    ("azure:Standard_NC40ads_H100_v5@centralus", 8.585, KARPENTER),  # a catalogue's hand-made row says 6.98
    ("azure:Standard_NC4as_T4_v3@eastus", 0.526, KARPENTER),
]


@pytest.mark.parametrize(
    ("machine", "usd_per_hour", "source"), LIST_PRICES, ids=[row[0] for row in LIST_PRICES]
)
def test_hand_checked_list_prices(machine: str, usd_per_hour: float, source: str) -> None:
    """Prices that were checked by hand against their sources agree to the cent."""
    book.list_price_is(machine, usd_per_hour, source)


def test_prices_are_finite_and_above_nothing() -> None:
    """No zero, no NaN, no sentinel."""
    book.prices_are_prices("azure")


def test_machines_have_vcpus_and_memory() -> None:
    """A machine without a host is not one."""
    book.resources_are_there("azure")


def test_accelerators_are_the_maker_s() -> None:
    """Name, count and memory fit each other and the catalogue."""
    book.accelerators_are_consistent("azure")


def test_expected_regions_are_there() -> None:
    """A list that lost a large region is not whole."""
    book.these_are_offered("azure", "region", ("eastus", "westus2", "westeurope", "southcentralus"))


def test_expected_accelerators_are_there() -> None:
    """A list that lost an accelerator is not whole."""
    book.these_are_offered(
        "azure",
        "accelerator",
        ("T4-16GB", "A10-24GB", "A100-PCIE-80GB", "A100-SXM-80GB", "H100-SXM-80GB", "H100-NVL-94GB"),
    )


def test_spot_costs_at_most_on_demand() -> None:
    """For 99 % of the machines and regions that have both."""
    book.spot_is_cheaper("azure", least_pairs=80)


def test_every_row_is_accounted_for() -> None:
    """Accepted, filtered and quarantined add up, and at most 5 % is quarantined."""
    book.every_row_is_accounted_for("azure")


def test_the_conformance_kit_finds_nothing() -> None:
    """What is asked of a third party's cloud is asked of this one."""
    book.no_findings("azure")
