"""
One row of `data/run_cost_facts.csv`: what its columns mean, and the strict reader.

The table has what a run costs beside the hours of its machine: data transfer, storage, how time is billed, spot,
start-up, quotas and flex-start prices. `research/trainfare_research/data/build_run_cost_facts.py` writes it.

- `region` is the cloud's own name, or `*` for every region; of a transfer also the continent that it starts from.
- `machine` is a machine type; for medians of spot prices its family (g5), for a quota the families or the accelerator
  that it counts, for flex-start of TPUs the generation.
- `item` of a transfer is where it goes: a region, a continent, or `*` for every other region.
- `from_gb` is the first GB a month of a price tier; empty where the kind has no tiers. GB are those of the
  cloud's bill (`Cloud.gb_bytes`).
- `value` is a number in `unit`, or the words where the unit is one of `WORD_UNITS`.
- `as_of` is as precise as its source: 2026-09-23, 2026-09 or 2026.
- `source` is an id of `data/run_cost_fact_sources.csv`.
- `weak` names why a value may be wrong (`Weakness`), `weak_because` says it in words; both are empty otherwise.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, cast, get_args

from trainfare_core.clouds import INTERRUPTION_BANDS
from trainfare_core.documents import data_rows
from trainfare_core.errors import InputError

AmountKind: TypeAlias = Literal[
    "egress_inter_region", "egress_inter_zone", "object_storage_request", "object_storage_retrieval", "local_ssd",
    "billing_step", "billing_minimum", "warm_pool_max", "spot_notice", "spot_savings", "spot_price_ratio",
    "spot_price_ratio_median", "spot_price_floor", "spot_zones_at_on_demand_price", "spot_zone_spread_median",
    "spot_price_move_9_days", "quota_vcpus", "flex_start_price", "flex_start_max_run",
]  # fmt: skip
"""Kinds whose answer is one number."""

StatementKind: TypeAlias = Literal[
    "managed_spot_discount", "capacity_block_payment", "capacity_block_end", "flex_start_price_change"
]
"""Kinds whose answer is in words."""

TierKind: TypeAlias = Literal["egress_internet", "object_storage"]
"""Kinds whose answer is a price by tiers of a calendar month."""

SpanKind: TypeAlias = Literal["spot_preemption", "startup_to_running", "startup_to_ready"]
"""Kinds whose answer is a range; the item of a row is its end, `low` or `high`."""

DiskKind: TypeAlias = Literal["disk"]


@dataclass(frozen=True, slots=True)
class Kind:
    """
    A kind of facts.

    Attributes:
        subject: what a fact is of, for the reason why it is not known; with the names of the keys in braces.
        units: those that values may have.
        by_family: whether rows are about the family of a machine type (g5 of g5.xlarge), in every region.
        fallback: the kind that is asked where this one is not known; "" is none.
    """

    subject: str
    units: tuple[str, ...]
    by_family: bool = False
    fallback: str = ""


KINDS: Final[Mapping[str, Kind]] = {
    row["kind"]: Kind(row["subject"], tuple(row["units"].split()), row["by_family"] == "yes", row["fallback"])
    for row in data_rows("run_cost_kinds.csv")
}
"""Kinds of facts in the order of the table; `data/run_cost_kinds.csv` says besides what their items and values are."""


EVERYWHERE: Final = "*"
"""The region of a fact that holds in every region."""

SourceClass: TypeAlias = Literal["price_api", "api_copy", "documentation", "catalogue", "quote"]
"""
Best first: the cloud's own machine-readable answer; a public copy of one; the cloud's documentation; a third party's
list; a text that quotes one of them. Of two rows that disagree the one of the better class is used.
"""

Weakness: TypeAlias = Literal[
    "contradicted", "derived", "marketing", "not_citable", "outdated", "second_hand", "unverified"
]
"""
Why a value may be wrong: another source differs; computed from other figures; a rival's advertisement; its text was
seen but cannot be cited; its cloud announced another value since; told by a third party; not stated by any source.
"""

WORD_UNITS: Final = ("band", "month", "text", "utc_time")
"""Units of values that are words: one of `INTERRUPTION_BANDS`, 2026-11, free text, 11:30."""

FACT_COLUMNS: Final = (
    "kind", "cloud", "service", "region", "machine", "item", "from_gb", "value", "unit", "as_of", "source", "weak",
    "weak_because",
)  # fmt: skip
SOURCE_COLUMNS: Final = ("id", "source_class", "title")

_DATE: Final = re.compile(r"20\d\d(-[01]\d(-[0-3]\d)?)?", re.ASCII)
_FILE: Final = "run_cost_facts.csv"


@dataclass(frozen=True, slots=True)
class FactSource:
    """Where facts come from: a file, an answer of an API, or a text."""

    id: str
    source_class: SourceClass
    title: str


@dataclass(frozen=True, slots=True)
class Fact:
    """
    One row of the table.

    Attributes:
        kind: a key of `KINDS`.
        cloud, service: as in the price book's `provider` and `service`, where the book has them.
        region: the cloud's name of a region, or `EVERYWHERE`.
        machine: machine type, family or accelerator; empty where the fact is not about one.
        item: disk, storage class, kind of request, end of a range, name of a quota; empty where there is one only.
        from_gb: first GB a month of a price tier; None where the kind has no tiers.
        value: the number, in `unit`; NaN where the value is words.
        words: the words; empty where the value is a number.
        unit: one of the units of its kind.
        as_of: the day, month or year of the source.
        source: where it comes from.
        weak: why the value may be wrong; None where nothing speaks against it.
        weak_because: the same in words; empty where nothing speaks against it.
    """

    kind: str
    cloud: str
    service: str
    region: str
    machine: str
    item: str
    from_gb: float | None
    value: float
    words: str
    unit: str
    as_of: str
    source: FactSource
    weak: Weakness | None
    weak_because: str

    @property
    def says(self) -> float | str:
        """The value: a number, or words."""
        return self.words or self.value


def read_sources(text: str) -> dict[str, FactSource]:
    """
    Return the sources by id.

    Raises:
        InputError: a line is not as the header says, or repeats an id; the message names file and line.
    """
    sources: dict[str, FactSource] = {}
    for line, row in _read_rows(text, "run_cost_fact_sources.csv", SOURCE_COLUMNS):
        known = row["source_class"] in get_args(SourceClass)
        if not known or not row["id"] or not row["title"] or row["id"] in sources:
            raise InputError(
                f"run_cost_fact_sources.csv line {line}: needs a new id, a title and one of the classes "
                f"{', '.join(get_args(SourceClass))}"
            )
        sources[row["id"]] = FactSource(row["id"], cast("SourceClass", row["source_class"]), row["title"])
    return sources


def read_facts(text: str, sources: Mapping[str, FactSource]) -> tuple[Fact, ...]:
    """
    Return one fact per row, in the order of the text.

    Raises:
        InputError: a cell is not what its column needs; the message names line and column.
    """
    return tuple(_fact(line, row, sources) for line, row in _read_rows(text, _FILE, FACT_COLUMNS))


def _read_rows(text: str, file: str, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    reader = csv.reader(text.splitlines(), strict=True)
    try:
        header, *rows = [(reader.line_num, cells) for cells in reader] or [(1, [])]
    except csv.Error as error:
        raise InputError(f"{file} line {reader.line_num}: {error}") from None
    if tuple(header[1]) != columns:
        raise InputError(f"{file} line 1: the columns must be {','.join(columns)}, not {','.join(header[1])}")
    for line, cells in rows:
        if len(cells) != len(columns):
            raise InputError(f"{file} line {line}: {len(cells)} cells under {len(columns)} columns")
        yield line, dict(zip(columns, cells, strict=True))


def _bad(line: int, column: str, problem: str) -> InputError:
    return InputError(f"{_FILE} line {line}, column {column}: {problem}")


def _number(line: int, column: str, text: str, lowest: float = 0.0) -> float:
    try:
        value = float(text)
    except ValueError:
        raise _bad(line, column, f"{text!r} is not a number") from None
    if not (math.isfinite(value) and value >= lowest):
        raise _bad(line, column, f"{text!r} is not a finite number from {lowest:g} up")
    return value


def _fact(line: int, row: dict[str, str], sources: Mapping[str, FactSource]) -> Fact:
    unit, weak = row["unit"], row["weak"]
    for column in ("cloud", "service", "region", "value"):
        if not row[column]:
            raise _bad(line, column, "is empty")
    if row["kind"] not in KINDS or unit not in KINDS[row["kind"]].units:
        raise _bad(line, "unit", f"{unit!r} is no unit of the kind {row['kind']!r}")
    if unit == "band" and row["value"] not in INTERRUPTION_BANDS:
        raise _bad(line, "value", f"{row['value']!r} is not one of {', '.join(INTERRUPTION_BANDS)}")
    if not _DATE.fullmatch(row["as_of"]):
        raise _bad(line, "as_of", f"{row['as_of']!r} is not a date such as 2026-09-23, 2026-09 or 2026")
    if row["source"] not in sources:
        raise _bad(line, "source", f"{row['source']!r} is no id of run_cost_fact_sources.csv")
    if weak and weak not in get_args(Weakness):
        raise _bad(line, "weak", f"{weak!r} is not one of {', '.join(get_args(Weakness))}")
    if bool(weak) != bool(row["weak_because"]):
        raise _bad(line, "weak_because", "is given with `weak`, and only then")
    worded = unit in WORD_UNITS
    # The Spot Advisor has machines whose spot price was above on-demand; a "saving" below -100 % would be an error.
    lowest = -1.0 if row["kind"] == "spot_savings" else 0.0
    as_given = ("kind", "cloud", "service", "region", "machine", "item", "as_of", "weak_because")
    return Fact(
        **{name: row[name] for name in as_given},
        from_gb=_number(line, "from_gb", row["from_gb"]) if row["from_gb"] else None,
        value=math.nan if worded else _number(line, "value", row["value"], lowest),
        words=row["value"] if worded else "",
        unit=unit,
        source=sources[row["source"]],
        weak=cast("Weakness", weak) if weak else None,
    )
