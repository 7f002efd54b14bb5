"""
Prices of machines and TPU slices from parts: cores x Core + GiB x Ram + GPUs x GPU (+ GiB x local SSD), and chip-hours.

`data/gcp_machines.csv` lists the machines with their regions and local SSD, because the catalogue has SKUs for regions
without such a machine.

v5p-8 is named after its cores and has 4 chips, v5litepod-8 after its 8 chips. `data/gcp_tpu_zones.csv` lists the slices
of each zone. A chip price far from the published one is refused: the catalogue has priced some generations by the
device of four chips.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cache
from typing import Final

from trainfare_core.prices.caveats import CAVEATS
from trainfare_providers.gcp.skus import Part
from trainfare_providers.machine_types import Machine, machine_of, table_rows
from trainfare_providers.source_rows import Refused, SourceRow

OPTIONS: Final = ("on_demand", "spot", "reserved_1y", "reserved_3y")

_SHARED_HOST: Final = "N1"  # whose cores are also sold without a GPU
# "You must reserve capacity ..., use Spot VMs, use Flex-start VMs" (docs.cloud.google.com/compute/docs/gpus, 2026-04).
_NOT_ON_DEMAND: Final = frozenset(
    {"a3-ultragpu-8g", "a4-highgpu-8g", "a4x-highgpu-4g", "a4x-maxgpu-4g-metal"}
)
_VGPU: Final = frozenset({"g4-standard-6", "g4-standard-12", "g4-standard-24"})
"""Shares of a G4's GPU have a SKU of their own, of which no name was found (the compute API's commitment type
GRAPHICS_OPTIMIZED_G4_VGPU): by the SKU of the whole GPU they would be 13 % too low on demand."""
_FLEX_ONLY: Final = frozenset({"a3-highgpu-1g", "a3-highgpu-2g", "a3-highgpu-4g"})


@dataclass(frozen=True, slots=True)
class GcpMachine:
    """
    A machine type of `data/gcp_machines.csv`.

    Attributes:
        host: family of its cores and memory; "" where the price of the GPU holds theirs.
        gpu: name of its GPU among the parts.
        needs: the parts of its price: quantity, kind, and host family or GPU.
        regions: where it exists.
    """

    machine: Machine
    host: str
    gpu: str
    needs: tuple[tuple[Decimal, str, str], ...]
    regions: frozenset[str]


class PartIndex:
    """Parts by kind, option and region; a part with two different prices is refused."""

    def __init__(self, parts: Iterable[Part]) -> None:
        self._parts: dict[tuple[str, str, str], dict[str, list[Part]]] = {}
        for part in parts:
            there = self._parts.setdefault((part.kind, part.of, part.option), {})
            for region in part.regions:
                there.setdefault(region, []).append(part)

    def regions(self, kind: str, of: str, option: str) -> frozenset[str]:
        """Return the regions in which a part has a price."""
        return frozenset(self._parts.get((kind, of, option), ()))

    def price(self, kind: str, of: str, option: str, region: str) -> Part | Refused | None:
        """Return the part with its price in a region, or None where it has none."""
        prices = self._parts.get((kind, of, option), {}).get(region, [])
        if len({part.usd for part in prices}) > 1:
            return Refused(f"two different prices for one part: {kind}", quarantined=True)
        return max(prices, key=lambda part: (part.effective_on, part.sku_id), default=None)


@cache
def machines() -> tuple[GcpMachine, ...]:
    """Return the machine types with GPUs."""
    machines: list[GcpMachine] = []
    for row in table_rows("gcp_machines.csv"):
        host, gpu = row["host"], row["gpu"]
        needs = [(Decimal(row["accelerator_count"]), "gpu", gpu)]
        if host:
            host_parts = [(Decimal(row["vcpus"]), "core", host), (Decimal(row["memory_gib"]), "ram", host)]
            needs = [*host_parts, *needs, (Decimal(row["local_ssd_gib"]), "ssd", "")]
        regions = frozenset(row["regions"].split())
        parts_needed = tuple(part for part in needs if part[0])
        machines.append(GcpMachine(machine_of("gcp", row), host, gpu, parts_needed, regions))
    return tuple(machines)


def machine_rows(parts: PartIndex, *, source: str) -> Iterator[SourceRow | Refused]:
    """Yield a row, or why there is none, for each machine, purchase option and region that has parts."""
    for machine in machines():
        for option in OPTIONS:
            for region in sorted(_list_claimed_regions(parts, machine, option)):
                yield _build_row(parts, machine, option, region, source)


def _list_claimed_regions(parts: PartIndex, machine: GcpMachine, option: str) -> frozenset[str]:
    """Return the regions whose SKUs suggest the machine: those of its GPU, and on demand those of its host."""
    regions = parts.regions("gpu", machine.gpu, option)
    if option == "on_demand" and machine.host not in ("", _SHARED_HOST):
        hosts = parts.regions("core", machine.host, option) | parts.regions("ram", machine.host, option)
        regions |= hosts & machine.regions
    return regions


def _build_row(
    parts: PartIndex, machine: GcpMachine, option: str, region: str, source: str
) -> SourceRow | Refused:
    if option == "on_demand" and machine.machine.instance_type in _NOT_ON_DEMAND:
        return Refused("machine that is not offered on demand although it has a SKU")
    if machine.machine.instance_type in _VGPU:
        return Refused("share of a G4's GPU, billed under a vGPU SKU of its own that is not known")
    if region not in machine.regions:
        return Refused("region in which this machine is not known to exist")
    flex_only = machine.machine.instance_type in _FLEX_ONLY and option != "spot"
    total, used = Decimal(0), dict[str, Part]()
    for quantity, kind, of in machine.needs:
        part = parts.price(kind, of, option, region)
        if part is None:
            return Refused(f"a part of the machine's price is missing: {kind}", quarantined=True)
        if isinstance(part, Refused):
            return part
        total += quantity * part.usd
        used[kind] = part
    return SourceRow(
        machine=machine.machine,
        region=region,
        usd_per_hour=total,
        purchase_option=option,
        observed_on=max(part.effective_on for part in used.values()),
        sku="+".join(part.sku_id for part in used.values()),
        source=source,
        currency="USD",
        caveat=f"{CAVEATS['spot_or_flex_only']}: listed, but perhaps not available" if flex_only else None,
    )


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
                    row = _build_slice(parts, name, size, zone, option, source)
                    if row is not None:
                        yield replace(row, caveat=caveat) if isinstance(row, SourceRow) else row


def _build_slice(
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
