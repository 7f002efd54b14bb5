"""The table of facts, read on first use, and the choice between several rows about the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, get_args

from trainfare_core.documents import data_text
from trainfare_core.run_cost_facts.answers import RegionMatch, Unknown
from trainfare_core.run_cost_facts.facts import EVERYWHERE, Fact, SourceClass, read_facts, read_sources


@dataclass(frozen=True, slots=True)
class Choice:
    """The row to use, how it fits the region, and the rows about the same that are not used."""

    row: Fact
    region_match: RegionMatch
    unused: tuple[Fact, ...]

    def fields(self) -> dict[str, Any]:
        """Return what every `Answer` of this one row says."""
        return {
            "unit": self.row.unit,
            "region_match": self.region_match,
            "rows": (self.row,),
            "unused": self.unused,
        }


@lru_cache(maxsize=1)
def all_facts() -> tuple[Fact, ...]:
    """
    Return all facts, in the order of the table.

    Raises:
        InputError: a file of the package is damaged; the message names line and column.
    """
    return read_facts(data_text("run_cost_facts.csv"), read_sources(data_text("run_cost_fact_sources.csv")))


@lru_cache(maxsize=1)
def _by_subject() -> Mapping[tuple[str, str, str], tuple[Fact, ...]]:
    """Return the facts by kind, cloud and machine, so that a lookup does not read the whole table."""
    by_subject: dict[tuple[str, str, str], list[Fact]] = {}
    for fact in all_facts():
        by_subject.setdefault((fact.kind, fact.cloud, fact.machine), []).append(fact)
    return {subject: tuple(rows) for subject, rows in by_subject.items()}


def group(kind: str, cloud: str) -> tuple[Fact, ...]:
    """Return all facts of a kind and a cloud."""
    return tuple(fact for fact in all_facts() if fact.kind == kind and fact.cloud == cloud)


def matching(
    kind: str, cloud: str, *, service: str | None = None, machine: str = "", item: str = ""
) -> tuple[Fact, ...]:
    """Return the facts about one thing, in all regions; a service of None is any."""
    return tuple(
        fact
        for fact in _by_subject().get((kind, cloud, machine), ())
        if fact.item == item and service in (None, fact.service)
    )


def choose(rows: Sequence[Fact], region: str, what: str) -> Choice | Unknown:
    """
    Choose between rows about the same.

    The region's own row is used before one for all regions; then a row without a mark before a weak one; then the
    better class of source (a price API and its copies before documentation, lists and quotes); then the newer one. Rows
    that are equal in all of that and differ in their value leave the fact unknown.

    Args:
        rows: rows that differ in region, source or date only.
        region: the cloud's own name of the region; `*` asks for what holds everywhere.
        what: what the rows are about, for the reason.

    Returns:
        The choice; `Unknown` where no row fits, never the row of another region.
    """
    here = [row for row in rows if row.region == region]
    everywhere = [row for row in rows if row.region == EVERYWHERE and region != EVERYWHERE]
    fitting = here or everywhere
    if not fitting:
        return no_row(rows, region, what)
    best = max(fitting, key=_preference)
    equals = [row for row in fitting if _preference(row) == _preference(best) and row.says != best.says]
    if equals:
        texts = ", ".join(f"{row.says} ({row.source.title})" for row in (best, *equals))
        return Unknown(f"{what} in {region} is not known: sources of equal worth differ: {texts}")
    exact = bool(here) and region != EVERYWHERE
    unused = tuple(row for row in (*here, *everywhere) if row is not best)
    return Choice(best, "exact" if exact else "everywhere", unused)


def _preference(row: Fact) -> tuple[bool, int, str]:
    """Return a key that is larger for a better row; a month counts as its first day."""
    return row.weak is None, -get_args(SourceClass).index(row.source.source_class), row.as_of


def no_row(rows: Iterable[Fact], region: str, what: str) -> Unknown:
    """Return that no row fits a region, with the regions that have one."""
    known_in = tuple(sorted({row.region for row in rows}))
    if not known_in:
        return Unknown(f"{what} is not known")
    return Unknown(f"{what} in {region} is not known; it is known in {', '.join(known_in)}", known_in)
