"""Disks beside a machine: their price by service and region, the system disk, and what is said of them."""

from __future__ import annotations

from typing import Any

import pytest

from builders.toy_market import GIB, ToyPredictor, book, offer_row, small_job
from trainfare_core.clouds import CLOUDS
from trainfare_core.limits.cost_assumptions import CostAssumptions
from trainfare_core.ranking.pricing.machines import ServiceColumns, disk_prices_of
from trainfare_core.ranking.pricing.request import Request
from trainfare_core.ranking.rank import rank
from trainfare_core.recommendation import AssumedNumber, Constraints, Recommendation
from trainfare_core.run_cost.disks import (
    PLANNED_USD_PER_GIB_MONTH,
    disk_usd_per_gib_month,
    regions_of_disk_prices,
    system_disk_gib,
)
from trainfare_core.run_cost_facts import Unknown, local_disk, machines_without_local_disk
from trainfare_core.run_cost_facts.lookup import LocalDisk

TOY = ToyPredictor({"A100-SXM-80GB": 0.1})
NONE = CostAssumptions()


@pytest.mark.parametrize(
    ("cloud", "service", "region", "usd", "source"),
    [
        ("aws", "ec2", "us-east-1", 0.08, "gp3"),
        ("aws", "ec2", "us-west-1", 0.096, "gp3"),
        ("aws", "ec2", "eu-west-1", PLANNED_USD_PER_GIB_MONTH, "no price of aws in eu-west-1"),
        ("azure", "azure_vm", "westeurope", 0.00013 * 730, "premium-ssd-v2"),
        ("gcp", "gce", "us-central1", 0.10, "pd-balanced"),
        ("aws", "sagemaker", "us-east-1", 0.0, "gets no volume"),
        ("lambda", "gpu_cloud", "us-east-1", PLANNED_USD_PER_GIB_MONTH, "planning figure"),
    ],
)
def test_disks_cost_what_is_published(cloud: str, service: str, region: str, usd: float, source: str) -> None:
    """The region's own price, else a planning figure that says so; nothing where machines bring their disks."""
    sourced = disk_usd_per_gib_month(NONE, cloud, service, region)
    assert sourced.value == pytest.approx(usd)
    assert source in sourced.source
    assert (
        disk_usd_per_gib_month(CostAssumptions(disk_usd_per_gib_month=0.3), cloud, service, region).value
        == 0.3
    )


def test_the_column_of_prices_is_that_of_each_offer() -> None:
    """Every service in every region with a price, and one without."""
    rows = [
        offer_row(provider=cloud.name, service=service.name, region=region)
        for cloud in CLOUDS.values()
        for service in cloud.services
        for region in (*regions_of_disk_prices(cloud.name, service.name), "nowhere-1", "us-east-1")
    ]
    frame = book(*{tuple(row.items()): row for row in rows}.values()).frame
    column = disk_prices_of(frame, NONE)
    for usd, (cloud, service, region) in zip(
        column, frame.select("provider", "service", "region").iter_rows(), strict=True
    ):
        assert usd == disk_usd_per_gib_month(NONE, cloud, service, region).value
    assert len(set(column.tolist())) > 5
    assert set(disk_prices_of(frame, CostAssumptions(disk_usd_per_gib_month=0.3))) == {0.3}


def test_system_disks() -> None:
    """A planning figure where a disk is billed beside the machine, none on SageMaker, and not known elsewhere."""
    sizes = {
        name: system_disk_gib(NONE, *name)
        for name in (("aws", "ec2"), ("aws", "sagemaker"), ("azure", "azure_ml"), ("runpod", "gpu_cloud"))
    }
    assert [size.value for size in sizes.values()] == [100.0, 0.0, None, None]
    assert sizes["azure", "azure_ml"].source.startswith("whether the price of Azure ML includes")
    assert system_disk_gib(CostAssumptions(system_disk_gib=50.0), "azure", "azure_ml").value == 50.0


@pytest.mark.parametrize(
    ("machine", "region", "usd", "gib", "source"),
    [
        ("ml.g5.xlarge", "us-east-1", 0.0, 0.0, "250 GB of local disks (EC2 DescribeInstanceTypes"),
        ("ml.inf2.xlarge", "us-east-1", 0.14, 30.0, "planning figure for AWS SageMaker"),
        ("ml.inf2.xlarge", "eu-west-1", 0.154, 30.0, "training-volume"),
        ("ml.new1.xlarge", "us-east-1", 0.0, 0.0, "whether aws's new1.xlarge has local disks is not known"),
    ],
)
def test_a_managed_machine_without_local_disks_pays_its_volume(
    machine: str, region: str, usd: float, gib: float, source: str
) -> None:
    """SageMaker gives NVMe machines no volume; what is not known is said; the columns agree with each machine."""
    price = disk_usd_per_gib_month(NONE, "aws", "sagemaker", region, machine)
    size = system_disk_gib(NONE, "aws", "sagemaker", machine)
    assert (price.value, size.value) == (usd, gib)
    assert source in price.source
    offers = book(
        offer_row(service="sagemaker", instance_type=machine, region=region), offer_row(region=region)
    ).frame
    assert disk_prices_of(offers, NONE)[0] == usd
    assert ServiceColumns.of(offers, NONE).system_disk_gib.tolist() == [gib, 100.0]
    answer = rank_rows(offer_row(service="sagemaker", instance_type=machine, region=region))
    assert (answer.options[0].cost_parts.storage_usd > 0) == (usd > 0)
    said = {number.name: number for number in answer.assumed_numbers}["disk_usd_per_gib_month"]
    assert said.source is not None
    assert source in said.source
    own = CostAssumptions(system_disk_gib=50.0, disk_usd_per_gib_month=0.2)
    assert ServiceColumns.of(offers, own).system_disk_gib.tolist() == [50.0, 50.0]


def test_every_machine_type_of_the_table_has_a_source() -> None:
    """Of 82 types of EC2, 16 have no local disk."""
    bare = machines_without_local_disk("aws")
    assert len(bare) == 16
    assert {"inf2.xlarge", "p3.2xlarge"} <= set(bare)
    assert not {"p4d.24xlarge", "g5.xlarge", "p3dn.24xlarge"} & set(bare)
    assert isinstance(local_disk("azure", "nothing"), Unknown)
    disk = local_disk("aws", "p4d.24xlarge")
    assert isinstance(disk, LocalDisk)
    assert (disk.gb, disk.source[:25]) == (8_000.0, "EC2 DescribeInstanceTypes")


def rank_rows(*rows: dict[str, Any], run_cost: CostAssumptions = NONE) -> Recommendation:
    request = Request(Constraints(run_cost=run_cost), max_nodes=1)
    return rank(small_job(checkpoint_bytes=73 * GIB), book(*rows), request, predict=TOY)


def numbers(answer: Recommendation) -> dict[str, AssumedNumber]:
    return {number.name: number for number in answer.assumed_numbers}


def test_disks_are_charged_and_named_with_their_share() -> None:
    """146 GiB of checkpoints and 100 of the system at 8 cents a month in us-east-1, for the billed hours."""
    answer = rank_rows(offer_row())
    (option,) = answer.options
    billed_hours = option.run_hours.mid + option.cost_parts.rounding_usd / 4.0
    assert option.cost_parts.storage_usd == pytest.approx(246 * 0.08 / 730 * billed_hours)
    price, size = (numbers(answer)[name] for name in ("disk_usd_per_gib_month", "system_disk_gib"))
    assert (price.value, size.value) == (0.08, 100.0)
    assert price.run_usd + size.run_usd == pytest.approx(option.cost_parts.storage_usd)
    assert size.run_usd == pytest.approx(100 / 246 * option.cost_parts.storage_usd)
    assert price.source is not None
    assert "gp3" in price.source


def test_a_cheaper_disk_never_costs_more() -> None:
    """The cost of a run grows with the price of its disks and with their size."""
    sizes = [0.0, 100.0, 1_000.0]
    costs = [
        [
            rank_rows(offer_row(), run_cost=CostAssumptions(disk_usd_per_gib_month=usd, system_disk_gib=gib))
            .options[0]
            .run_usd.mid
            for usd in (0.0, 0.08, 0.2)
        ]
        for gib in sizes
    ]
    assert all(row == sorted(row) for row in costs)
    assert all(list(column) == sorted(column) for column in zip(*costs, strict=True))


def test_the_region_with_the_cheaper_disk_wins_where_the_hour_costs_the_same() -> None:
    """gp3 costs 0.08 in us-east-1 and 0.096 in us-west-1."""
    answer = rank_rows(offer_row(region="us-west-1"), offer_row())
    assert [option.region for option in answer.options] == ["us-east-1"]
