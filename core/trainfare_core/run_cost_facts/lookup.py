"""
The lookups: a kind and its keys give an answer of the kind's form; quotas, interruption bands and local disks of
machine types have their own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Final, get_args, overload

from trainfare_core.clouds import CLOUDS, INTERRUPTION_BANDS
from trainfare_core.clouds.region_places import continent_of
from trainfare_core.documents import data_rows
from trainfare_core.run_cost_facts.answers import (
    Amount,
    DiskPrice,
    InterruptionBand,
    PriceTier,
    Quota,
    RegionMatch,
    Span,
    Statement,
    TieredPrice,
    Unknown,
)
from trainfare_core.run_cost_facts.facts import (
    EVERYWHERE,
    KINDS,
    AmountKind,
    DiskKind,
    Fact,
    SpanKind,
    StatementKind,
    TierKind,
)
from trainfare_core.run_cost_facts.table import Choice, choose, group, matching, no_row

_FAMILY: Final = re.compile(r"[a-z]+(?=\d)")
_SPOT_WORDS: Final = ("Spot", "Preemptible")


@overload
def find_fact(
    kind: AmountKind,
    cloud: str,
    region: str = ...,
    *,
    service: str | None = ...,
    machine: str = ...,
    item: str = ...,
) -> Amount | Unknown: ...
@overload
def find_fact(
    kind: StatementKind, cloud: str, region: str = ..., *, service: str | None = ...
) -> Statement | Unknown: ...
@overload
def find_fact(
    kind: TierKind, cloud: str, region: str = ..., *, service: str | None = ..., item: str = ...
) -> TieredPrice | Unknown: ...
@overload
def find_fact(
    kind: SpanKind, cloud: str, region: str = ..., *, service: str | None = ...
) -> Span | Unknown: ...
@overload
def find_fact(
    kind: DiskKind, cloud: str, region: str = ..., *, service: str | None = ..., item: str = ...
) -> DiskPrice | Unknown: ...
def find_fact(
    kind: AmountKind | StatementKind | TierKind | SpanKind | DiskKind,
    cloud: str,
    region: str = EVERYWHERE,
    *,
    service: str | None = None,
    machine: str = "",
    item: str = "",
) -> Amount | Statement | TieredPrice | Span | DiskPrice | Unknown:
    """
    Return what is published about one thing.

    Args:
        kind: a name of `KINDS`, which says what it is of and in which units.
        cloud: as in the price book.
        region: the cloud's own name; left out, what holds everywhere.
        service: as in the price book; None is any.
        machine: machine type, where the kind is about one.
        item: disk, storage class or kind of request, where the kind has several.

    Returns:
        The answer of the region itself, or else the one for every region; where there is neither, that of the kind's
        fallback, or else `Unknown` with the reason. The figure of another region is never used.

    Example:
        >>> find_fact("billing_minimum", "aws", service="ec2").value
        60.0
        >>> price = find_fact("egress_internet", "aws", "us-east-1")
        >>> f"{price.usd(1_100):.2f} usd, {price.as_of}"
        '90.00 usd, 2026-09-23'
        >>> price = find_fact("object_storage", "azure", "eastus", item="standard")
        >>> price.tiers[0].usd_per_gb, [row.value for row in price.unused]
        (0.0208, [0.018])
    """
    find = partial(_find, cloud=cloud, region=region, service=service, machine=machine, item=item)
    answer, fallback = find(kind), KINDS[kind].fallback
    if fallback and isinstance(answer, Unknown):
        other = find(fallback)
        return answer if isinstance(other, Unknown) else other
    return answer


def _find(
    kind: str, *, cloud: str, region: str, service: str | None, machine: str, item: str
) -> Amount | Statement | TieredPrice | Span | DiskPrice | Unknown:
    """Return the answer of a kind without its fallback, in the form of the kind."""
    about = KINDS[kind]
    if about.by_family:
        machine, region = machine.partition(".")[0], EVERYWHERE
    what = about.subject.format(cloud=cloud, service=service, machine=machine, item=item)
    if kind in get_args(SpanKind):
        ends = [row for end in ("low", "high") for row in matching(kind, cloud, service=service, item=end)]
        return span(ends, what)
    rows = matching(kind, cloud, service=service, machine=machine, item=item)
    if kind in get_args(TierKind):
        return read_tiered_price(rows, region, what)
    choice = choose(rows, region, what)
    if isinstance(choice, Unknown):
        return choice
    if kind in get_args(StatementKind):
        return Statement(value=choice.row.words, **choice.fields())
    if kind in get_args(DiskKind):
        return DiskPrice(disk=item, value=choice.row.value, **choice.fields())
    return Amount(value=choice.row.value, **choice.fields())


def find_transfer(cloud: str, source: str, destination: str) -> Amount | Unknown:
    """
    Return the price of a GB from one region to another of the same cloud.

    A price of the region that sends is used before one of its continent; then one to the region that receives before
    one to its continent, and that before one to anywhere.

    Args:
        cloud: as in the price book.
        source: the region that sends, by the cloud's own name.
        destination: the region that receives.
    """
    start, goal = (continent_of(cloud, region) for region in (source, destination))
    what = f"the price of {cloud}'s transfer from {source} to {destination}"
    for place in (source, start):
        for item in (destination, goal, EVERYWHERE):
            rows = matching("egress_inter_region", cloud, item=item or "")
            choice = choose([row for row in rows if row.region == place], place or "", what)
            if isinstance(choice, Choice):
                return Amount(value=choice.row.value, **choice.fields())
    return Unknown(f"{what} is not known")


def read_tiered_price(rows: Sequence[Fact], region: str, what: str) -> TieredPrice | Unknown:
    """
    Return the price whose tiers are rows.

    All tiers are of the region, or all for every region: those are not mixed.

    Args:
        rows: rows of one price in all regions, each with `from_gb`.
        region: the cloud's own name of the region.
        what: what the price is of, for the reason.

    Returns:
        The price; `Unknown` where no row fits, or the first tier is missing.
    """
    fitting = [row for row in rows if row.region == region] or [r for r in rows if r.region == EVERYWHERE]
    if not fitting:
        return no_row(rows, region, what)
    starts = sorted({row.from_gb or 0.0 for row in fitting})
    if starts[0] > 0:
        return Unknown(f"{what} in {region} is not known for the first {starts[0]:g} GB")
    chosen: list[Choice] = []
    for start in starts:
        choice = choose([row for row in fitting if (row.from_gb or 0.0) == start], region, what)
        if isinstance(choice, Unknown):
            return choice
        chosen.append(choice)
    return TieredPrice(
        tiers=tuple(PriceTier(price.row.from_gb or 0.0, price.row.value) for price in chosen),
        unit=chosen[0].row.unit,
        region_match=chosen[0].region_match,
        rows=tuple(price.row for price in chosen),
        unused=tuple(row for price in chosen for row in price.unused),
    )


def span(rows: Sequence[Fact], what: str) -> Span | Unknown:
    """
    Return the range whose ends are rows for every region.

    Args:
        rows: rows with the item `low` or `high`.
        what: what the range is of, for the reason.

    Returns:
        The range, an end that has no row being None; `Unknown` where neither end is known.
    """
    low, high = (
        choose([row for row in rows if row.item == end], EVERYWHERE, what) for end in ("low", "high")
    )
    known = [end for end in (low, high) if isinstance(end, Choice)]
    if not known:
        return Unknown(f"{what} is not known")
    return Span(
        low=low.row.value if isinstance(low, Choice) else None,
        high=high.row.value if isinstance(high, Choice) else None,
        unit=known[0].row.unit,
        region_match=known[0].region_match,
        rows=tuple(end.row for end in known),
        unused=tuple(row for end in known for row in end.unused),
    )


def default_quota(cloud: str, service: str, machine: str, *, spot: bool = False) -> Quota | Unknown:
    """
    Return what a new account may use of a machine.

    Args:
        cloud: as in the price book.
        service: as in the price book.
        machine: machine type; for Google the accelerator, such as H100.
        spot: the quota of spot machines.

    Returns:
        The quota in its own unit, with its name; 0 means that an increase has to be requested first.

    Example:
        >>> quota = default_quota("aws", "ec2", "p5.48xlarge")
        >>> quota.name, quota.value, quota.unit
        ('Running On-Demand P instances (L-417A185B)', 0.0, 'vcpu')
    """
    family = _FAMILY.match(machine)
    names = {machine, family[0] if family else machine}
    rows = [
        row
        for row in group("default_quota", cloud)
        if row.service == service
        and names & set(row.machine.split("|"))
        and spot == any(word in row.item for word in _SPOT_WORDS)
    ]
    chosen = choose(rows, EVERYWHERE, f"the default {'spot ' if spot else ''}quota of {cloud}'s {machine}")
    if isinstance(chosen, Unknown):
        return chosen
    return Quota(name=chosen.row.item, value=chosen.row.value, **chosen.fields())


def interruption_band(cloud: str, instance_type: str, region: str) -> InterruptionBand | Unknown:
    """
    Return how often spot machines of a type are taken back within a month.

    The region's own band is used before one that names no region. Where there is neither, the answer is the range of
    the other regions, with the region match `other_regions`.

    Args:
        cloud: as in the price book.
        instance_type: machine type of EC2. Pools of SageMaker (`ml.`) are not in AWS's list.
        region: the cloud's own name.

    Returns:
        The band or the range of bands; `Unknown` where no region has one for this type.

    Example:
        >>> band = interruption_band("aws", "p4d.24xlarge", "us-east-1")
        >>> band.lowest, band.highest, band.region_match, band.as_of
        ('10-15%', '10-15%', 'exact', '2025-06')
    """
    rows = matching("spot_interruption_band", cloud, machine=instance_type)
    what = KINDS["spot_interruption_band"].subject.format(machine=instance_type)
    if not rows:
        why = CLOUDS[cloud].no_bands_because if cloud in CLOUDS else ""
        why = why or f"no region of {cloud} has one"
        return Unknown(f"{what} is not known: {why}")
    chosen = choose(rows, region, what)
    if not isinstance(chosen, Unknown):
        return _band((chosen.row,), chosen.region_match, chosen.unused)
    if any(row.region in (region, EVERYWHERE) for row in rows):
        return chosen
    return _band(rows, "other_regions", ())


def _band(rows: tuple[Fact, ...], match: RegionMatch, unused: tuple[Fact, ...]) -> InterruptionBand:
    places = sorted(INTERRUPTION_BANDS.index(row.words) for row in rows)
    return InterruptionBand(
        lowest=INTERRUPTION_BANDS[places[0]],
        highest=INTERRUPTION_BANDS[places[-1]],
        unit="band",
        region_match=match,
        rows=rows,
        unused=unused,
    )


@dataclass(frozen=True, slots=True)
class LocalDisk:
    """
    The local disks of a machine type.

    Attributes:
        gb: all of them together; 0 where it has none.
        source: where that is published.
    """

    gb: float
    source: str


@lru_cache(maxsize=1)
def _read_table() -> Mapping[tuple[str, str], LocalDisk]:
    return {
        (row["cloud"], row["machine"]): LocalDisk(float(row["local_disk_gb"]), row["source"])
        for row in data_rows("local_disks.csv")
    }


def local_disk(cloud: str, machine: str) -> LocalDisk | Unknown:
    """
    Return the local disks of a machine type.

    Args:
        cloud: as in the price book.
        machine: machine type.

    Example:
        >>> local_disk("aws", "inf2.xlarge").gb
        0.0
    """
    disk = _read_table().get((cloud, machine))
    return Unknown(f"whether {cloud}'s {machine} has local disks is not known") if disk is None else disk


def machines_without_local_disk(cloud: str) -> tuple[str, ...]:
    """Return the machine types of a cloud that are known to have no local disk."""
    return tuple(
        machine for (owner, machine), disk in _read_table().items() if owner == cloud and not disk.gb
    )
