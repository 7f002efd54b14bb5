"""
TPU slices from chip-hours: v5p-8 is named after its cores and has 4 chips, v5litepod-8 after its 8 chips.

`data/gcp_tpu_zones.csv` lists the slices of each zone. A chip price far from the published one is refused: the
catalogue has priced some generations by the device of four chips.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cache
from typing import Final

from trainfare_providers.gcp.machines import OPTIONS, PartIndex
from trainfare_providers.machine_types import Machine, table_rows
from trainfare_providers.source_rows import Refused, SourceRow


@dataclass(frozen=True, slots=True)
class Generation:
    """
    A TPU generation.

    Attributes:
        accelerator: its name in the catalogue of accelerators.
        memory_gib: of one chip.
        chips_per_number: chips for each 1 in a slice's name, which counts cores or chips.
        published_usd: on-demand price of a chip-hour in the cheapest region (Google's price page, 2026).
        part: its name in SKUs; `single` prices the smallest slice where pods have their own price.
    """

    accelerator: str
    memory_gib: float
    chips_per_number: Decimal
    published_usd: Decimal
    part: str
    single: str | None = None


_SMALLEST: Final = 8  # number in the name of a slice that is a single device and not a pod

# Accepted range, as shares of the published price: regions differ by up to 1.6 times; spot is "up to 91 %" below on
# demand (Compute Engine documentation, "Spot VMs"). The factor 4 of a wrong unit lies outside it on demand.
_ACCEPTED: Final[Mapping[str, tuple[Decimal, Decimal]]] = {
    "on_demand": (Decimal("0.7"), Decimal(2)),
    "spot": (Decimal("0.09"), Decimal("1.7")),
    "reserved_1y": (Decimal("0.35"), Decimal("1.7")),
    "reserved_3y": (Decimal("0.35"), Decimal("1.7")),
}


@cache
def known_generations() -> Mapping[str, Generation]:
    """Return the generations by the first part of a slice's name, from `data/gcp_tpu_generations.csv`."""
    return {
        row["slices"]: Generation(
            row["accelerator"],
            float(row["memory_gib"]),
            Decimal(row["chips_per_number"]),
            Decimal(row["published_usd"]),
            row["part"],
            row["single"] or None,
        )
        for row in table_rows("gcp_tpu_generations.csv")
    }


@cache
def _zones() -> Mapping[str, tuple[tuple[str, tuple[int, ...], str | None], ...]]:
    """Return zones, the sizes offered there and what is doubtful, by the first part of a slice's name."""
    zones: dict[str, list[tuple[str, tuple[int, ...], str | None]]] = {
        name: [] for name in known_generations()
    }
    for row in table_rows("gcp_tpu_zones.csv"):
        sizes = tuple(int(size) for size in row["sizes"].split())
        zones[row["slices"]].append((row["zone"], sizes, row["caveat"] or None))
    return {name: tuple(zones) for name, zones in zones.items()}


def slice_rows(parts: PartIndex, *, source: str) -> Iterator[SourceRow | Refused]:
    """Yield a row, or why there is none, for each slice, zone and purchase option whose chip has a price."""
    for name, generation in known_generations().items():
        zones = _zones()[name]
        known = {_region(zone) for zone, *_ in zones}
        for option in OPTIONS:
            names = {generation.part, generation.single or generation.part}
            elsewhere = {region for of in names for region in parts.regions("tpu", of, option)} - known
            for _ in elsewhere:
                yield Refused("region in which no such TPU is known to exist")
            for zone, sizes, caveat in zones:
                for size in sizes:
                    row = _build_row(parts, name, size, zone, option, source)
                    if row is not None:
                        yield replace(row, caveat=caveat) if isinstance(row, SourceRow) else row


def _build_row(
    parts: PartIndex, name: str, size: int, zone: str, option: str, source: str
) -> SourceRow | Refused | None:
    generation = known_generations()[name]
    of = generation.single if generation.single and size == _SMALLEST else generation.part
    part = parts.price("tpu", of, option, _region(zone))
    if part is None or isinstance(part, Refused):
        return part
    low, high = (share * generation.published_usd for share in _ACCEPTED[option])
    if not low <= part.usd <= high:
        return Refused("chip-hour far from the published price: another unit?", quarantined=True)
    chips = size * generation.chips_per_number
    return SourceRow(
        machine=Machine(f"{name}-{size}", generation.accelerator, float(chips), generation.memory_gib),
        region=_region(zone),
        zone=zone,
        usd_per_hour=part.usd * chips,
        purchase_option=option,
        observed_on=part.effective_on,
        sku=part.sku_id,
        source=source,
        currency="USD",
    )


def _region(zone: str) -> str:
    return zone.rpartition("-")[0]
