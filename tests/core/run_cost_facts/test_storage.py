"""Object storage and disks."""

from __future__ import annotations

import pytest

from trainfare_core.run_cost.disks import PLANNED_USD_PER_GIB_MONTH
from trainfare_core.run_cost_facts import (
    Amount,
    DiskPrice,
    TieredPrice,
    Unknown,
    find_fact,
)


def test_a_month_of_s3_to_the_cent() -> None:
    """51,200 GB x 0.023 + 8,800 GB x 0.022."""
    price = find_fact("object_storage", "aws", "us-east-1", item="standard")
    assert isinstance(price, TieredPrice)
    assert f"{price.usd(60_000):.2f}" == "1371.20"
    assert price.as_of == "2026-09", "the older of its two rows"


def test_the_meter_of_the_price_api_is_used_and_its_contradicted_copy_is_shown() -> None:
    price = find_fact("object_storage", "azure", "eastus", item="standard")
    assert isinstance(price, TieredPrice)
    assert [tier.usd_per_gb for tier in price.tiers] == [0.0208, 0.019968, 0.019136]
    assert not price.weak
    (copy,) = price.unused
    assert (copy.value, copy.weak) == (0.018, "contradicted")
    assert "0.0208" in copy.weak_because


def test_a_derived_tier_makes_the_price_weak() -> None:
    price = find_fact("object_storage", "azure", "westeurope", item="standard")
    assert isinstance(price, TieredPrice)
    assert [(tier.from_gb, tier.usd_per_gb) for tier in price.tiers] == [(0, 0.0196), (512_000, 0.018032)]
    assert price.weak_because == "last tier over 0.92, the ratio of eastus; the tier between is missing"


@pytest.mark.parametrize(
    ("cloud", "region", "storage_class", "usd"),
    [
        ("aws", "us-east-1", "infrequent", 0.0125),
        ("aws", "us-east-1", "archive", 0.00099),
        ("azure", "eastus", "infrequent", 0.0152),
        ("azure", "eastus", "premium", 0.15),
        ("gcp", "us-east1", "standard", 0.02),
        ("oracle", "anywhere", "standard", 0.0255),
    ],
)
def test_other_classes(cloud: str, region: str, storage_class: str, usd: float) -> None:
    price = find_fact("object_storage", cloud, region, item=storage_class)
    assert isinstance(price, TieredPrice)
    assert price.usd(1) == usd


def test_requests_and_retrieval() -> None:
    read, write = (
        find_fact("object_storage_request", "aws", "us-east-1", item=one) for one in ("read", "write")
    )
    assert isinstance(read, Amount)
    assert isinstance(write, Amount)
    assert (read.value, write.value, read.unit) == (4e-7, 5e-6, "usd_per_request")
    cool = find_fact("object_storage_retrieval", "azure", "eastus", item="infrequent")
    assert isinstance(cool, Amount)
    assert cool.value == 0.01
    assert isinstance(find_fact("object_storage_retrieval", "aws", "us-east-1", item="infrequent"), Unknown)


@pytest.mark.parametrize(
    ("cloud", "region", "disk", "size", "usd"),
    [
        ("aws", "us-east-1", "gp3", 500, "40.00"),
        ("azure", "westeurope", "premium-ssd-v2", 500, "47.45"),  # 500 x 0.00013 x 730
        ("azure", "westeurope", "premium-ssd-1tib", 1024, "148.68"),
    ],
)
def test_a_month_of_a_disk_to_the_cent(cloud: str, region: str, disk: str, size: float, usd: str) -> None:
    price = find_fact("disk", cloud, region, item=disk)
    assert isinstance(price, DiskPrice)
    month = price.usd_per_month(size)
    assert month is not None
    assert f"{month:.2f}" == usd


def test_a_disk_of_one_size_has_no_price_for_another() -> None:
    price = find_fact("disk", "azure", "westeurope", item="premium-ssd-1tib")
    assert isinstance(price, DiskPrice)
    assert price.usd_per_month(500) is None


def test_local_ssd_is_marked_as_derived() -> None:
    price = find_fact("local_ssd", "gcp", "us-central1", machine="a3-ultragpu-8g")
    assert isinstance(price, Amount)
    assert (price.value, price.unit, price.rows[0].weak) == (1.316, "usd_per_hour", "derived")


def test_the_checkpoints_disk_price_lies_among_those_of_the_table() -> None:
    """The ranking uses one figure for every cloud: it is within the general-purpose SSDs that are known."""
    disks = (
        ("aws", "us-east-1", "gp3"),
        ("gcp", "us-central1", "pd-balanced"),
        ("azure", "westeurope", "premium-ssd-v2"),
    )
    prices = [find_fact("disk", cloud, region, item=disk) for cloud, region, disk in disks]
    usd = [price.usd_per_month(1) for price in prices if isinstance(price, DiskPrice)]
    assert len(usd) == 3
    known = [value for value in usd if value is not None]
    assert min(known) <= PLANNED_USD_PER_GIB_MONTH <= max(known)
