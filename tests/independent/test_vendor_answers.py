"""
Each parser on an answer that its vendor sent or documents, and the price that the vendor's own page states for it.

The answers lie in `documents/`, with the address of each, of the reference that describes its form, and of the price
(`price_source`); `kind` says what was recorded and what was added. No expected value comes from our own code.

| parser | document | recorded | price from elsewhere |
| --- | --- | --- | --- |
| EC2 price list | aws_price_list | yes | yes |
| SageMaker price list | aws_sagemaker_price_list | usage types and prices | yes |
| EC2 spot | aws_spot | yes, of a machine without an accelerator | no: the answer is the price |
| Savings Plans | aws_savings_plans | yes, of machines without an accelerator | none found: refusals only |
| Capacity Blocks | aws_capacity_blocks | yes | yes |
| training plans | aws_training_plans | documented | none: AWS masks the fees |
| quotas of EC2 and SageMaker | aws_quotas | yes | - |
| Azure retail prices | azure_retail_prices | yes | yes |
| Azure ML sizes | azure_ml_sizes | documented, sizes without a GPU | the example's own |
| Azure quotas | azure_usages | documented | - |
| Google Cloud SKUs | gcp_skus | yes | yes |
| TPU SKUs | gcp_tpu_skus | yes | yes |
| Google Cloud quotas | gcp_quotas | documented | - |
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from trainfare_core.prices.accept import accept
from trainfare_providers.aws.blocks import capacity_block_row, offer_rows, training_plan_row
from trainfare_providers.aws.machines import Machines, read_known_machines
from trainfare_providers.aws.price_list import ec2_row, read_products, sagemaker_row
from trainfare_providers.aws.quotas import limits_of, read_quotas, read_training_quotas, training_limits
from trainfare_providers.aws.rows import SourceContext
from trainfare_providers.aws.savings import PLANS, plan_file_rows, plan_rate_row
from trainfare_providers.aws.spot import Bands, spot_rows
from trainfare_providers.azure import vm_rows
from trainfare_providers.azure.usages import parse_usages, vm_limits
from trainfare_providers.azure.workspace import parse_offer
from trainfare_providers.gcp import catalogue_rows
from trainfare_providers.gcp.quotas import family_quota, gpu_limits, parse_region
from trainfare_providers.http.strict_json import parse_json
from trainfare_providers.machine_types import Machine
from trainfare_providers.source_rows import RowSink

DOCUMENTS = Path(__file__).parent / "documents"
TODAY = "2026-11-30"


def load(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((DOCUMENTS / f"{name}.json").read_text(encoding="utf-8"))
    return document


def parse_exactly(value: object) -> Any:
    """JSON as the strict reader gives it: every digit of a number."""
    return parse_json(json.dumps(value).encode())


def aws(region: str, machines: Machines | None = None) -> SourceContext:
    zones = {f"{region}{letter}": f"zone-az{number}" for number, letter in enumerate("abcdef", 1)}
    return SourceContext(region, machines or read_known_machines(), "x", TODAY, zones)


def with_times(offer: dict[str, Any]) -> dict[str, Any]:
    """Times as boto3 gives them."""
    times = {
        key: datetime.fromisoformat(value)
        for key, value in offer.items()
        if key.startswith(("Start", "End", "Timestamp"))
    }
    return {**offer, **times}


def sink_of(reads: Any, service: str = "ec2") -> RowSink:
    sink = RowSink("aws", service)
    sink.add(reads)
    return sink


def prices(sink: RowSink) -> dict[tuple[str, str], Decimal]:
    rows = {(row.machine.instance_type, row.purchase_option): Decimal(row.usd_per_hour) for row in sink.rows}
    assert len(rows) == len(sink.rows)
    return rows


@pytest.mark.parametrize("path", sorted(DOCUMENTS.glob("*.json")), ids=lambda path: path.stem)
def test_each_document_names_its_source(path: Path) -> None:
    """Where it was read, what of it was recorded, and where the price is from; the table above has all of them."""
    document = load(path.stem)
    assert document["source"].startswith("https://")
    assert document["kind"]
    assert document["price_source"]
    assert f"| {path.stem} |" in (__doc__ or "")


def test_ec2_price_list() -> None:
    """p4d.24xlarge at 32.7726 USD an hour until May 2025, and its twin at 0 that belongs to Capacity Blocks."""
    texts = [json.dumps(product) for product in load("aws_price_list")["PriceList"]]
    sink = sink_of(ec2_row(record, aws("us-east-1")) for record in read_products(texts) if record)
    assert prices(sink) == {("p4d.24xlarge", "on_demand"): Decimal("32.7726")}
    assert sink.filtered.total() == 1


@pytest.mark.parametrize(
    ("region", "instance_type", "usd_per_hour"),
    [("us-east-1", "ml.g5.2xlarge", "1.515"), ("ap-northeast-1", "ml.g6.xlarge", "1.634")],
)
def test_sagemaker_price_list(region: str, instance_type: str, usd_per_hour: str) -> None:
    """Training, and neither hosting nor asynchronous inference."""
    texts = [json.dumps(product) for product in load("aws_sagemaker_price_list")["PriceList"]]
    sink = sink_of(sagemaker_row(record, aws(region)) for record in read_products(texts) if record)
    assert prices(sink) == {(instance_type, "on_demand"): Decimal(usd_per_hour)}


def test_ec2_spot_price() -> None:
    """The newest entry of each zone; m5.large stands for a machine with an accelerator."""
    history = load("aws_spot")["SpotPriceHistory"]
    machines = Machines({"m5.large": Machine("m5.large", "T4-16GB", 1.0, 16.0, 2.0, 8.0)})
    context = aws("us-east-1", machines)
    sink = sink_of(spot_rows([with_times(entry) for entry in history], Bands({}), context))
    newest: dict[str, dict[str, str]] = {}
    for entry in history:
        zone = context.zone_ids[entry["AvailabilityZone"]]
        if zone not in newest or entry["Timestamp"] > newest[zone]["Timestamp"]:
            newest[zone] = entry
    assert {row.zone: row.usd_per_hour for row in sink.rows} == {
        zone: entry["SpotPrice"] for zone, entry in newest.items()
    }
    assert sink.filtered == {"an older spot price of the same zone": len(history) - len(newest)}
    assert sink_of(spot_rows(history, Bands({}), aws("us-east-1"))).rows == []


def test_savings_plans_of_other_machines_are_none_of_ours() -> None:
    """Dedicated and unused hosts, other plans, Windows, a plan that is paid upfront."""
    document = load("aws_savings_plans")
    body = "\n".join([*document["lines"], ""]).encode()
    read = sink_of(plan_file_rows([body], PLANS[0], aws("ap-east-2")))
    assert read.filtered == {"another kind of savings plan": 2}
    rates = sink_of(
        plan_rate_row(rate, PLANS[0], aws("ap-northeast-1")) for rate in document["searchResults"]
    )
    assert rates.filtered == {"not Linux": 3, "another kind of savings plan": 1}
    assert (read.rows, rates.rows, read.quarantined.total() + rates.quarantined.total()) == ([], [], 0)


def test_capacity_blocks_have_the_published_rate() -> None:
    """Fees in whole dollars for 24 h, 19 h 17 min and 43 h 17 min: one price, AWS's $11.80 to the rounding of a fee."""
    offers = [with_times(offer) for offer in load("aws_capacity_blocks")["CapacityBlockOfferings"]]
    for offer in offers:
        rate = Decimal(sink_of([capacity_block_row(offer, aws("us-east-2"))]).rows[0].usd_per_hour)
        assert abs(rate / Decimal("11.80") - 1) < Decimal("0.5") / Decimal(offer["UpfrontFee"]) * 2
    sink = sink_of(offer_rows(offers, capacity_block_row, aws("us-east-2")))
    assert prices(sink)["p4d.24xlarge", "capacity_block"] == pytest.approx(
        Decimal("11.80"), rel=Decimal("0.001")
    )
    assert sink.rows[0].sku == "cb-0c1fa9b2125eb49e0"  # the largest fee: its rounding is the least
    assert "offers" not in (sink.rows[0].caveat or "")
    assert sink.filtered == {"another offer of the same machine and zone": 2}
    judged = accept(sink.finish().rows, origin="aws")
    rows, (intake,) = judged.rows, judged.intakes
    assert (rows.height, intake.quarantined) == (1, ())


def test_capacity_block_from_0455_to_1130_has_6_hours_35_minutes() -> None:
    """The example of the API Reference: hours 6, minutes 35 beside them."""
    offer = with_times(load("aws_capacity_blocks")["CapacityBlockOfferings"][1])
    offer |= {
        "StartDate": datetime.fromisoformat("2025-02-15T04:55:00+00:00"),
        "CapacityBlockDurationHours": 6,
        "CapacityBlockDurationMinutes": 35,
        "UpfrontFee": "77.68",  # 395 minutes of 11.80 an hour: 77.6833
    }
    sink = sink_of([capacity_block_row(offer, aws("us-east-2"))])
    assert float(sink.rows[0].usd_per_hour) == pytest.approx(11.80, abs=0.001)


def plans_at(usd_per_hour: float) -> list[dict[str, Any]]:
    """The guide's offerings with fees in cents, for the time between start and end."""
    plans = []
    for plan in load("aws_training_plans")["TrainingPlanOfferings"]:
        part = with_times(plan["ReservedCapacityOfferings"][0])
        hours = (part["EndTime"] - part["StartTime"]).total_seconds() / 3600
        fee = f"{hours * usd_per_hour:.2f}"
        plans.append({**plan, "UpfrontFee": fee, "ReservedCapacityOfferings": [part]})
    return plans


def test_training_plans_of_the_guide() -> None:
    """15 h 51 min, 39 h 51 min and 24 h: one price, to the rounding of a fee in cents, and none is lost."""
    plans = plans_at(13.57)
    assert [plan["UpfrontFee"] for plan in plans] == ["215.08", "540.76", "325.68"]
    for plan in plans:
        row = sink_of([training_plan_row(plan, aws("us-west-2"))], "sagemaker").rows[0]
        assert float(row.usd_per_hour) == pytest.approx(13.57, abs=0.0005)
    sink = sink_of(offer_rows(plans, training_plan_row, aws("us-west-2")), "sagemaker")
    assert float(prices(sink)["ml.p4d.24xlarge", "capacity_block"]) == pytest.approx(13.57, abs=0.0002)
    judged = accept(sink.finish().rows, origin="aws")
    rows, (intake,) = judged.rows, judged.intakes
    assert (rows.height, intake.quarantined) == (1, ())


def test_rates_that_differ_by_rounding_are_one_price_to_the_intake() -> None:
    """The three rates of the guide as three rows, which a third party's plug-in may bring: one is kept, none refused."""
    sink = sink_of((training_plan_row(plan, aws("us-west-2")) for plan in plans_at(13.57)), "sagemaker")
    assert len({row.usd_per_hour for row in sink.rows}) == 3
    judged = accept(sink.finish().rows, origin="aws")
    rows, (intake,) = judged.rows, judged.intakes
    assert (rows.height, intake.quarantined) == (1, ())
    assert {tally.reason: tally.rows for tally in intake.filtered} == {"the same price again": 2}


def test_training_plan_whose_minutes_are_its_hours_once_more() -> None:
    """AWS's blog: 168 h and 10,080 min are seven days, whatever its start and end say."""
    plan = load("aws_training_plans")["total"]
    assert sink_of([training_plan_row(plan, aws("us-west-2"))]).filtered == {
        "a training plan that no training job can use": 1
    }
    part = with_times(plan["ReservedCapacityOfferings"][0])
    changes = {
        "TargetResources": ["training-job"],
        "ReservedCapacityOfferings": [part],
        "UpfrontFee": "8023.01",
    }
    sink = sink_of([training_plan_row({**plan, **changes}, aws("us-west-2"))], "sagemaker")
    assert float(sink.rows[0].usd_per_hour) == pytest.approx(8023.01 / (7 * 24), abs=1e-6)


def test_aws_quotas() -> None:
    """Those of P, G and VT, Inf and DL in vCPUs; neither addresses, hosts, FPGAs nor machines without an accelerator."""
    document = load("aws_quotas")
    quotas = read_quotas(document["ec2"], region="me-south-1")
    assert {(quota.family, quota.purchase_option, quota.vcpus, quota.code) for quota in quotas} == {
        ("P", "on_demand", 8.0, "L-417A185B"),
        ("G and VT", "on_demand", 16.0, "L-DB2E81BA"),
        ("Inf", "on_demand", 16.0, "L-1945791B"),
        ("DL", "on_demand", 0.0, "L-6E869C2A"),
    }
    limits = limits_of(quotas, ["p3.2xlarge", "g4dn.xlarge", "gr6.4xlarge", "m5.large"])
    assert {(limit.family, limit.count()) for limit in limits} == {
        (("p",), ("vcpus", 8.0)),
        (("g", "gr"), ("vcpus", 16.0)),
    }
    training = read_training_quotas(document["sagemaker"], region="us-east-1")
    assert [
        (limit.family, limit.count(), limit.purchase == ("spot",))
        for limit in training_limits(training, ["ml.g5.2xlarge", "ml.p3.2xlarge"])
    ] == [(("ml.g5.2xlarge",), ("machines", 1.0), False), (("ml.g5.2xlarge",), ("machines", 0.0), True)]


def read_azure(items: Sequence[object]) -> RowSink:
    return vm_rows(parse_exactly(items), source="x", today=TODAY)[0]


def test_azure_retail_prices() -> None:
    """Linux at 98.32 and spot; Windows has the same meter's name, low priority is another tier."""
    sink = read_azure(load("azure_retail_prices")["Items"])
    assert prices(sink) == {
        ("Standard_ND96isr_H100_v5", "on_demand"): Decimal("98.32"),
        ("Standard_ND96isr_H100_v5", "spot"): Decimal("18.169536"),
    }
    assert sink.filtered == {"Windows": 2}


def test_azure_reservation_is_divided_by_the_hours_of_its_term() -> None:
    """87,903 USD for one year and 156,818 for three, each item with the unit "1 Hour"; a year is 8,760 h."""
    sink = read_azure(load("azure_retail_prices")["francecentral"])
    assert {key: round(float(usd), 4) for key, usd in prices(sink).items()} == {
        ("Standard_NC24rs_v3", "on_demand"): 15.753,
        ("Standard_NC24rs_v3", "spot"): 3.3491,
        ("Standard_NC24rs_v3", "reserved_1y"): 10.0346,
        ("Standard_NC24rs_v3", "reserved_3y"): 5.9672,
    }


def test_azure_ml_sizes() -> None:
    """Linux and tier Standard of the example's four prices; vCPUs under the JSON name."""
    sizes = [SimpleNamespace(**size) for size in load("azure_ml_sizes")["value"]]
    offer = parse_offer("EastUS", sizes, [])
    assert (offer.location, offer.unreadable) == ("eastus", 0)
    assert {
        size.name: (size.vcpus, size.gpus, size.estimates["Linux", "Standard"]) for size in offer.sizes
    } == {
        "Standard_DS1_v2": (1, 0, Decimal("0.07")),
        "Standard_DS14_v2": (16, 0, Decimal("1.48")),
    }


def test_azure_quotas() -> None:
    """A family's limit, and that of all families of a region, for spot machines and for others."""
    usages = [usage for usage in parse_usages(load("azure_usages")["value"], "eastus") if usage]
    limits = list(vm_limits(usages, ["Standard_NC16as_T4_v3"]))
    assert [(limit.family, limit.vcpus, limit.purchase == ("spot",)) for limit in limits] == [
        (("NC",), 100.0, False),
        (("NC",), 100.0, True),
        (("Standard_NC16as_T4_v3",), 24.0, False),
    ]


def test_google_cloud_machines_are_the_sum_of_their_parts() -> None:
    """12 vCPUs, 85 GB and one A100 in Iowa: 3.673385; eight of all for an a2-highgpu-8g."""
    skus = parse_exactly(load("gcp_skus")["skus"])
    machines, _ = catalogue_rows(skus, [], source="x", today=TODAY)
    found = {
        row.machine.instance_type: Decimal(row.usd_per_hour)
        for row in machines.rows
        if row.region == "us-central1" and row.purchase_option == "on_demand"
    }
    assert found["a2-highgpu-1g"] == Decimal("3.673385")
    assert found["a2-highgpu-8g"] == Decimal("29.387080")


def test_tpu_slices_are_priced_by_the_chip() -> None:
    """Eight chips of v6e, four of a 7x or v5p slice named after eight cores; calendar mode is another way to buy."""
    skus = parse_exactly(load("gcp_tpu_skus")["skus"])
    _, slices = catalogue_rows(skus, [], source="x", today=TODAY)
    found = {
        (row.machine.instance_type, row.region, row.purchase_option): Decimal(row.usd_per_hour)
        for row in slices.rows
    }
    assert found["v6e-8", "us-south1", "on_demand"] == 8 * Decimal("2.70")
    assert found["tpu7x-8", "us-central1", "on_demand"] == 4 * Decimal("12.00")
    assert found["v5litepod-8", "asia-southeast1", "spot"] == 8 * Decimal("0.78")
    assert found["v5p-8", "europe-west4", "reserved_3y"] == 4 * Decimal("1.911")
    assert {option for _, _, option in found} == {"on_demand", "spot", "reserved_3y"}
    assert not {region for _, region, _ in found} & {"asia-south2", "southamerica-east1"}


def test_google_cloud_quotas() -> None:
    """GPUs of a region, spot ones apart where a preemptible quota was granted; H100 by its family."""
    document = load("gcp_quotas")
    region = parse_region(parse_exactly(document["region"]))
    assert region.gpus == {
        ("", "NVIDIA_T4"): 4.0,
        ("PREEMPTIBLE", "NVIDIA_T4"): 1.0,
        ("COMMITTED", "NVIDIA_T4"): 0.0,
    }
    limits = list(gpu_limits(region, "NVIDIA_T4", region.gpus["", "NVIDIA_T4"], ["n1-standard-8"]))
    assert [(limit.accelerators, limit.purchase == ("spot",)) for limit in limits] == [
        (4.0, False),
        (1.0, True),
        (0.0, False),
    ]
    infos = parse_exactly(document["quotaInfo"])["dimensionsInfos"]
    assert family_quota(infos, "us-central1", "NVIDIA_H100") == 8.0
    assert family_quota(infos, "us-east5", "NVIDIA_H100") is None
