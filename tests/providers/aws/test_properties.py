"""AWS's parsers with malformed input: no crash, no lost row, no invalid price."""

from __future__ import annotations

import copy
import csv
import json
from collections.abc import Callable
from datetime import datetime, timezone
from random import Random
from typing import Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import aws_server
from builders import aws_wire as wire
from trainfare_core.errors import PricesUnavailableError
from trainfare_core.prices.accept import accept
from trainfare_providers.aws.blocks import capacity_block_row, training_plan_row
from trainfare_providers.aws.bulk_csv import read_offer_csv
from trainfare_providers.aws.machines import parse_instance_types, read_known_machines
from trainfare_providers.aws.price_list import ec2_row, read_products, sagemaker_row
from trainfare_providers.aws.quotas import read_quotas, read_training_quotas
from trainfare_providers.aws.rows import UNREADABLE, SourceContext
from trainfare_providers.aws.savings import PLANS, plan_file_rows, plan_rate_row
from trainfare_providers.aws.spot import read_bands, read_zone_ids, spot_rows
from trainfare_providers.source_rows import RowSink, SourceRow

EXAMPLES = settings(max_examples=8 * settings().max_examples, derandomize=True)
MACHINES = read_known_machines()
CONTEXT = SourceContext("us-east-1", MACHINES, "https://aws.invalid", "2026-08-02", read_zone_ids(wire.ZONES))

HOSTILE = (
    "", "0", "-1", "NaN", "inf", "1e400", "1_000", "٣", "0.0000000000", "21.957642", "9" * 40, "USD", "CNY", "Hrs", "1yr",
    "us-east-1", "p4d.24xlarge", "ml.p5.48xlarge", "USE1-Train:ml.p5.48xlarge", "BoxUsage:g5.xlarge", "2026-07-01",
    "2026-99-99", "0000-00-00T", "<script>", "=cmd()", "\u202e", "\x00", "a\nb", "x" * 300,
)  # fmt: skip
MOMENTS = (datetime(2026, 8, 2, tzinfo=timezone.utc), datetime(2026, 8, 1), datetime.min, datetime.max)  # noqa: DTZ001, DTZ901 - what a parser may be handed


def junk(dice: Random) -> Any:
    """A value that should not be there."""
    kinds: tuple[Any, ...] = (
        dice.choice(HOSTILE),
        dice.choice(HOSTILE),
        dice.choice(MOMENTS),
        dice.choice((None, True, float("nan"), float("inf"), -1, 0, 0.125, 10**13)),
    )
    value = dice.choice(kinds)
    return dice.choice((value, value, value, [value], {"Linux": value, "r": value}))


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every path into a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(deeper for key, one in inner for deeper in places(one, (*path, key)))]


@st.composite
def draw_damaged(draw: st.DrawFn, whole: tuple[Any, ...]) -> list[Any]:
    """Some of the honest entries, each with up to three of its places replaced or removed."""
    # One draw of dice: a thousand examples of twenty draws each would take a minute.
    dice = Random(draw(st.integers(0, 2**64)))
    entries = [copy.deepcopy(dice.choice(whole)) for _ in range(dice.randint(1, 3))]
    for at in range(len(entries)):
        for _ in range(dice.randint(0, 3)):
            path = dice.choice(places(entries[at]))
            if not path:
                entries[at] = junk(dice)
                continue
            target = entries[at]
            for key in path[:-1]:
                target = target[key]
            if dice.random() < 0.4 and isinstance(target, dict):
                del target[path[-1]]
            else:
                target[path[-1]] = junk(dice)
    return entries


class Book:
    """Gathers what many examples kept, and looks at it once: polars takes milliseconds a table."""

    def __init__(self) -> None:
        self.rows: list[SourceRow] = []

    def add(self, sink: RowSink, read: int) -> None:
        assert sink.rows_read == read
        assert len(sink.rows) <= read
        self.rows += sink.rows

    def check(self, service: str) -> None:
        assert self.rows, "no example gave a price: the property says nothing"
        sink = RowSink("aws", service)
        sink.rows = self.rows
        frame = sink.finish().rows
        assert frame.height == len(self.rows)
        judged = accept(frame, origin="aws")
        data_frame, intakes = judged.rows, judged.intakes
        assert sum(intake.rows_read for intake in intakes) == len(self.rows)
        assert {intake.service for intake in intakes} <= {service}
        for name in ("usd_per_hour", "accelerator_count", "accelerator_memory_gib"):
            assert data_frame[name].is_finite().all()
            assert (data_frame[name] > 0).all()
        assert set(data_frame["currency"]) <= {"USD"}
        assert data_frame.filter(pl.col("accelerator").is_null()).is_empty()


def products_of(products: tuple[wire.Product, ...]) -> tuple[Any, ...]:
    return tuple(json.loads(wire.product_json(product)) for product in products)


def texts(entries: list[Any]) -> list[object]:
    """As `PriceList` has them; what JSON cannot say stays as it is, NaN becomes a text that is no JSON."""
    return [json.dumps(entry, default=str) if isinstance(entry, dict) else entry for entry in entries]


def test_price_list_of_ec2() -> None:
    """Whatever a product looks like, each of its prices ends somewhere."""
    book = Book()

    @EXAMPLES
    @given(draw_damaged(products_of(wire.EC2_PRODUCTS)))
    def judge(entries: list[Any]) -> None:
        sink, read = RowSink("aws", "ec2"), 0
        for record in read_products(texts(entries)):
            read += 1
            if record is None:
                sink.refuse(UNREADABLE)
            else:
                sink.add([ec2_row(record, CONTEXT)])
        assert read >= len(entries)
        book.add(sink, read)

    judge()
    book.check("ec2")


def test_price_list_of_sagemaker() -> None:
    """The same of training instances."""
    book = Book()

    @EXAMPLES
    @given(draw_damaged(products_of(wire.SAGEMAKER_PRODUCTS)))
    def judge(entries: list[Any]) -> None:
        sink, read = RowSink("aws", "sagemaker"), 0
        for record in read_products(texts(entries)):
            read += 1
            if record is None:
                sink.refuse(UNREADABLE)
            else:
                sink.add([sagemaker_row(record, CONTEXT)])
        assert read >= len(entries)
        book.add(sink, read)

    judge()
    book.check("sagemaker")


def _cell(text: str) -> str:
    """A cell as CSV; Python's own writer refuses a null byte before 3.11."""
    return '"' + text.replace('"', '""') + '"' if set(text) & set(',"\r\n') else text


def draw_damaged_file(body: bytes) -> st.SearchStrategy[list[bytes]]:
    """A file with cells, bytes and lines damaged below or in its header, cut into chunks."""
    lines = body.splitlines(keepends=True)
    rows = [next(csv.reader([line.decode()])) for line in lines]

    @st.composite
    def build(draw: st.DrawFn) -> list[bytes]:
        dice = Random(draw(st.integers(0, 2**64)))
        table = [list(row) for row in rows]
        for _ in range(dice.randint(0, 4)):
            at = dice.randint(5 if dice.random() < 0.1 else 6, len(table) - 1)
            if dice.random() < 0.5:
                table[at][dice.randrange(len(table[at]))] = dice.choice(HOSTILE)
            elif dice.random() < 0.5:
                table[at] = table[at][: dice.randrange(len(table[at]))] or ["x"]
            else:
                table[at] = [*table[at], "one more"]
        content = "".join(",".join(map(_cell, row)) + "\n" for row in table).encode()
        if dice.random() < 0.1:
            cut = dice.randint(0, len(content))
            content = content[:cut] + dice.randbytes(dice.randint(0, 4)) + content[cut:]
        size = dice.choice((37, 4096))
        return [content[at : at + size] for at in range(0, len(content), size)]

    return build()


def rows_below_the_header(chunks: list[bytes]) -> int:
    """How many rows the file has, by Python's own reader; one that it gives up on is a row too."""
    lines = b"".join(chunks).decode("utf-8-sig").split("\n")
    reader = csv.reader([*(line + "\n" for line in lines[:-1]), *([lines[-1]] if lines[-1] else [])])
    read, header = 0, False
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return read
        except csv.Error:
            row = ["unreadable"]
        read += header and bool(row)
        header = header or row[:1] == ["SKU"]


def file_property(body: bytes, service: Any, read: Callable[[list[bytes], RowSink], int]) -> None:
    book = Book()

    @EXAMPLES
    @given(draw_damaged_file(body))
    def judge(chunks: list[bytes]) -> None:
        sink = RowSink("aws", service)
        try:
            rows = read(chunks, sink)
        except PricesUnavailableError:
            return
        assert rows == rows_below_the_header(chunks)
        book.add(sink, rows)

    judge()
    book.check(service)


def test_offer_file_of_ec2() -> None:
    """A damaged offer file is refused whole, or each of its rows ends somewhere."""

    def read(chunks: list[bytes], sink: RowSink) -> int:
        rows = 0
        for record in read_offer_csv(chunks, offer="AmazonEC2"):
            rows += 1
            if record is None:
                sink.refuse(UNREADABLE)
            else:
                sink.add([ec2_row(record, CONTEXT)])
        return rows

    file_property(wire.offer_csv(wire.EC2_PRODUCTS[:4], "AmazonEC2"), "ec2", read)


def test_plan_file() -> None:
    """The same of Savings Plan files."""

    def read(chunks: list[bytes], sink: RowSink) -> int:
        sink.add(plan_file_rows(chunks, PLANS[0], CONTEXT))
        return sink.rows_read

    file_property(wire.plan_csv(wire.PLAN_RATES[:4], "AmazonComputeSavingsPlan"), "ec2", read)


def listing_property(
    whole: tuple[Any, ...], service: Any, read: Callable[[list[Any], RowSink], None]
) -> None:
    book = Book()

    @EXAMPLES
    @given(draw_damaged(whole))
    def judge(entries: list[Any]) -> None:
        sink = RowSink("aws", service)
        read(entries, sink)
        book.add(sink, len(entries))

    judge()
    book.check(service)


def test_plan_rates() -> None:
    """Whatever a rate looks like."""
    whole = tuple(aws_server.rate_json(rate) for rate in wire.PLAN_RATES)
    listing_property(
        whole,
        "ec2",
        lambda entries, sink: sink.add(plan_rate_row(entry, PLANS[0], CONTEXT) for entry in entries),
    )


def test_spot_history() -> None:
    """Whatever an entry looks like; times without a zone, and at both ends of the calendar."""
    timed = tuple(
        {**fields, "Timestamp": datetime(2026, 8, 2, 1, tzinfo=timezone.utc)} for fields in wire.SPOT
    )
    bands = read_bands(wire.ADVISOR)
    listing_property(timed, "ec2", lambda entries, sink: sink.add(spot_rows(entries, bands, CONTEXT)))


def test_capacity_blocks() -> None:
    """Fees and hours of 0, negative, infinite, in other digits."""
    listing_property(
        wire.CAPACITY_BLOCKS,
        "ec2",
        lambda entries, sink: sink.add(capacity_block_row(entry, CONTEXT) for entry in entries),
    )


def test_training_plans() -> None:
    """The same, one level deeper."""
    listing_property(
        wire.TRAINING_PLANS,
        "sagemaker",
        lambda entries, sink: sink.add(training_plan_row(entry, CONTEXT) for entry in entries),
    )


@EXAMPLES
@given(draw_damaged(wire.INSTANCE_TYPES))
def test_described_machines(entries: list[Any]) -> None:
    """A machine that is accepted has a known accelerator, a positive count and a host."""
    machines = parse_instance_types(entries)
    for name in machines.names():
        machine = machines.get(name)
        assert machine is not None
        assert machine.accelerator_count > 0
        assert machine.vcpus > 0
        assert 0 < machine.accelerator_memory_gib < 300
    assert len(machines.names()) + len(machines.refused) <= len(entries)


@EXAMPLES
@given(
    draw_damaged((wire.ADVISOR,)),
    draw_damaged((*wire.QUOTAS, *wire.TRAINING_QUOTAS)),
    draw_damaged(wire.ZONES),
)
def test_bands_quotas_and_zones(advisors: list[Any], quotas: list[Any], zones: list[Any]) -> None:
    """Helps around a price: known bands, finite vCPUs, ids that are ids."""
    for advisor in advisors:
        assert read_bands(advisor).get("us-east-1", "p4d.24xlarge") in (
            "",
            "<5%",
            "5-10%",
            "10-15%",
            "15-20%",
            ">20%",
        )
    assert all(0 <= quota.vcpus < 10**12 for quota in read_quotas(quotas, region="us-east-1"))
    assert all(0 <= quota.machines < 10**12 for quota in read_training_quotas(quotas, region="us-east-1"))
    assert all("-az" in zone_id for zone_id in read_zone_ids(zones).values())
