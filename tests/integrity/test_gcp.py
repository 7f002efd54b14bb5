"""Are the prices of Google Cloud whole and right? Of the snapshot in CI, of live prices by the scheduled workflow."""

from __future__ import annotations

import pytest

from integrity import book

CYCLENERD = "Cyclenerd/google-cloud-pricing-cost-calculator@fd66b26"
SKYPILOT = "skypilot-org/skypilot-catalog@006059e0f18a"

LIST_PRICES = [
    ("gcp:a2-highgpu-1g@us-central1", 3.673385, CYCLENERD),  # = 12 cores + 85 GiB + one GPU by the SKUs
    ("gcp:a2-ultragpu-1g@us-central1", 5.06879789, CYCLENERD),
    (
        "gcp:a3-highgpu-8g@us-central1",
        88.49,
        CYCLENERD,
    ),  # with local SSD; a catalogue's reservation SKU says a third
    ("gcp:g2-standard-4@us-central1", 0.70683226, CYCLENERD),
    (
        "gcp:a3-ultragpu-8g@us-central1",
        84.806908,
        "cloud.google.com",
    ),  # a catalogue's reservation SKU says 36.60
    ("gcp:v5p-8@us-east5", 16.80, SKYPILOT),  # 4 chips of 4.20
    ("gcp:v5litepod-8@us-central1-a", 9.60, SKYPILOT),  # 8 chips of 1.20
    ("gcp:v4-8@us-central2", 12.88, SKYPILOT),  # 4 chips of 3.22
]


@pytest.mark.parametrize(
    ("machine", "usd_per_hour", "source"), LIST_PRICES, ids=[row[0] for row in LIST_PRICES]
)
def test_hand_checked_list_prices(machine: str, usd_per_hour: float, source: str) -> None:
    """Prices that were checked by hand against their sources agree to the cent."""
    book.list_price_is(machine, usd_per_hour, source)


def test_prices_are_finite_and_above_nothing() -> None:
    """No zero, no NaN, no sentinel."""
    book.prices_are_prices("gcp")


def test_machines_have_vcpus_and_memory() -> None:
    """A machine without a host is not one."""
    book.resources_are_there("gcp")


def test_accelerators_are_the_maker_s() -> None:
    """Name, count and memory fit each other and the catalogue."""
    book.accelerators_are_consistent("gcp")


def test_expected_regions_are_there() -> None:
    """A list that lost a large region is not whole."""
    book.these_are_offered("gcp", "region", ("us-central1", "us-east1", "europe-west4", "asia-southeast1"))


def test_expected_accelerators_are_there() -> None:
    """A list that lost an accelerator is not whole."""
    book.these_are_offered(
        "gcp",
        "accelerator",
        (
            "T4-16GB",
            "L4-24GB",
            "A100-SXM-40GB",
            "A100-SXM-80GB",
            "H100-SXM-80GB",
            "TPU-v5e",
            "TPU-v5p",
            "TPU-v6e",
        ),
    )


def test_spot_costs_at_most_on_demand() -> None:
    """For 99 % of the machines and regions that have both."""
    book.spot_is_cheaper("gcp", least_pairs=400)


def test_every_row_is_accounted_for() -> None:
    """Accepted, filtered and quarantined add up, and at most 5 % is quarantined."""
    book.every_row_is_accounted_for("gcp")


def test_the_conformance_kit_finds_nothing() -> None:
    """What is asked of a third party's cloud is asked of this one."""
    book.no_findings("gcp")
