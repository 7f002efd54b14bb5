"""
Energy and carbon of a run: power under load, host, PUE and grid, each with interval, source and year.

kWh = hours x (accelerators + host) x PUE, and kg CO2e = kWh x grid of the region: location-based, without purchased
energy and without making the machines. The factors are `data/energy_factors.csv`, their sources and licences
`data/energy_sources.csv`; where one is not published the answer says so, and no average takes its place.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal, TypeAlias

from pydantic import Field

from trainfare_core.documents import Interval, Record, data_rows
from trainfare_core.hardware.accelerator_rows import Accelerator

FactorName: TypeAlias = Literal["accelerator_w", "host_w", "pue", "grid_g_per_kwh"]

_W_PER_KW: Final = 1000.0
_G_PER_KG: Final = 1000.0


class EnergyFactor(Record):
    """One published or measured factor of the energy or the carbon of a run."""

    name: FactorName = Field(
        description="accelerator_w: of one accelerator in this run; host_w: of one machine, without its accelerators; "
        "grid_g_per_kwh: g CO2e of the region's grid, location-based"
    )
    value: Interval
    year: int = Field(description="of the figure")
    source: str = Field(description="its licence is in data/energy_sources.csv")


class RunEnergy(Record):
    """Energy and carbon of a run, with what they were computed from."""

    kwh: Interval | None = Field(default=None, description="with host and PUE; None: see unknown_because")
    kg_co2e: Interval | None = Field(
        default=None, description="location-based, of the electricity alone; None: see unknown_because"
    )
    unknown_because: str = Field(default="", description="why one is not known; empty: both are")
    factors: tuple[EnergyFactor, ...] = ()


@dataclass(frozen=True, slots=True)
class RentedMachines:
    """
    The machines of a run, and how much of them works.

    Attributes:
        device: their accelerator; None where it is not in the catalogue.
        count: accelerators of one machine.
        nodes: machines.
        vcpus: of one machine; NaN where they are not known.
        cloud, region: as in the price book.
        used: share of the accelerators that the plan uses; the others are idle.
        waiting: share of the step in which an accelerator waits for host, network or data.
    """

    device: Accelerator | None
    count: float
    nodes: int
    vcpus: float
    cloud: str
    region: str
    used: float = 1.0
    waiting: float = 0.0


@dataclass(frozen=True, slots=True)
class _Row:
    value: Interval
    year: int
    source: str

    def name(self, name: FactorName, value: Interval | None = None) -> EnergyFactor:
        return EnergyFactor(name=name, value=_round(value or self.value), year=self.year, source=self.source)


@lru_cache(maxsize=1)
def _read_factors() -> dict[tuple[str, str, str], _Row]:
    sources = {row["id"]: row["title"] for row in data_rows("energy_sources.csv")}
    return {
        (row["factor"], row["cloud"], row["place"]): _Row(
            Interval(mid=float(row["mid"]), low_80=float(row["low"]), high_80=float(row["high"])),
            int(row["year"]),
            sources[row["source"]],
        )
        for row in data_rows("energy_factors.csv")
    }


def compute_energy(hours: Interval, watts: Interval, pue: Interval) -> Interval:
    """
    Return kWh with its interval; the factors err independently, each side by side.

    Args:
        hours: that the machines run; hours of one device where `watts` are of one.
        watts: of all that runs, before the building's share.
        pue: energy of the building over that of its machines.

    Example:
        >>> def exact(value):
        ...     return Interval(mid=value, low_80=value, high_80=value)
        >>> kwh = compute_energy(exact(82_432), exact(400), exact(1.1))  # LLaMA-7B, arXiv 2302.13971, table 15
        >>> f"{kwh.mid / 1000:.0f} MWh, {compute_carbon(kwh, exact(385)).mid / 1000:.0f} t"
        '36 MWh, 14 t'
    """
    return _multiply(hours, watts, pue, scale=1 / _W_PER_KW)


def compute_carbon(kwh: Interval, g_per_kwh: Interval) -> Interval:
    """Return kg CO2e of an energy on a grid of `g_per_kwh`, see `compute_energy`."""
    return _multiply(kwh, g_per_kwh, scale=1 / _G_PER_KG)


def estimate_energy(hours: Interval, machines: RentedMachines) -> RunEnergy:
    """
    Return the energy and the carbon of a run, or why one of them is not known.

    Args:
        hours: that the machines run.
        machines: that run.

    Example:
        >>> from trainfare_core.hardware.accelerators import accelerator
        >>> node = RentedMachines(accelerator("H100-SXM-80GB"), 8, 1, 192, "aws", "eu-west-3")
        >>> day = estimate_energy(Interval(mid=24, low_80=24, high_80=24), node)
        >>> f"{day.kwh.mid:.0f} kWh, {day.kg_co2e.mid:.1f} kg CO2e"
        '212 kWh, 3.4 kg CO2e'
    """
    power = estimate_power(machines)
    if isinstance(power, str):
        return RunEnergy(unknown_because=power)
    return _add_place(hours, power, machines)


def add_measured(hours: float, machines: RentedMachines, accelerator_w: float, year: int) -> RunEnergy:
    """
    Return the energy and the carbon of a run whose accelerator was measured; see `estimate_energy`.

    Args:
        hours: that were measured.
        machines: that ran.
        accelerator_w: mean of one accelerator.
        year: of the measurement.
    """
    measured = _Row(_make_exact(accelerator_w), year, "measured by NVML").name("accelerator_w")
    host = _estimate_host(machines)
    if isinstance(host, str):
        return RunEnergy(unknown_because=host, factors=(measured,))
    return _add_place(_make_exact(hours), (measured, host), machines)


def estimate_power(machines: RentedMachines) -> tuple[EnergyFactor, EnergyFactor] | str:
    """
    Return the watts of one accelerator and those of one machine beside its accelerators, or why they are not known.

    An accelerator that waits draws between its idle power and that under load: half of the way by the median.
    """
    host, device = _estimate_host(machines), machines.device
    if isinstance(host, str) or device is None or device.power_w is None:
        return str(host)
    load, idle = _find("load", device.generation), _read_factors()["idle", "", ""].value
    waiting = min(max(machines.waiting, 0.0), 1.0)
    at_work = [machines.used * (1 - share * waiting) for share in (1.0, 0.5, 0.0)]
    ends = ("low_80", "mid", "high_80")
    low, mid, high = (
        device.power_w * (getattr(idle, end) + (getattr(load.value, end) - getattr(idle, end)) * share)
        for end, share in zip(ends, at_work, strict=True)
    )
    return load.name("accelerator_w", Interval(mid=mid, low_80=low, high_80=high)), host


def _find(factor: str, generation: str) -> _Row:
    rows = _read_factors()
    return rows.get((factor, "", generation)) or rows[factor, "", ""]


def _estimate_host(machines: RentedMachines) -> EnergyFactor | str:
    """Return the watts beside the accelerators: a share of theirs, or those of the vCPUs where they are more."""
    device = machines.device
    if device is None:
        return "the accelerator is not in the catalogue"
    if device.power_w is None:
        return f"the power of {device.name} is not published"
    share, vcpu = _find("host", device.generation), _read_factors()["vcpu", "", ""]
    by_share = _multiply(share.value, scale=device.power_w * machines.count)
    if not by_share.mid or math.isnan(machines.vcpus) or vcpu.value.mid * machines.vcpus < by_share.mid:
        return share.name("host_w", by_share)
    return vcpu.name("host_w", _multiply(vcpu.value, scale=machines.vcpus))


def _add_place(
    hours: Interval, power: tuple[EnergyFactor, EnergyFactor], machines: RentedMachines
) -> RunEnergy:
    rows, cloud, region = _read_factors(), machines.cloud, machines.region
    pue, grid = (
        rows.get(("pue", cloud, region)) or rows.get(("pue", cloud, "")),
        rows.get(("grid", cloud, region)),
    )
    if pue is None:
        return RunEnergy(
            unknown_because=f"no PUE of {cloud or 'a machine without a cloud'} is at hand", factors=power
        )
    device_w, host_w = (factor.value for factor in power)
    low, mid, high = (
        machines.nodes * (machines.count * getattr(device_w, end) + getattr(host_w, end))
        for end in ("low_80", "mid", "high_80")
    )
    kwh = compute_energy(hours, Interval(mid=mid, low_80=low, high_80=high), pue.value)
    factors = (*power, pue.name("pue"))
    if grid is None:
        because = f"no figure of the grid of {cloud} {region} is at hand"
        return RunEnergy(kwh=kwh, unknown_because=because, factors=factors)
    return RunEnergy(
        kwh=kwh,
        kg_co2e=compute_carbon(kwh, grid.value),
        factors=(*factors, grid.name("grid_g_per_kwh")),
    )


def _multiply(*factors: Interval, scale: float = 1.0) -> Interval:
    """Return the product of factors that err independently: the squares of the distances of ln add up on each side."""
    mid = math.prod(factor.mid for factor in factors) * scale

    def distance(ends: list[float]) -> float:
        pairs = zip(ends, factors, strict=True)
        return math.sqrt(sum(math.log(end / factor.mid) ** 2 for end, factor in pairs))

    lows, highs = [factor.low_80 for factor in factors], [factor.high_80 for factor in factors]
    if min(lows) <= 0:  # which has no logarithm: a run of no length, or a host that its accelerators include
        return _round(Interval(mid=mid, low_80=math.prod(lows) * scale, high_80=math.prod(highs) * scale))
    return _round(
        Interval(mid=mid, low_80=mid * math.exp(-distance(lows)), high_80=mid * math.exp(distance(highs)))
    )


def _make_exact(value: float) -> Interval:
    return Interval(mid=value, low_80=value, high_80=value)


def _round(value: Interval) -> Interval:
    """Return the four figures that so wide an interval deserves."""
    return Interval(**{name: float(f"{end:.4g}") for name, end in value.model_dump().items()})
