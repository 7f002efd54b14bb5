"""Targets: the answers of price APIs and price files of the clouds, and the HTTP bodies that bring them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from datetime import datetime
from types import SimpleNamespace
from typing import Any, Final, get_args

from builders import aws_server, aws_wire, azure_ml, azure_usages, azure_wire, gcp_quotas, gcp_wire
from fuzz.market import TODAY
from fuzz.target import Target
from trainfare_core.clouds import INTERRUPTION_BANDS
from trainfare_core.errors import FetchError
from trainfare_core.prices.accept import accept
from trainfare_core.prices.sanity import LastPrices
from trainfare_providers.answer_values import items_of, object_of
from trainfare_providers.aws.blocks import capacity_block_row, training_plan_row
from trainfare_providers.aws.bulk_csv import read_offer_csv
from trainfare_providers.aws.machines import parse_instance_types, read_known_machines
from trainfare_providers.aws.price_list import ec2_row, read_products, sagemaker_row
from trainfare_providers.aws.quotas import quota_note, read_quotas, read_training_quotas
from trainfare_providers.aws.rows import UNREADABLE, Service, SourceContext
from trainfare_providers.aws.savings import PLANS, plan_file_rows, plan_rate_row
from trainfare_providers.aws.spot import read_bands, read_zone_ids, spot_rows
from trainfare_providers.azure import vm_rows
from trainfare_providers.azure.ml_rows import ml_rows
from trainfare_providers.azure.usages import parse_usages, vm_limits
from trainfare_providers.azure.workspace import parse_offer
from trainfare_providers.gcp import catalogue_rows
from trainfare_providers.gcp.quotas import family_quota, gpu_limits, parse_region
from trainfare_providers.http.answer import HttpRequest, body_chunks, read_json
from trainfare_providers.http.exchange import Head
from trainfare_providers.http.strict_json import parse_json
from trainfare_providers.source_rows import RowSink

_MOMENTS: Final = ("Timestamp", "StartDate", "EndDate", "StartTime")
"""Fields that boto3 gives as datetimes."""
_AZURE_MACHINES: Final = ("Standard_NC24ads_A100_v4", "Standard_ND96isr_H100_v5", "Standard_NC6s_v3")
_MAX_BODY_BYTES: Final = 2**20
_INPUTS_PER_TABLE: Final = 8
"""A table of rows takes ten times as long as to parse them: it is made of one input in so many."""


def _check(sink: RowSink, data: bytes) -> None:
    """Check that every row that was read is counted once, and that each accepted one is a price."""
    counted = sum((*sink.filtered.values(), *sink.quarantined.values()))
    assert len(sink.rows) + counted == sink.rows_read
    if sum(data) % _INPUTS_PER_TABLE and b"99999999" not in data:
        return
    rows = sink.finish()
    judged = accept(rows.rows, origin=sink.provider, last=LastPrices())
    assert sum(intake.rows_read for intake in judged.intakes) == rows.rows.height
    prices = judged.rows["usd_per_hour"]
    assert (prices.is_finite() & (prices > 0)).all()


def _parse_json(data: bytes) -> Any:
    """Return JSON as the HTTP client does; what is refused there no parser sees."""
    try:
        return parse_json(data)
    except ValueError as error:
        raise FetchError("a cloud", str(error)) from None


def _context(zones: dict[str, str] | None = None) -> SourceContext:
    return SourceContext("us-east-1", read_known_machines(), "https://aws.invalid", TODAY, zones or {})


def _date_answer(value: Any) -> Any:
    """Return boto3's form of an answer: floats for numbers, datetimes in some fields."""
    if isinstance(value, list):
        return [_date_answer(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {name: _moment(one) if name in _MOMENTS else _date_answer(one) for name, one in value.items()}


def _moment(value: Any) -> Any:
    try:
        return datetime.fromisoformat(value.replace("Z", "+00:00"))
    except (AttributeError, ValueError, TypeError):
        return _date_answer(value)


def _aws_answers(data: bytes) -> None:
    _parse_json(data)
    answer = object_of(_date_answer(json.loads(data))) or {}
    zones = read_zone_ids(items_of(answer, "zones"))
    context, bands = _context(zones), read_bands(answer.get("advisor"))
    quota_note(read_quotas(items_of(answer, "quotas"), region="us-east-1"), region="us-east-1")
    read_training_quotas(items_of(answer, "quotas"), region="us-east-1")
    machines = parse_instance_types(items_of(answer, "machines"))
    read_known_machines().join(machines).blocks()
    assert {bands.get("us-east-1", name) for name in machines.names()} <= {"", *INTERRUPTION_BANDS}
    for service in get_args(Service):
        sink = RowSink("aws", service)
        for record in read_products(map(_text, items_of(answer, "products"))):
            row = ec2_row if service == "ec2" else sagemaker_row
            sink.add([UNREADABLE if record is None else row(record, context)])
        plan = PLANS[0] if service == "ec2" else PLANS[1]
        sink.add(plan_rate_row(one, plan, context) for one in items_of(answer, "rates"))
        if service == "ec2":
            sink.add(spot_rows(items_of(answer, "spot"), bands, context))
            sink.add(capacity_block_row(one, context) for one in items_of(answer, "blocks"))
        else:
            sink.add(training_plan_row(one, context) for one in items_of(answer, "plans"))
        _check(sink, data)


def _text(product: object) -> object:
    return json.dumps(product, default=str) if isinstance(product, dict) else product


def _aws_documents() -> Sequence[bytes]:
    def of(products: Any, at: int) -> bytes:
        whole = {
            "products": [json.loads(aws_wire.product_json(product)) for product in products],
            "rates": [aws_server.rate_json(rate) for rate in aws_wire.PLAN_RATES[at : at + 1]],
            "spot": aws_wire.SPOT[at : at + 2],
            "blocks": aws_wire.CAPACITY_BLOCKS[:1],
            "plans": aws_wire.TRAINING_PLANS[:1],
            "machines": aws_wire.INSTANCE_TYPES[at : at + 1],
            "quotas": aws_wire.QUOTAS[at : at + 1],
            "zones": aws_wire.ZONES,
            "advisor": aws_wire.ADVISOR,
        }
        return json.dumps(whole).encode()

    return [of(aws_wire.EC2_PRODUCTS[:1], 0), of(aws_wire.SAGEMAKER_PRODUCTS[:1], 1)]


def _aws_offer_file(data: bytes) -> None:
    sink = RowSink("aws", "ec2")
    for record in read_offer_csv([data[at : at + 997] for at in range(0, len(data), 997)], offer="AmazonEC2"):
        sink.add([UNREADABLE if record is None else ec2_row(record, _context())])
    _check(sink, data)


def _aws_plan_file(data: bytes) -> None:
    sink = RowSink("aws", "ec2")
    sink.add(plan_file_rows([data], PLANS[0], _context()))
    _check(sink, data)


def _azure_answers(data: bytes) -> None:
    answer = _parse_json(data)
    sink, meters = vm_rows(items_of(answer, "Items"), source="https://azure.invalid", today=TODAY)
    _check(sink, data)
    sizes, usages = (
        [SimpleNamespace(**one) for one in items_of(answer, name) if isinstance(one, dict)]
        for name in ("sizes", "usages")
    )
    workspace, _ = ml_rows(parse_offer("eastus", sizes, usages), meters, source="https://azure.invalid")
    _check(workspace, data)
    usages = [usage for usage in parse_usages(items_of(answer, "value"), "eastus") if usage is not None]
    assert {limit.vcpus for limit in vm_limits(usages, _AZURE_MACHINES)} <= {usage.vcpus for usage in usages}


def _azure_documents() -> Sequence[bytes]:
    name = "Standard_NC24ads_A100_v4"
    workspace = {
        "sizes": [azure_ml.size(name, 1, 24, 3.67, 0.73)],
        "usages": [azure_ml.usage("NCADSA100v4", 8, 24)],
    }
    return [
        json.dumps(
            {
                "Items": [azure_wire.item(name, 3.67), *azure_wire.ITEMS[at : at + 2]],
                "value": azure_usages.USAGES[at : at + 3],
                **workspace,
            }
        ).encode()
        for at in range(0, len(azure_wire.ITEMS), 6)
    ] + [_azure_exponents()]


def _azure_exponents() -> bytes:
    """Return prices beyond all measure beside a good one."""
    items = [
        azure_wire.item(name, price) for name, price in zip(_AZURE_MACHINES, (3.67, 0.125, 0.25), strict=True)
    ]
    text = json.dumps({"Items": items})
    return text.replace("0.125", "1E+999999999").replace("0.25", "1E-999999999").encode()


def _gcp_answers(data: bytes) -> None:
    answer = _parse_json(data)
    skus = [items_of(answer, name) for name in ("compute", "tpu")]
    for sink in catalogue_rows(*skus, source="https://gcp.invalid", today=TODAY):
        _check(sink, data)
    for entry in items_of(answer, "items"):
        quotas = parse_region(entry)
        for gpu in {name for _, name in quotas.gpus} | {"NVIDIA_H100"}:
            standard = family_quota(items_of(answer, "dimensionsInfos"), quotas.region, gpu)
            assert all(
                limit.count()[1] >= 0 for limit in gpu_limits(quotas, gpu, standard, ("a3-highgpu-8g",))
            )


def _gcp_documents() -> Sequence[bytes]:
    a2, l4 = (
        gcp_wire.COMPUTE[:4],
        [
            fields
            for fields in gcp_wire.COMPUTE
            if "G2" in fields["description"] or "L4" in fields["description"]
        ],
    )
    quotas = {"items": gcp_quotas.REGIONS, **gcp_quotas.FAMILIES}
    return [
        json.dumps({"compute": compute, "tpu": gcp_wire.TPU[:3], **quotas}).encode() for compute in (a2, l4)
    ]


def _http_body(data: bytes) -> None:
    encoding, _, body = data.partition(b"\n")
    head = Head(200, "", "", "application/json", encoding.decode("latin-1"), has_end=True)
    chunks = [body[at : at + 97] for at in range(0, len(body), 97)]
    request = HttpRequest("aws", "https://aws.invalid/prices")
    whole = b"".join(body_chunks(chunks, head.content_encoding, request, _MAX_BODY_BYTES))
    assert len(whole) <= _MAX_BODY_BYTES
    value, fault = read_json(whole, head, ("Items",))
    if fault is not None:
        assert value is None
        raise request.fault(fault.name, fault.detail)
    assert isinstance(value, dict)
    assert "Items" in value


def _http_bodies() -> Sequence[bytes]:
    page = azure_wire.page(azure_wire.ITEMS[:1])
    return [
        b"\n" + page,
        b"gzip\n" + gzip.compress(page, mtime=0),
        b"gzip\n" + gzip.compress(b"0" * 2**21, mtime=0),
    ]


_AWS = "trainfare_providers/aws"
TARGETS = (
    Target(
        "aws_answers",
        _aws_answers,
        _aws_documents,
        "json",
        tuple(
            f"{_AWS}/{name}.py" for name in ("price_list", "blocks", "machines", "quotas", "savings", "spot")
        ),
        max_bytes=16384,
    ),
    Target(
        "aws_offer_file",
        _aws_offer_file,
        lambda: [aws_wire.offer_csv(aws_wire.EC2_PRODUCTS[:3], "AmazonEC2")],
        "csv",
        (f"{_AWS}/bulk_csv.py",),
    ),
    Target(
        "aws_plan_file",
        _aws_plan_file,
        lambda: [aws_wire.plan_csv(aws_wire.PLAN_RATES[:3], "AmazonComputeSavingsPlan")],
        "csv",
        (f"{_AWS}/savings.py",),
    ),
    Target(
        "azure_answers",
        _azure_answers,
        _azure_documents,
        "json",
        tuple(f"trainfare_providers/azure/{name}.py" for name in ("meters", "workspace", "usages")),
    ),
    Target(
        "gcp_answers",
        _gcp_answers,
        _gcp_documents,
        "json",
        ("trainfare_providers/gcp/skus.py", "trainfare_providers/gcp/quotas.py"),
    ),
    Target(
        "http_body",
        _http_body,
        _http_bodies,
        "bytes",
        tuple(f"trainfare_providers/http/{name}.py" for name in ("answer", "strict_json", "exchange")),
    ),
)
