"""What the price parsers make of every entry with each of its places damaged in turn; see `builders.recorded`."""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timezone
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import polars as pl

from builders import aws_server
from builders import aws_wire as wire
from builders.azure_ml import size, usage
from builders.azure_usages import USAGES, compute_usage
from builders.azure_wire import ITEMS
from builders.azure_wire import page as azure_page
from builders.gcp_quotas import FAMILIES, REGIONS, WHOLE
from builders.gcp_wire import COMPUTE, TPU
from builders.gcp_wire import page as gcp_page
from builders.offers import offer_row, table
from builders.recorded import answer_or_error, compare_with_recorded, simplify
from trainfare_core.errors import TrainfareError
from trainfare_core.prices.accept import accept
from trainfare_core.prices.book import PriceBook
from trainfare_core.prices.sanity import LastPrices, why_not_replaced
from trainfare_providers import answer_values
from trainfare_providers.aws.blocks import capacity_block_row, training_plan_row
from trainfare_providers.aws.bulk_csv import read_offer_csv
from trainfare_providers.aws.machines import parse_instance_types, read_known_machines
from trainfare_providers.aws.price_list import (
    column_name,
    ec2_row,
    read_products,
    sagemaker_row,
    training_type,
)
from trainfare_providers.aws.quotas import (
    limits_of,
    quota_note,
    read_quotas,
    read_training_quotas,
    training_limits,
)
from trainfare_providers.aws.rows import SourceContext
from trainfare_providers.aws.savings import PLANS, plan_file_rows, plan_rate_row
from trainfare_providers.aws.spot import read_bands, read_zone_ids, spot_rows
from trainfare_providers.azure import vm_rows
from trainfare_providers.azure.meters import read_item
from trainfare_providers.azure.ml_rows import ml_rows
from trainfare_providers.azure.usages import parse_usages, vm_limits
from trainfare_providers.azure.workspace import (
    WorkspaceOffer,
    families,
    parse_offer,
    quota_limits,
    short_family,
)
from trainfare_providers.conformance import check_book, spot_above_on_demand
from trainfare_providers.gcp import catalogue_rows
from trainfare_providers.gcp.quotas import family_quota, gpu_limits, parse_region
from trainfare_providers.gcp.skus import read_sku
from trainfare_providers.http import addresses, retry
from trainfare_providers.http.strict_json import parse_json
from trainfare_providers.machine_types import network_gbit_per_s

TODAY = "2026-08-02"
CONTEXT = SourceContext(
    "us-east-1", read_known_machines(), "https://aws.invalid", TODAY, read_zone_ids(wire.ZONES)
)
JUNK: tuple[Any, ...] = (
    None, True, 0, 1, -1, 2, 7, 12, 0.5, 3.673, Decimal("1e999999"), Decimal("NaN"), "", "0", "1", "8", "nan", "1e400", "21.957642",
    "1_000", "USD", "EUR", "Hrs", "1yr", "3yr", "1 Year", "3 Years", "1 Hour", "Spot", "OnDemand", "Linux", "Windows", "us-east-1",
    "p4d.24xlarge", "ml.p5.48xlarge", "Standard_ND96isr_H100_v5", "2026-07-01T00:00:00Z", "2026-08-02T00:00:00Z",
    "2026-08-03T00:00:00Z", "2026-99-99", "x" * 300, [], ["us-east-1"], {},
)  # fmt: skip


PARTS = 3
"""Of the junk values, of which each entry that has a place gets another one there."""
MOST_ENTRIES = 2 * PARTS


def list_places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield every path into a JSON value but the empty one."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, entry in inner:
        yield (*path, key)
        yield from list_places(entry, (*path, key))


def damage(entry: Any, path: tuple[Any, ...], which: int) -> Iterator[Any]:
    """Yield an entry without a place, and with each of a part of the junk values in it."""
    for value in ("removed", *JUNK[which % PARTS :: PARTS]):
        damaged = copy.deepcopy(entry)
        target = damaged
        for key in path[:-1]:
            target = target[key]
        if value == "removed":
            del target[path[-1]]
        else:
            target[path[-1]] = copy.deepcopy(value)
        yield damaged


def sum_up(answers: Iterable[Any]) -> str:
    """Return how many different answers there are, and a text that any change of one of them changes."""
    texts = [json.dumps(simplify(answer), sort_keys=True, default=str) for answer in answers]
    return (
        f"{len(set(texts))} of {len(texts)}: {hashlib.sha256(chr(10).join(texts).encode()).hexdigest()[:8]}"
    )


def read_damaged(name: str, entries: Iterable[Any], read: Callable[[Any], Any]) -> dict[str, Any]:
    """Return what a parser makes of each entry, whole and with each of its places damaged."""
    answers: dict[str, Any] = {}
    by_place: dict[str, list[Any]] = {}
    counts: Counter[str] = Counter()
    for index, entry in enumerate(entries):
        answers[f"{name} {index}"] = sum_up([read(copy.deepcopy(entry))])
        for path in list_places(entry):
            place = ".".join("#" if isinstance(key, int) else key for key in path)
            counts[place] += 1
            if counts[place] <= MOST_ENTRIES:
                found = [read_or_refuse(read, damaged) for damaged in damage(entry, path, counts[place])]
                by_place.setdefault(place, []).extend(found)
    return answers | {f"{name} {place}": sum_up(found) for place, found in by_place.items()}


def read_or_refuse(read: Callable[[Any], Any], entry: Any) -> Any:
    try:
        return read(entry)
    except TrainfareError as error:
        return f"{type(error).__name__}: {error}"


def describe_rows(rows: Iterable[Any]) -> list[Any]:
    """Return rows and refusals in short."""
    return [
        [row.machine.instance_type, row.machine.accelerator, row.machine.accelerator_count, str(row.usd_per_hour)[:40], row.region,
         row.purchase_option, row.observed_on, row.zone, row.caveat, row.interruption_band, row.currency]
        if hasattr(row, "usd_per_hour")
        else row
        for row in rows
    ]  # fmt: skip


def load_json(product: wire.Product) -> Any:
    return json.loads(wire.product_json(product))


def test_damaged_answers_of_aws() -> None:
    bands = read_bands(wire.ADVISOR)

    def read_product(row: Callable[..., Any]) -> Callable[[Any], Any]:
        def read(entry: Any) -> Any:
            records = read_products([json.dumps(entry, default=str)])
            return describe_rows(record if record is None else row(record, CONTEXT) for record in records)

        return read

    timed = [{**fields, "Timestamp": datetime(2026, 8, 2, 1, tzinfo=timezone.utc)} for fields in wire.SPOT]
    answers = {
        **read_damaged("ec2", map(load_json, wire.EC2_PRODUCTS[:9]), read_product(ec2_row)),
        **read_damaged("sagemaker", map(load_json, wire.SAGEMAKER_PRODUCTS[:5]), read_product(sagemaker_row)),
        **read_damaged(
            "plan rates",
            map(aws_server.rate_json, wire.PLAN_RATES),
            lambda entry: describe_rows([plan_rate_row(entry, plan, CONTEXT) for plan in PLANS[:2]]),
        ),
        **read_damaged(
            "spot", timed, lambda entry: describe_rows(spot_rows([entry, timed[0]], bands, CONTEXT))
        ),
        **read_damaged(
            "blocks", wire.CAPACITY_BLOCKS, lambda entry: describe_rows([capacity_block_row(entry, CONTEXT)])
        ),
        **read_damaged(
            "training plans",
            wire.TRAINING_PLANS,
            lambda entry: describe_rows([training_plan_row(entry, CONTEXT)]),
        ),
        **read_damaged(
            "quotas",
            (*wire.QUOTAS[:8], *wire.TRAINING_QUOTAS),
            lambda entry: [
                read_quotas([entry], region="us-east-1"),
                read_training_quotas([entry], region="us-east-1"),
            ],
        ),
        **read_damaged("zones", wire.ZONES[:2], lambda entry: read_zone_ids([entry])),
    }

    history = [
        {**entry, "Timestamp": datetime(2026, 8, 2, hour, tzinfo=timezone.utc)}
        for entry in timed[:4]
        for hour in (3, 1, 5, 5, 7)
    ]
    for name, entries in (("history", history), ("history backwards", history[::-1])):
        answers[name] = sum_up(describe_rows(spot_rows(entries, bands, CONTEXT)))

    def read_machine(entry: Any) -> Any:
        known = parse_instance_types([entry])
        joined = read_known_machines().join(known)
        return [
            [known.get(name) for name in known.names()],
            known.refused,
            known.blocks(),
            joined.refused,
            len(joined.names()),
            joined.blocks(),
        ]

    answers |= read_damaged("machines", wire.INSTANCE_TYPES, read_machine)
    every = [*wire.QUOTAS, *wire.TRAINING_QUOTAS]
    names = (
        "p4d.24xlarge",
        "p5.48xlarge",
        "g5.xlarge",
        "ml.p5.48xlarge",
        "ml.g5.xlarge",
        "trn1.2xlarge",
        "dl1.24xlarge",
    )
    quotas, training = read_quotas(every, region="us-east-1"), read_training_quotas(every, region="us-east-1")
    answers["limits"] = [
        limits_of(quotas, names),
        training_limits(training, names),
        quota_note(quotas, region="us-east-1"),
    ]
    answers["bands"] = [bands.get(region, name) for region in ("us-east-1", "eu-west-1") for name in names]
    answers["columns"] = [column_name(name) for name in ("instanceType", "Instance Type", "SKU", "usagetype")]
    answers["training types"] = [
        training_type(name)
        for name in ("USE1-Train:ml.p5.48xlarge", "Train:ml.g5.xlarge", "USE1-Host:ml.x", "")
    ]
    compare_with_recorded("aws", answers)


def test_damaged_files_of_aws() -> None:
    draws, answers = random.Random(9), {}
    offer = wire.offer_csv(wire.EC2_PRODUCTS[:6], "AmazonEC2")
    plans = wire.plan_csv(wire.PLAN_RATES[:4], "AmazonComputeSavingsPlan")

    def read_offer(chunks: list[bytes]) -> Any:
        return describe_rows(
            record if record is None else ec2_row(record, CONTEXT)
            for record in read_offer_csv(chunks, offer="AmazonEC2")
        )

    def read_plans(chunks: list[bytes]) -> Any:
        return describe_rows(plan_file_rows(chunks, PLANS[0], CONTEXT))

    for name, body, read in (("offer", offer, read_offer), ("plans", plans, read_plans)):
        lines = body.split(b"\n")
        answers[name] = sum_up([read([body]), read([body[at : at + 37] for at in range(0, len(body), 37)])])
        for index in range(len(lines)):
            damaged = []
            for cells in (
                b"",
                b"x",
                b'"',
                lines[index] + b",more",
                lines[index][: len(lines[index]) // 2],
                lines[index] * 2,
            ):
                damaged.append(
                    read_or_refuse(read, [b"\n".join([*lines[:index], cells, *lines[index + 1 :]])])
                )
            columns = lines[index].split(b",")
            for place in range(len(columns)):
                for value in (b"", b"0", b"USD", b"NaN", b"2026-08-03", b"1e400", b"p4d.24xlarge"):
                    changed = b",".join([*columns[:place], value, *columns[place + 1 :]])
                    if index < 12 or draws.random() < 0.1:
                        damaged.append(
                            read_or_refuse(read, [b"\n".join([*lines[:index], changed, *lines[index + 1 :]])])
                        )
            answers[f"{name} line {index}"] = sum_up(damaged)
    compare_with_recorded("aws_files", answers)


def test_damaged_answers_of_azure() -> None:
    whole: Any = parse_json(azure_page(ITEMS))
    answers = read_damaged("meters", whole["Items"], lambda entry: read_item(entry, today=TODAY))
    sizes = [
        size("Standard_NC24ads_A100_v4", 1, 24, 3.67, 0.73),
        size("Standard_ND96isr_H100_v5", 8, 96, 98.0),
        size("Standard_DS1_v2", 0, 1, 0.07),
    ]
    usages = [usage("NCADSA100v4", 8, 24), usage("NDSH100v5", 0, 96)]
    _, meters = vm_rows(whole["Items"], source="x", today=TODAY)

    def read_workspace(entries: list[Any], used: list[Any]) -> Any:
        offer = parse_offer(
            "eastus",
            [SimpleNamespace(**entry) for entry in entries],
            [SimpleNamespace(**entry) for entry in used],
        )
        if not isinstance(offer, WorkspaceOffer):
            return offer
        sink, notes = ml_rows(offer, meters, source="x")
        names = ("Standard_NC24ads_A100_v4", "Standard_ND96isr_H100_v5")
        return [
            describe_rows(sink.rows),
            sink.filtered,
            sink.quarantined,
            notes,
            quota_limits(offer, names),
            families(offer.quotas),
            offer.unreadable,
        ]

    answers |= read_damaged("sizes", sizes, lambda entry: read_workspace([entry, sizes[0]], usages))
    answers |= read_damaged("quotas", usages, lambda entry: read_workspace(sizes, [entry]))
    names = (
        "Standard_NC24ads_A100_v4",
        "Standard_ND96isr_H100_v5",
        "Standard_NC4as_T4_v3",
        "Standard_NC144ds_xl_RTXPRO6000BSE_v6",
    )

    def read_usage(entry: Any) -> Any:
        found = parse_usages([entry, *USAGES], "eastus")
        return [found, list(vm_limits((usage for usage in found if usage is not None), names))]

    answers |= read_damaged("usages", [*USAGES, compute_usage("cores", 100, 90)], read_usage)
    answers["families"] = [
        short_family(name)
        for name in ("standardNCADSA100v4Family", "Standard NDSH100v5 Family Cluster Dedicated vCPUs", "x")
    ]
    answers["rows"] = describe_rows(vm_rows(whole["Items"], source="x", today=TODAY)[0].rows)
    compare_with_recorded("azure", answers)


def test_damaged_answers_of_google() -> None:
    whole: Any = parse_json(gcp_page([*COMPUTE, *TPU]))
    answers = read_damaged("skus", whole["skus"], lambda entry: read_sku(entry, today=TODAY))

    def read_catalogue(without: int) -> Any:
        compute = [entry for index, entry in enumerate(COMPUTE) if index != without]
        tpu = [entry for index, entry in enumerate(TPU) if index + len(COMPUTE) != without]
        return [
            [describe_rows(sink.rows), sink.filtered, sink.quarantined]
            for sink in catalogue_rows(compute, tpu, source="x", today=TODAY)
        ]

    for index in range(-1, len(COMPUTE) + len(TPU)):
        answers[f"without {index}"] = sum_up([read_catalogue(index)])
    answers |= read_damaged("regions", [*REGIONS, WHOLE], parse_region)
    infos = FAMILIES["dimensionsInfos"]
    answers |= read_damaged(
        "families",
        infos,
        lambda entry: [
            family_quota([entry, *infos[1:]], region, "NVIDIA_H100")
            for region in ("us-central1", "us-east5", "x")
        ],
    )
    for region, gpu, standard in itertools.product(
        REGIONS, ("NVIDIA_H100", "NVIDIA_L4", "NVIDIA_A100"), (None, 0.0, 8.0)
    ):
        limits = list(gpu_limits(parse_region(region), gpu, standard, ["a3-highgpu-8g"]))
        answers[f"limits {region['name']} {gpu} {standard}"] = sum_up(limits)
    compare_with_recorded("gcp", answers)


def test_judged_prices() -> None:
    draws, answers = random.Random(10), {}
    chips = {"L4-24GB": (24.0, 0.8), "A100-SXM-80GB": (80.0, 4.0), "H100-SXM-80GB": (80.0, 12.0)}

    def draw_table(count: int) -> pl.DataFrame:
        rows = []
        for _ in range(count):
            chip = draws.choice(list(chips))
            memory, usd = chips[chip]
            number, purchase = (
                draws.choice([1.0, 4.0, 8.0]),
                draws.choice(["on_demand", "spot", "reserved_1y"]),
            )
            rows.append(
                offer_row(
                    instance_type=f"{chip[:2].lower()}.{draws.choice([number, number, 4.0]):g}x", accelerator=chip, accelerator_count=number,
                    accelerator_memory_gib=draws.choice([memory, memory, memory, memory * 1.02, memory * 1.2, memory * 0.8, 1.0]),
                    vcpus=12 * number, memory_gib=64 * number, region=draws.choice(["us-east-1", "eu-west-1"]),
                    usd_per_hour=round(usd * number * draws.choice([1.0, 1.0, 1.0, 0.3, 0.5, 2.0, 3.3, 5.1, 11.0, 101.0]), 4), purchase_option=purchase,
                )
            )  # fmt: skip
        keys = ["instance_type", "region", "purchase_option"]
        return accept(table(*rows).unique(keys, keep="first", maintain_order=True), origin="aws").rows

    for index in range(60):
        new, old = draw_table(draws.choice([2, 6, 14])), draw_table(draws.choice([3, 12]))
        judged = accept(
            new, origin="aws", last=LastPrices(draws.choice([None, old]), draws.choice([None, old, new]))
        )
        columns = ["instance_type", "region", "purchase_option", "usd_per_hour"]
        answers[str(index)] = [
            sorted(" ".join(map(str, row)) for row in judged.rows.select(columns).rows()),
            [[intake.accepted, intake.quarantined] for intake in judged.intakes],
        ]
        kept = old.head(max(1, old.height - draws.choice([0, 1, 5, 9])))
        answers[f"{index} replaced"] = [
            why_not_replaced(new, old),
            why_not_replaced(kept, old),
            why_not_replaced(old, kept),
        ]
        prices = PriceBook.from_rows(
            pl.concat([new, old]).unique(
                ["instance_type", "region", "purchase_option"], keep="first", maintain_order=True
            ),
            origin="aws",
        )
        answers[f"{index} checked"] = [
            sorted(f"{finding.rule}: {finding}" for finding in check_book(prices)),
            spot_above_on_demand(prices),
        ]
    compare_with_recorded("judged_prices", answers)


def test_values_of_answers_and_addresses() -> None:
    answers: dict[str, Any] = {}
    values = (
        *JUNK,
        Decimal("3.5"),
        Decimal("-0.0"),
        10**59,
        " padded ",
        "a\x00b",
        "\u0663",
        {"a": {"b": [1, "x"]}},
        "2026-07-01",
        "2026-07",
    )
    for value in values:
        answers[f"value {str(value)[:30]}"] = [
            str(answer_or_error(lambda value=value, read=read: read(value)))[:60]
            for read in (answer_values.text_of, answer_values.name_of, answer_values.number_of, answer_values.day_of)
        ] + [
            str(answer_values.amount_at({"a": value}, "a"))[:60], answer_values.text_at({"a": {"b": value}}, "a", "b")[:60],
            str(answer_values.object_of({"a": value}, "a")), str(answer_values.items_of({"a": value}, "a"))[:60],
        ]  # fmt: skip
    urls = (
        "https://a.example/x", "https://a.example:443/x", "http://a.example/", "https://b.a.example/", "https://a.co.uk/", "https://b.a.co.uk/",
        "https://a.com.au", "https://www.a.example.com/", "http://127.0.0.1:8000/a", "http://localhost/a", "https://[::1]/", "https://10.0.0.1/",
        "https://u:p@a.example/", "ftp://a.example/", "https://", "https://a.example:99999/", "https://A.Example./x?token=1#f", "//b.example/y", "/y?z=1", "y",
        "https://a.b.c.d.example/", "https://xn--a.example/", "https://a..example/", "https://0x7f.1/", "file:///etc", "https://a.example/x y",
    )  # fmt: skip
    for url in urls:
        answers[f"url {url}"] = [
            answer_or_error(lambda url=url, read=read: read(url))
            for read in (
                addresses.redact_url,
                addresses.format_host,
                addresses.is_loopback,
                addresses.why_refused,
            )
        ]
        answers[f"from {url}"] = "".join(
            "01"[bool(answer_or_error(lambda url=url, other=other: addresses.same_site(url, other)))]
            + "01"[bool(answer_or_error(lambda url=url, other=other: addresses.same_origin(url, other)))]
            for other in urls
        )
        answers[f"to {url}"] = answer_or_error(
            lambda url=url: addresses.target_of("https://a.example/x/z?q=1", url)
        )
    for status in (200, 301, 400, 401, 403, 404, 407, 408, 410, 418, 425, 429, 500, 501, 502, 503, 504, 505):
        answers[f"status {status}"] = [retry.is_retried(status), retry.status_words(status)]
    answers["waits"] = [retry.wait_ceiling_s(attempt) for attempt in (1, 2, 3, 5, 6, 31, 32, 500)]
    headers = (
        None,
        "",
        "5",
        " 7 ",
        "1" * 12,
        "1" * 13,
        "-3",
        "Sun, 02 Aug 2026 00:00:10 GMT",
        "Sun, 02 Aug 2026 00:00:10",
        "Fri, 31 Dec 9999 23:59:59 GMT",
        "x",
    )
    answers["retry after"] = [retry.retry_after_s(header, now_s=1_785_628_800.0) for header in headers]
    texts = (b"1", b"[1, 2.50, 1e999]", b'{"a": 1, "a": 2}', b"NaN", b'{"a": {"b": "\\u00e9"}}', b"1" * 30, b"1" * 2000, b"\xff", b"", b"[" * 300,
             b'{"a": 1e-400}', b"-0.0", b"\xef\xbb\xbf{}")  # fmt: skip
    for text in texts:
        answers[f"json {text[:20]!r} {len(text)}"] = str(answer_or_error(lambda text=text: parse_json(text)))[
            :120
        ]
    answers["networks"] = [
        network_gbit_per_s(*machine)
        for machine in (("aws", "p4d.24xlarge"), ("aws", "p5.48xlarge"), ("azure", "Standard_ND96isr_H100_v5"), ("gcp", "a3-highgpu-8g"), ("gcp", "x"))
    ]  # fmt: skip
    compare_with_recorded("answers_and_addresses", answers)
