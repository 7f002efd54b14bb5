"""True recordings of AWS's answers, where the folder with them is: what we parse is what AWS sends."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import pytest

from trainfare_providers.aws.machines import parse_instance_types, read_known_machines
from trainfare_providers.aws.price_list import ec2_row, read_products
from trainfare_providers.aws.rows import SourceContext
from trainfare_providers.aws.spot import Bands, read_bands, spot_rows
from trainfare_providers.machine_types import Machine
from trainfare_providers.source_rows import RowSink

RECORDED = Path(__file__).parents[4] / "shared" / "data" / "prices" / "recorded"
pytestmark = pytest.mark.skipif(
    not RECORDED.is_dir(), reason="needs ../shared/data/prices/recorded (true recordings)"
)


def load(name: str) -> dict[str, object]:
    return json.loads((RECORDED / name).read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def entries(name: str, key: str) -> list[dict[str, object]]:
    found = load(name)[key]
    assert isinstance(found, list)
    return found


def test_capacity_block_twin_of_p4d_is_no_price() -> None:
    """AWS's own list of May 2024: 32.7726, and its twin at 0.0000000000."""
    offer = load("aws_bulk_offer_ec2_us-east-1_2024-05_p4d_fragment.json")
    products, terms = offer["products"], offer["terms"]
    assert isinstance(products, dict)
    assert isinstance(terms, dict)
    texts = [
        json.dumps({"product": product, "terms": {kind: by_sku[sku] for kind, by_sku in terms.items()}})
        for sku, product in products.items()
    ]
    sink = RowSink("aws", "ec2")
    for record in read_products(texts):
        assert record is not None
        sink.add([ec2_row(record, SourceContext("us-east-1", read_known_machines(), "", "2024-05-28"))])
    assert [(row.sku, row.usd_per_hour, row.observed_on) for row in sink.rows] == [
        ("H7NGEAC6UEHNTKSJ", "32.7726000000", "2024-05-01")
    ]
    assert sink.rows_read == 2


def test_answer_of_get_products_holds_no_machine_of_ours() -> None:
    """An unused reservation, a volume and an m5.large with its reservations: all counted, none priced."""
    listed = entries("handmade_envelope_aws_pricing_getproducts.json", "PriceList")
    for region in ("af-south-1", "us-east-1", "us-west-2"):
        sink, read = RowSink("aws", "ec2"), 0
        for record in read_products(listed):
            assert record is not None
            read += 1
            sink.add([ec2_row(record, SourceContext(region, read_known_machines(), "", "2024-05-28"))])
        assert sink.rows == []
        assert sink.rows_read == read > 3


@pytest.mark.parametrize("when", ["2025-03", "moto_2026-10"])
def test_recorded_machines_agree_with_our_table(when: str) -> None:
    """Of both years; a type that one of them lacks comes from the table."""
    described = parse_instance_types(
        entries(f"aws_ec2_describe_instance_types_accelerators_{when}.json", "InstanceTypes")
    )
    assert len(described.names()) > 50
    assert read_known_machines().join(described).refused == ()


def test_other_recorded_machines_are_read() -> None:
    """V100 in p3; a burstable machine and a GRID K520 have no accelerator of ours."""
    fields = entries("aws_ec2_describe_instance_types_t3_micro_and_p3_16xl.json", "InstanceTypes")
    machine = parse_instance_types(fields).get("p3.16xlarge")
    assert isinstance(machine, Machine)
    assert (machine.accelerator, machine.accelerator_count) == ("V100-SXM2-16GB", 8)
    assert (
        parse_instance_types(
            entries("aws_ec2_describe_instance_types_g2_2xlarge_group.json", "InstanceTypes")
        ).names()
        == ()
    )


def test_recorded_spot_history_is_counted_whole() -> None:
    """A day of m5.large: every entry read, none of an accelerator machine."""
    history = entries("aws_ec2_describe_spot_price_history_m5_large_2021-02.json", "SpotPriceHistory")
    timed = [{**fields, "Timestamp": datetime.fromisoformat(str(fields["Timestamp"]))} for fields in history]
    ids = {f"us-east-1{letter}": f"use1-az{number}" for number, letter in enumerate("abcdef", 1)}
    sink = RowSink("aws", "ec2")
    sink.add(
        spot_rows(timed, Bands({}), SourceContext("us-east-1", read_known_machines(), "", "2021-02-09", ids))
    )
    assert sink.rows_read == len(history) > 100
    assert set(sink.filtered) <= {"machine without an accelerator", "not Linux"}


def test_recorded_advisor_has_bands() -> None:
    """June 2025, by region and machine."""
    bands = read_bands(load("aws_spot_advisor_accelerators_2025-06.json"))
    assert len(bands) > 300
    assert bands.get("us-east-1", "p4d.24xlarge") in ("<5%", "5-10%", "10-15%", "15-20%", ">20%")
