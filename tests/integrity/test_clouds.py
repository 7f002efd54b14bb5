"""Completeness and credibility of each cloud's prices: of the snapshot in CI, of live prices in the daily workflow."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from integrity import book

AWS_KARPENTER = "aws/karpenter-provider-aws@1d927085dd81"  # made from the Pricing API
AZURE_KARPENTER = "Azure/karpenter-provider-azure@352646f59929"  # made from the Retail Prices API
CYCLENERD = "Cyclenerd/google-cloud-pricing-cost-calculator@fd66b26"
SKYPILOT = "skypilot-org/skypilot-catalog@006059e0f18a"


@dataclass(frozen=True)
class Expected:
    """
    What a complete price list of one cloud has.

    Attributes:
        list_prices: machine@region, USD per hour and its source, each checked by hand.
        regions: large regions.
        accelerators: common accelerators.
        spot_pairs: at least so many machines and regions of the snapshot have a spot and an on-demand price.
        in_snapshot: False for a cloud that the snapshot does not cover: it is tested with live prices only.
    """

    list_prices: tuple[tuple[str, float, str], ...]
    regions: tuple[str, ...]
    accelerators: tuple[str, ...]
    spot_pairs: int
    in_snapshot: bool = True


EXPECTED = {
    "aws": Expected(
        list_prices=(
            (
                "p5.48xlarge@us-east-1",
                55.04,
                AWS_KARPENTER,
            ),  # two trackers saw the cut from 98.32 on 2025-06-05
            ("p4d.24xlarge@us-east-1", 21.957642, AWS_KARPENTER),  # and tsaol/aws-gpu
            ("p4de.24xlarge@us-east-1", 27.44705, AWS_KARPENTER),
            ("p5en.48xlarge@us-east-1", 63.296, AWS_KARPENTER),
            ("g5.xlarge@us-east-1", 1.006, AWS_KARPENTER),
            ("g6.xlarge@us-east-1", 0.8048, AWS_KARPENTER),
            ("g4dn.xlarge@us-east-1", 0.526, AWS_KARPENTER),
            ("p3.2xlarge@us-east-1", 3.06, AWS_KARPENTER),
            ("trn1.32xlarge@us-east-1", 21.50, AWS_KARPENTER),
            ("ml.g5.xlarge@us-east-1", 1.4084, "fmbench==2.1.1"),  # = 1.4 x EC2's 1.006
        ),
        regions=("us-east-1", "us-west-2", "eu-central-1", "ap-northeast-1"),
        accelerators=(
            *("T4-16GB", "L4-24GB", "A10G-24GB", "L40S-48GB"),
            *("A100-SXM-40GB", "H100-SXM-80GB", "H200-SXM-141GB", "Trainium1"),
        ),
        spot_pairs=100,
    ),
    "azure": Expected(
        list_prices=(
            ("Standard_ND96isr_H100_v5@eastus", 98.32, AZURE_KARPENTER),
            ("Standard_ND96asr_v4@eastus", 27.197, AZURE_KARPENTER),
            ("Standard_ND96amsr_A100_v4@eastus", 32.77, AZURE_KARPENTER),
            ("Standard_NC24ads_A100_v4@eastus", 3.673, AZURE_KARPENTER),
            ("Standard_NC40ads_H100_v5@centralus", 8.585, AZURE_KARPENTER),  # a catalogue's own row says 6.98
            ("Standard_NC4as_T4_v3@eastus", 0.526, AZURE_KARPENTER),
        ),
        regions=("eastus", "westus2", "westeurope", "southcentralus"),
        accelerators=(
            *("T4-16GB", "A10-24GB", "A100-PCIE-80GB"),
            *("A100-SXM-80GB", "H100-SXM-80GB", "H100-NVL-94GB"),
        ),
        spot_pairs=80,
    ),
    "gcp": Expected(
        list_prices=(
            ("a2-highgpu-1g@us-central1", 3.673385, CYCLENERD),  # = 12 cores + 85 GiB + one GPU by the SKUs
            ("a2-ultragpu-1g@us-central1", 5.06879789, CYCLENERD),
            # With local SSD; a catalogue's reservation SKU says a third.
            ("a3-highgpu-8g@us-central1", 88.49, CYCLENERD),
            ("g2-standard-4@us-central1", 0.70683226, CYCLENERD),
            # A catalogue's reservation SKU says 36.60.
            ("a3-ultragpu-8g@us-central1", 84.806908, "cloud.google.com"),
            ("v5p-8@us-east5", 16.80, SKYPILOT),  # 4 chips of 4.20
            ("v5litepod-8@us-central1-a", 9.60, SKYPILOT),  # 8 chips of 1.20
            ("v4-8@us-central2", 12.88, SKYPILOT),  # 4 chips of 3.22
        ),
        regions=("us-central1", "us-east1", "europe-west4", "asia-southeast1"),
        accelerators=(
            *("T4-16GB", "L4-24GB", "A100-SXM-40GB", "A100-SXM-80GB"),
            *("H100-SXM-80GB", "TPU-v5e", "TPU-v5p", "TPU-v6e"),
        ),
        spot_pairs=400,
    ),
}
TESTED = [cloud for cloud, expected in EXPECTED.items() if expected.in_snapshot or book.LIVE]
LIST_PRICES = [(cloud, *price) for cloud in TESTED for price in EXPECTED[cloud].list_prices]
each_cloud = pytest.mark.parametrize("cloud", TESTED)


@pytest.mark.parametrize(
    ("cloud", "machine", "usd_per_hour", "source"),
    LIST_PRICES,
    ids=[":".join(row[:2]) for row in LIST_PRICES],
)
def test_hand_checked_list_prices(cloud: str, machine: str, usd_per_hour: float, source: str) -> None:
    """Prices that were checked by hand against their sources agree to the cent."""
    book.list_price_is(f"{cloud}:{machine}", usd_per_hour, source)


@each_cloud
def test_prices_are_finite_and_positive(cloud: str) -> None:
    """No zero, no NaN, no sentinel."""
    book.prices_are_prices(cloud)


@each_cloud
def test_machines_have_vcpus_and_memory(cloud: str) -> None:
    """Every machine has a host, whose size the list states."""
    book.resources_are_there(cloud)


@each_cloud
def test_accelerators_agree_with_the_maker(cloud: str) -> None:
    """Name, count and memory fit each other and the catalogue."""
    book.accelerators_are_consistent(cloud)


@each_cloud
def test_expected_regions_are_there(cloud: str) -> None:
    """A list that lacks a large region is incomplete."""
    book.these_are_offered(cloud, "region", EXPECTED[cloud].regions)


@each_cloud
def test_expected_accelerators_are_there(cloud: str) -> None:
    """A list that lacks a common accelerator is incomplete."""
    book.these_are_offered(cloud, "accelerator", EXPECTED[cloud].accelerators)


@each_cloud
def test_spot_costs_at_most_on_demand(cloud: str) -> None:
    """For 99 % of the machines and regions that have both."""
    book.spot_is_cheaper(cloud, least_pairs=EXPECTED[cloud].spot_pairs)


@each_cloud
def test_every_row_is_accounted_for(cloud: str) -> None:
    """Accepted, filtered and quarantined add up, and at most 5 % is quarantined."""
    book.every_row_is_accounted_for(cloud)


@each_cloud
def test_conformance_kit_finds_nothing(cloud: str) -> None:
    """The same rules as for a third party's plug-in."""
    book.no_findings(cloud)
