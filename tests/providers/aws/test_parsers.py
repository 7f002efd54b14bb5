"""AWS's answers, parser by parser, with every kind of row that looks like the price and is not."""

from __future__ import annotations

import tracemalloc
from datetime import datetime, timedelta
from itertools import chain, repeat

import pytest

from builders import aws_wire as wire
from trainfare_core.errors import PricesUnavailableError
from trainfare_providers.aws.blocks import capacity_block_row, offer_rows, training_plan_row
from trainfare_providers.aws.bulk_csv import read_offer_csv
from trainfare_providers.aws.machines import parse_instance_types, read_known_machines
from trainfare_providers.aws.price_list import ec2_row, read_products, sagemaker_row
from trainfare_providers.aws.quotas import (
    Quota,
    TrainingQuota,
    limits_of,
    read_quotas,
    read_training_quotas,
)
from trainfare_providers.aws.rows import SourceContext
from trainfare_providers.aws.savings import PLANS, plan_file_rows
from trainfare_providers.aws.spot import Bands, read_bands, read_zone_ids, spot_rows
from trainfare_providers.source_rows import Refused, RowSink, SourceRow

CONTEXT = SourceContext(
    "us-east-1",
    read_known_machines(),
    "https://example.invalid",
    "2026-08-02",
    {"us-east-1b": "use1-az6", "us-east-1c": "use1-az1"},
)


def sift_products(*products: wire.Product) -> RowSink:
    """What the EC2 rules make of products."""
    sink = RowSink("aws", "ec2")
    for record in read_products([wire.product_json(product) for product in products]):
        assert record is not None
        sink.add([ec2_row(record, CONTEXT)])
    return sink


def prices(sink: RowSink) -> list[tuple[str, str, str]]:
    return [(row.machine.instance_type, row.purchase_option, row.usd_per_hour) for row in sink.rows]


@pytest.mark.parametrize(
    ("sku", "rule"),
    [
        ("YSXJGN78QTXNVGDQ", "a Capacity Block's usage row: what it costs is the block's own fee"),
        ("UNUSEDP4D0000001", "a capacity reservation's row"),
        ("ALLOCP4D00000001", "a capacity reservation's row"),
        ("DEDICP4D00000001", "dedicated tenancy or a dedicated host"),
        ("WINDOWSP4D000001", "not Linux"),
        ("SQLP4D0000000001", "software in the price"),
        ("BYOLP4D000000001", "a licence in the price"),
        ("P5ATLANTA0000001", "another region, or a local or wavelength zone"),
        ("XWCTMRRUJM7TGYST", "not a machine (storage, traffic, dedicated hosts, ...)"),
        ("M5LARGEUSE100001", "machine without an accelerator"),
        ("G99UNKNOWN000001", "an accelerator machine that the table of machines does not know"),
    ],
)
def test_out_of_scope_row_is_counted_under_its_rule(sku: str, rule: str) -> None:
    """AWS's list has each of these rows beside the real price."""
    sink = sift_products(next(product for product in wire.EC2_PRODUCTS if product.sku == sku))
    assert sink.rows == []
    assert set(sink.filtered) == {rule}


def test_older_capacity_block_row_is_recognised_by_its_operation() -> None:
    """In lists without marketoption only the operation distinguishes the $0 row from the price."""
    row = wire.machine(
        "OLDCB00000000001", "p4d.24xlarge", wire.Term("0.0000000000"), operation="RunInstances:CB"
    )
    assert prices(sift_products(row)) == []


def test_reservation_is_the_standard_one_without_upfront_payment() -> None:
    """With an upfront payment the hourly rate is too low, and a convertible reservation costs more."""
    sink = sift_products(wire.EC2_PRODUCTS[0])
    assert prices(sink) == [
        ("p4d.24xlarge", "on_demand", "21.9576420000"),
        ("p4d.24xlarge", "reserved_1y", "13.9210940000"),
        ("p4d.24xlarge", "reserved_3y", "9.1700000000"),
    ]
    assert sink.filtered == {"a reservation that is paid upfront or convertible": 3}


def test_fractional_machine_has_a_fraction_of_an_accelerator() -> None:
    """g6f reports 0 GPUs and a partition of 0.125: an eighth of an L4, of 24 GiB nominal."""
    for machines in (read_known_machines(), parse_instance_types(wire.INSTANCE_TYPES)):
        machine = machines.get("g6f.xlarge")
        assert machine is not None
        assert (machine.accelerator, machine.accelerator_count, machine.accelerator_memory_gib) == (
            "L4-24GB",
            0.125,
            24,
        )


def test_chip_has_the_memory_its_maker_says() -> None:
    """Trainium2 reports 512 GiB and has 96; A10G reports 22,888 MiB and is a 24 GiB card; A100 comes in two sizes."""
    machines = parse_instance_types(
        [
            *wire.INSTANCE_TYPES,
            wire.describe_row("p4de.24xlarge", 96, 1152, GpuInfo=wire.gpu("A100", 8, 81920)),
        ]
    )
    values_by_key = {
        name: machine.accelerator_memory_gib for name in machines.names() if (machine := machines.get(name))
    }
    assert values_by_key["trn2.48xlarge"] == 96
    assert values_by_key["g5.xlarge"] == 24
    assert (values_by_key["p4d.24xlarge"], values_by_key["p4de.24xlarge"]) == (40, 80)


def test_machine_the_api_does_not_describe_comes_from_the_table() -> None:
    """trn2u has no NeuronInfo in the answer, and 16 Trainium2 in the rack."""
    described = parse_instance_types(wire.INSTANCE_TYPES)
    assert described.get("trn2u.48xlarge") is None
    machine = read_known_machines().join(described).get("trn2u.48xlarge")
    assert machine is not None
    assert (machine.accelerator, machine.accelerator_count) == ("Trainium2", 16)


def test_machine_on_which_two_sources_differ_is_not_priced() -> None:
    """A p5 with 12 accelerators is an error of a source: its rows are quarantined."""
    wrong = parse_instance_types(
        [wire.describe_row("p5.48xlarge", 192, 2048, GpuInfo=wire.gpu("H100", 12, 81920))]
    )
    machines = read_known_machines().join(wrong)
    assert machines.refused == ("p5.48xlarge",)
    sink = RowSink("aws", "ec2")
    for record in read_products([wire.product_json(product) for product in wire.EC2_PRODUCTS]):
        assert record is not None
        sink.add([ec2_row(record, SourceContext("us-east-1", machines, "", "2026-08-02"))])
    assert "p5.48xlarge" not in {row.machine.instance_type for row in sink.rows}
    assert (
        sink.quarantined["DescribeInstanceTypes and the table of machines disagree on what is in the machine"]
        == 1
    )


def test_slice_that_an_older_boto3_cannot_size_comes_from_the_table() -> None:
    """Without GpuPartitionSize the answer says 0 GPUs of 2.8 GiB: which does not contradict the table."""
    gpus = wire.gpu("L4", 0, 2861)
    chips = gpus["Gpus"]
    assert isinstance(chips, list)
    del chips[0]["GpuPartitionSize"], chips[0]["LogicalGpuCount"]
    machines = read_known_machines().join(
        parse_instance_types([wire.describe_row("g6f.xlarge", 4, 16, GpuInfo=gpus)])
    )
    machine = machines.get("g6f.xlarge")
    assert machine is not None
    assert machine.accelerator_count == 0.125


def test_chip_with_another_memory_than_it_has_is_refused() -> None:
    """A T4 does not have 80 GiB."""
    assert parse_instance_types(
        [wire.describe_row("g4dn.xlarge", 4, 16, GpuInfo=wire.gpu("T4", 1, 81920))]
    ).refused == ("g4dn.xlarge",)


def test_sagemaker_prices_are_its_own_training_skus() -> None:
    """Hosting, clusters and notebooks of the same machine cost something else; no factor on EC2 is used."""
    sink = RowSink("aws", "sagemaker")
    for record in read_products([wire.product_json(product) for product in wire.SAGEMAKER_PRODUCTS]):
        assert record is not None
        sink.add([sagemaker_row(record, CONTEXT)])
    assert prices(sink) == [
        ("ml.p5.48xlarge", "on_demand", "113.0680000000"),
        ("ml.p4d.24xlarge", "on_demand", "37.6880000000"),
        ("ml.g5.xlarge", "on_demand", "1.4084000000"),
    ]


def test_files_and_api_give_the_same_rows() -> None:
    """Two formats, one set of rules."""
    by_json, by_csv = sift_products(*wire.EC2_PRODUCTS), RowSink("aws", "ec2")
    for record in read_offer_csv([wire.offer_csv(wire.EC2_PRODUCTS, "AmazonEC2")], offer="AmazonEC2"):
        assert record is not None
        by_csv.add([ec2_row(record, CONTEXT)])
    assert by_csv.rows == by_json.rows
    assert by_csv.quarantined == by_json.quarantined


def test_offer_file_may_arrive_in_any_chunks() -> None:
    """Chunks end in the middle of a line, a quote or a letter."""
    body = wire.offer_csv(wire.EC2_PRODUCTS, "AmazonEC2").replace(b"Virginia", "Virginiä".encode())
    whole = list(read_offer_csv([body], offer="AmazonEC2"))
    pieces = [body[at : at + 7] for at in range(0, len(body), 7)]
    assert list(read_offer_csv(pieces, offer="AmazonEC2")) == whole
    assert len(whole) == sum(len(product.terms) for product in wire.EC2_PRODUCTS)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "not the price file of AmazonEC2"),
        (b"<html>try later</html>", "not the price file of AmazonEC2"),
        (wire.offer_csv(wire.SAGEMAKER_PRODUCTS, "AmazonSageMaker"), "it is of 'AmazonSageMaker'"),
        (
            wire.offer_csv(wire.EC2_PRODUCTS, "AmazonEC2").replace(b"MarketOption", b"Market"),
            "no column marketoption",
        ),
        (
            wire.offer_csv(wire.EC2_PRODUCTS, "AmazonEC2").replace(b'"Tenancy"', b'"Currency"'),
            "no column currency",
        ),
        (wire.offer_csv(wire.EC2_PRODUCTS, "AmazonEC2") + b"\xff\xfe", "not UTF-8"),
        (wire.offer_csv(wire.EC2_PRODUCTS, "AmazonEC2") + b"x" * 1_000_001, "a line that does not end"),
    ],
)
def test_file_that_is_not_the_offer_is_refused(body: bytes, says: str) -> None:
    """A page of HTML, another offer or a missing column must not look like an empty list."""
    with pytest.raises(PricesUnavailableError, match=says):
        list(read_offer_csv([body], offer="AmazonEC2"))


@pytest.mark.parametrize("body", [b"", b"<html>try later</html>", b'"OfferCode","AmazonEC2"\n'])
def test_file_without_its_table_names_no_other_offer(body: bytes) -> None:
    """What is not there, or is the offer that was asked for, is not said to be another one."""
    with pytest.raises(PricesUnavailableError, match=r"not the price file of AmazonEC2$"):
        list(read_offer_csv([body], offer="AmazonEC2"))


def test_offer_file_is_parsed_in_constant_memory() -> None:
    """Sixteen times the rows take the same memory; what a first reading imports is in neither."""
    body = wire.offer_csv(wire.EC2_PRODUCTS[1:], "AmazonEC2").splitlines(keepends=True)
    head, rows = b"".join(body[:6]), b"".join(body[6:])

    def peak_bytes(times: int) -> int:
        sink, count = RowSink("aws", "ec2"), 0
        tracemalloc.start()
        for record in read_offer_csv(chain([head], repeat(rows, times)), offer="AmazonEC2"):
            count += 1
            assert record is not None
            sink.add([ec2_row(record, SourceContext("eu-west-1", CONTEXT.machines, "", "2026-08-02"))])
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert sink.rows_read == count == times * rows.count(b"\n")
        return peak

    peak_bytes(1)
    assert peak_bytes(160) < peak_bytes(10) + 20_000


def test_row_of_another_width_is_quarantined_and_the_next_is_read() -> None:
    """A row cut short has its cells in the wrong columns."""
    lines = wire.offer_csv(wire.EC2_PRODUCTS[:1], "AmazonEC2").splitlines(keepends=True)
    lines[6:6] = [b'"short","row"\n', b'"' + b"x" * 140_000 + b'"\n']
    records = list(read_offer_csv(lines, offer="AmazonEC2"))
    assert records[:2] == [None, None]
    assert len(records) == 2 + len(wire.EC2_PRODUCTS[0].terms)


def spot_of(*entries: dict[str, object], zones: bool = True) -> RowSink:
    sink = RowSink("aws", "ec2")
    timed = [
        {**entry, "Timestamp": datetime.fromisoformat(str(entry["Timestamp"]).replace("Z", "+00:00"))}
        for entry in entries
    ]
    ids = read_zone_ids(wire.ZONES) if zones else {}
    bands = read_bands(wire.ADVISOR)
    sink.add(
        spot_rows(timed, bands, SourceContext("us-east-1", read_known_machines(), "", "2026-08-02", ids))
    )
    return sink


def test_spot_price_is_the_newest_of_a_zone_by_its_id() -> None:
    """us-east-1a is another zone in every account: the id is what a price is of."""
    sink = spot_of(*wire.SPOT)
    assert {
        (row.zone, row.usd_per_hour) for row in sink.rows if row.machine.instance_type == "p4d.24xlarge"
    } == {
        ("use1-az4", "13.993300"),
        ("use1-az6", "11.787000"),
        ("use1-az1", "8.008700"),
    }
    assert sink.filtered["an older spot price of the same zone"] == 1
    assert sink.quarantined["a spot price of a zone without an id"] == 1


def test_order_of_the_history_does_not_matter() -> None:
    """The newest price is chosen by its time, not by its position."""
    assert set(spot_of(*wire.SPOT).rows) == set(spot_of(*reversed(wire.SPOT)).rows)


def test_spot_price_that_equals_on_demand_is_a_price() -> None:
    """Many p3, p4d and p5 zones are sold so."""
    assert any(row.usd_per_hour == "55.040000" for row in spot_of(*wire.SPOT).rows)


def test_answer_that_says_the_zone_id_itself_needs_no_mapping() -> None:
    """Newer API versions do."""
    sink = spot_of(
        wire.spot("us-east-1a", "p5.48xlarge", "17.0", "2026-08-02T01:00:00Z", AvailabilityZoneId="use1-az2"),
        zones=False,
    )
    assert [row.zone for row in sink.rows] == ["use1-az2"]


def test_bands_are_the_advisors_for_linux() -> None:
    """R = 4 is over 20 % within a month; Windows has its own; an empty list is no machine."""
    bands = read_bands(wire.ADVISOR)
    assert bands.get("us-east-1", "p4d.24xlarge") == ">20%"
    assert bands.get("us-east-1", "g5.xlarge") == ""
    assert len(bands) == 2


def test_bands_with_other_labels_are_ignored() -> None:
    """An index without its known label could mean anything."""
    other = {**wire.ADVISOR, "ranges": [{"index": 0, "label": "<3%"}]}
    assert len(read_bands(other)) == 0
    assert len(read_bands([])) == 0
    assert Bands({}).get("us-east-1", "p4d.24xlarge") == ""


def test_capacity_block_costs_its_fee_by_hours_and_machines() -> None:
    """There is no hourly price in the answer."""
    two = {**wire.CAPACITY_BLOCKS[0], "InstanceCount": 2, "UpfrontFee": "566.400000"}
    ultra = {**wire.CAPACITY_BLOCKS[0], "UltraserverType": "p6e-gb200"}
    nothing = {**wire.CAPACITY_BLOCKS[0], "CapacityBlockDurationHours": 0}
    free = {**wire.CAPACITY_BLOCKS[0], "UpfrontFee": "0.00"}
    sink = RowSink("aws", "ec2")
    offerings = [*wire.CAPACITY_BLOCKS, two, ultra, nothing, free]
    sink.add(capacity_block_row(offering, CONTEXT) for offering in offerings)
    assert [row.usd_per_hour for row in sink.rows] == ["11.800000", "41.528000", "11.800000"]
    assert sink.filtered == {"an UltraServer: it is not booked by the machine": 1}
    assert sink.quarantined == {"a Capacity Block without its fee, hours or machines": 2}
    assert sink.rows[0].caveat == (
        "Capacity Block: the whole fee is paid at booking; the rate of one that begins on 2026-08-05"
    )


@pytest.mark.parametrize(
    ("hours", "minutes", "span_hours", "paid_hours"),
    [
        (24, 30, None, 24.5),  # the documented form: minutes beside hours
        (24, 30, 24.5, 24.5),
        (24, 30, 24, 24.5),  # machines end 30 minutes before the end of a block
        (24, 0, 23, 24),
        (24, 1440, None, 24),  # the total, once in hours and once in minutes
        (24, 1470, 24.5, 24.5),  # the total in minutes, as start and end say
        (24, 1470, None, None),
        (24, 1470, 48.5, None),
        (24, 90, None, None),
        (24, 0, 48, None),
        (15, 51, 24, None),
        (0, 51, None, 0.85),
    ],
)
def test_length_of_a_block_is_what_its_fields_agree_on(
    hours: int, minutes: int, span_hours: float | None, paid_hours: float | None
) -> None:
    """Of two readings that are hours apart neither is taken."""
    start = datetime.fromisoformat("2026-08-05T11:30:00+00:00")
    times = {} if span_hours is None else {"StartDate": start, "EndDate": start + timedelta(hours=span_hours)}
    lengths = {"CapacityBlockDurationHours": hours, "CapacityBlockDurationMinutes": minutes}
    row = capacity_block_row({**wire.CAPACITY_BLOCKS[0], **lengths, **times}, CONTEXT)
    if paid_hours is None:
        assert isinstance(row, Refused)
        assert row == Refused(
            "a Capacity Block whose hours, minutes, start and end disagree", quarantined=True
        )
    else:
        assert isinstance(row, SourceRow)
        assert float(row.usd_per_hour) == pytest.approx(283.2 / paid_hours, abs=1e-6)


@pytest.mark.parametrize(("segments", "passes"), [(0, True), (1, True), (2, False)])
def test_capacity_block_of_several_segments_is_quarantined(segments: int, passes: bool) -> None:
    """EC2's model: each segment has its own schedule and fee, and whether the offer's own fields are totals it does not say."""
    segment = {"InstanceType": "p4d.24xlarge", "CapacityBlockDurationHours": 12, "UpfrontFee": "141.60"}
    row = capacity_block_row(
        {**wire.CAPACITY_BLOCKS[0], "CapacityBlockOfferingSegments": [segment] * segments}, CONTEXT
    )
    assert isinstance(row, SourceRow) is passes
    assert passes or row == Refused("a Capacity Block of several segments with one fee", quarantined=True)


def test_of_offers_at_different_rates_the_highest_is_the_price() -> None:
    """A longer or later block costs more or less an hour; the machine keeps a price, and the price says of what."""
    block = wire.CAPACITY_BLOCKS[0]
    offers = [
        {**block, "CapacityBlockOfferingId": name, "UpfrontFee": fee, "CapacityBlockDurationHours": hours}
        for name, fee, hours in (("a", "283.20", 24), ("b", "600.00", 48), ("c", "283.20", 24))
    ]
    elsewhere = {**block, "AvailabilityZone": "us-east-1c", "UpfrontFee": "240.00"}
    sink = RowSink("aws", "ec2")
    sink.add(offer_rows([*offers, elsewhere, {}], capacity_block_row, CONTEXT))
    assert [(row.zone, row.usd_per_hour, row.sku) for row in sink.rows] == [
        ("use1-az6", "12.500000", "b"),
        ("use1-az1", "10.000000", "cb-0123456789abcdef0"),
    ]
    assert (sink.rows[0].caveat or "").endswith("; the highest rate of 3 offers, from 11.800000 USD an hour")
    assert sink.filtered == {"another offer of the same machine and zone": 2}
    assert sink.rows_read == 5


@pytest.mark.parametrize(
    ("fees", "is_one"),
    [
        (("283", "567"), True),  # 11.7708 to 11.8125 an hour, and 11.8021 to 11.8229
        (("283", "569"), False),
        (("283.20", "566.41"), True),
        (("283.20", "566.50"), False),
        (("283.200000", "566.410000"), True),  # six digits of an amount in cents
    ],
)
def test_fees_that_differ_by_their_rounding_are_one_price(fees: tuple[str, ...], is_one: bool) -> None:
    """Fees, of one day and of two, are whole dollars or cents: half a unit of the last digit either way."""
    offers = [
        {**wire.CAPACITY_BLOCKS[0], "UpfrontFee": fee, "CapacityBlockDurationHours": 24 * days}
        for days, fee in enumerate(fees, 1)
    ]
    sink = RowSink("aws", "ec2")
    sink.add(offer_rows(offers, capacity_block_row, CONTEXT))
    assert len(sink.rows) == 1
    assert ("highest rate" not in (sink.rows[0].caveat or "")) is is_one


def test_training_plan_of_several_parts_has_no_rate() -> None:
    """One fee for two parts cannot be divided among them."""
    plan = dict(wire.TRAINING_PLANS[0])
    parts = plan["ReservedCapacityOfferings"]
    assert isinstance(parts, list)
    elsewhere = {**plan, "TargetResources": ["hyperpod-cluster"]}
    sink = RowSink("aws", "sagemaker")
    offerings = [plan, {**plan, "ReservedCapacityOfferings": parts * 2}, elsewhere]
    sink.add(training_plan_row(offering, CONTEXT) for offering in offerings)
    assert prices(sink) == [("ml.p5.48xlarge", "capacity_block", "47.757083")]
    assert sink.filtered.total() == 2


def test_training_plan_of_an_unknown_zone_is_quarantined() -> None:
    """Its price is one of ours that cannot be placed, which is counted as a fault of the source."""
    sink = RowSink("aws", "sagemaker")
    context = SourceContext("us-east-1", CONTEXT.machines, "", "2026-08-02", {"elsewhere-1a": "use9-az9"})
    sink.add(training_plan_row(plan, context) for plan in wire.TRAINING_PLANS)
    assert sink.rows == []
    assert sink.quarantined["a training plan of a zone without an id"] == len(wire.TRAINING_PLANS)


def test_machines_with_capacity_blocks_are_those_that_say_so() -> None:
    """Blocks are asked for by machine: one left out has no price, one too many costs a call."""
    texts = parse_instance_types(wire.INSTANCE_TYPES).blocks()
    assert {"p4d.24xlarge", "p5.48xlarge"} <= set(texts)
    assert "g5.xlarge" not in texts


def test_name_of_an_unknown_machine_is_cut() -> None:
    """It goes into a note: at most 60 characters of it."""
    refused = read_known_machines().find("x" * 200, accelerated=True)
    assert isinstance(refused, Refused)
    assert refused.unknown_machine == "x" * 60


def test_savings_plan_is_compute_without_upfront_payment() -> None:
    """Prepaid plans, other plans, Windows, dedicated machines and functions are no price of this machine."""
    sink = RowSink("aws", "ec2")
    body = wire.plan_csv(wire.PLAN_RATES, "AmazonComputeSavingsPlan")
    sink.add(plan_file_rows([body], PLANS[0], CONTEXT))
    assert prices(sink) == [
        ("p4d.24xlarge", "savings_1y", "15.9860000000"),
        ("p4d.24xlarge", "savings_3y", "10.9788000000"),
    ]
    assert sink.rows_read == len(wire.PLAN_RATES)


def test_quotas_are_in_vcpus_by_family_and_spot_apart() -> None:
    """Quotas of machines without accelerators and of addresses are left out."""
    assert read_quotas(wire.QUOTAS, region="us-east-1") == (
        Quota("us-east-1", "G and VT", "on_demand", 64.0, "L-DB2E81BA"),
        Quota("us-east-1", "P", "on_demand", 384.0, "L-417A185B"),
        Quota("us-east-1", "P4, P3 and P2", "spot", 0.0, "L-7212CCBC"),
    )


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("P", ("p",)),
        ("G and VT", ("g", "gr", "vt")),
        ("P4, P3 and P2", ("p4d", "p4de", "p3dn")),
        ("P5", ("p5", "p5en")),
        ("Trn", ("trn",)),
        ("DL", ()),
        ("P2", ()),
    ],
)
def test_a_quota_names_the_machines_that_count_against_it(words: str, named: tuple[str, ...]) -> None:
    """A letter has all of its machines, a generation its families; no family of the prices, no limit."""
    machines = ["p3dn", "p4d", "p4de", "p5", "p5en", "p40", "g5", "gr6", "vt1", "trn1n", "hpc7"]
    limits = limits_of(
        [Quota("us-east-1", words, "spot", 8.0, "L-1")], [f"{name}.xlarge" for name in machines]
    )
    assert tuple(family for limit in limits for family in limit.family) == named
    assert all((limit.region, limit.vcpus) == ("us-east-1", 8.0) for limit in limits)


def test_table_of_machines_agrees_with_the_catalogue_of_accelerators() -> None:
    """Every accelerator of the table is one that predictions know, of about the memory it has there."""
    from trainfare_core.hardware.accelerators import accelerator

    machines = read_known_machines()
    assert len(machines.names()) > 80
    for name in machines.names():
        machine = machines.get(name)
        assert machine is not None
        nominal = accelerator(machine.accelerator).memory_bytes / 2**30
        assert machine.accelerator_memory_gib == pytest.approx(nominal, rel=0.01), name
        assert machine.accelerator_count > 0


def test_quotas_of_training_jobs_are_read_by_name() -> None:
    """On demand and spot apart; what is for endpoints, notebooks or warm pools is left out."""
    listed = [
        {"QuotaName": "ml.p5.48xlarge for training job usage", "Value": 2.0},
        {"QuotaName": "ml.g5.xlarge for spot training job usage", "Value": 4.0},
        {"QuotaName": "ml.p5.48xlarge for endpoint usage", "Value": 8.0},
        {"QuotaName": "ml.p5.48xlarge for training warm pool usage", "Value": 8.0},
        {"QuotaName": "ml.g6.xlarge for training job usage"},
    ]
    assert read_training_quotas(listed, region="us-east-1") == (
        TrainingQuota("us-east-1", "ml.p5.48xlarge", "on_demand", 2.0),
        TrainingQuota("us-east-1", "ml.g5.xlarge", "spot", 4.0),
    )
