"""
Make the table of run-cost facts in the core from a table of collected facts.

    python -m trainfare_research.data.build_run_cost_facts path/to/run_cost_facts.csv [-o FOLDER]

The collected table has `name,value,unit,cloud,service,region,as_of,source`. One row of it is one row of ours: names are
split into kind, item, machine and tier, units are made equal, and what a source says against a value becomes
a mark. Rows of `run_cost_facts_read_since.csv` have our columns already; one about the same replaces a collected row.
The same rows in any order give the same bytes. The lists of names, sources and marks are the CSV files
`run_cost_fact_*.csv` beside this one. A name, unit or source that is not listed is an error.
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
    KINDS,
    SOURCE_COLUMNS,
    Fact,
    read_facts,
    read_sources,
)
from trainfare_research.data import TABLES
from trainfare_research.truth_table import read_rows

DATA = Path(__file__).parents[3] / "core/trainfare_core/data"
READ_SINCE = TABLES / "run_cost_facts_read_since.csv"
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
    line["name"]: Name(**{column: cell for column, cell in line.items() if column != "name"})
    for line in read_rows(TABLES / "run_cost_fact_names.csv")
}
"""What each collected name becomes."""

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


TO_OTHER_CONTINENTS = ("azure", "gcp")
"""Clouds whose transfer costs more to other continents: the collected price is that of us-east-1 to us-west-2."""


@dataclass(frozen=True, slots=True)
class Origin:
    """A source, recognized by a literal part of the collected text; the first that matches counts."""

    mark: str
    id: str
    source_class: str
    title: str


ORIGINS = tuple(Origin(**line) for line in read_rows(TABLES / "run_cost_fact_origins.csv"))
"""In the order in which they are tried: an earlier mark may be a part of a later one's text."""
EXACT_ORIGINS = {"same": "google-preemption"}
"""Ids of texts that are too short to recognize by a part: "same" follows the row of the other end of Google's range."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What speaks against a value, recognized by a part of the collected source; the first that matches counts."""

    mark: str
    weak: str
    because: str


MARKS = tuple(Mark(**line) for line in read_rows(TABLES / "run_cost_fact_marks.csv"))
"""In the order in which they are tried."""
EXACT_MARKS = {"same": next(mark for mark in MARKS if mark.mark == "CONTRADICTION")}
FLEX_START_CHANGE = Mark(
    "", "outdated", "Google announced new flex-start prices for November 2026; they were not found"
)
FLAT_RATIO = Mark("", "unverified", "its spot price equals the on-demand price in the price list itself")
DEARER_SPOT = Mark("", "unverified", "says that spot cost more than on-demand")


def find_mark(kind: str, value: str, source: str) -> Mark | None:
    """Return what speaks against a value, by its source and its kind."""
    if kind == "capacity_block_end":  # the page was found since
        return None
    if kind == "flex_start_price":
        return FLEX_START_CHANGE
    if kind == "spot_price_ratio" and value == "1":
        return FLAT_RATIO
    if kind == "spot_savings" and value.startswith("-"):
        return DEARER_SPOT
    found = (mark for mark in MARKS if mark.mark in source)
    return EXACT_MARKS.get(source) or next(found, None)


def find_source_id(source: str) -> str:
    """
    Return the id of a collected source.

    Raises:
        SystemExit: the source is not listed.
    """
    found = EXACT_ORIGINS.get(source) or next(
        (origin.id for origin in ORIGINS if origin.mark in source), None
    )
    return found or sys.exit(f"no line of run_cost_fact_origins.csv recognizes the source {source!r}")


def convert_value(value: str, unit: str) -> tuple[str, str]:
    """Return value and unit as our table has them; numbers in decimal notation without trailing zeros."""
    if unit in WORDED_UNITS:
        return (BANDS[value] if WORDED_UNITS[unit] == "band" else value), WORDED_UNITS[unit]
    name, factor = UNITS[unit]
    number = f"{Decimal(value) * factor:f}"
    return (number.rstrip("0").rstrip(".") if "." in number else number), name


def translate_row(collected: dict[str, str]) -> dict[str, str]:
    """Return our row of a collected one."""
    stem, _, suffix = collected["name"].partition(":")
    name = NAMES[stem]
    value, unit = convert_value(collected["value"], collected["unit"])
    mark = find_mark(name.kind, value, collected["source"])
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
        "source": find_source_id(collected["source"]),
        "weak": mark.weak if mark else "",
        "weak_because": mark.because if mark else "",
    }
    if bool(suffix) != bool(name.suffix):
        sys.exit(f"the name {collected['name']!r} has a suffix that its kind does not have, or lacks one")
    if suffix:
        row[name.suffix] = suffix.removesuffix(" per chip")
    if name.kind == "egress_inter_region" and row["cloud"] in TO_OTHER_CONTINENTS:
        row["item"] = "north-america"
    if name.kind == "default_quota":
        row["machine"] = QUOTA_MACHINES[row["item"]]
    return row


def sort_key(row: dict[str, str]) -> tuple[object, ...]:
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


def build(table: Path, since: Path = READ_SINCE) -> tuple[str, str]:
    """
    Return the table of facts and the table of their sources, as CSV.

    Args:
        table: collected facts.
        since: facts in our columns, one of which replaces a collected one about the same.

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
    newer = read_rows(since)
    replaced = {sort_key(row)[:-3] for row in newer}
    kept = [row for row in map(translate_row, collected) if sort_key(row)[:-3] not in replaced]
    rows = sorted([*kept, *newer], key=sort_key)
    used = {row["source"] for row in rows}
    origins = {
        origin.id: {"id": origin.id, "source_class": origin.source_class, "title": origin.title}
        for origin in ORIGINS
        if origin.id in used
    }
    facts = csv_text(FACT_COLUMNS, rows)
    sources = csv_text(SOURCE_COLUMNS, (origins[name] for name in sorted(origins)))
    read_facts(facts, read_sources(sources))
    return facts, sources


def count_table(facts: Iterable[Fact]) -> str:
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
    sys.stdout.write(count_table(read_facts(facts, read_sources(sources))))


if __name__ == "__main__":
    main()
