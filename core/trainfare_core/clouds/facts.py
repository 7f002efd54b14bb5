"""
`CLOUDS`: what the program knows of each cloud whose prices it reads itself.

A cloud of a plug-in needs no entry: it is shown by its own name and timed with the `OTHER_...` figures.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from trainfare_core.documents import data_rows

HOURS_PER_MONTH: Final = 730.0
"""8,760 hours a year over 12."""

INTERRUPTION_BANDS: Final = ("<5%", "5-10%", "10-15%", "15-20%", ">20%")
"""How much of a spot machine's capacity its cloud took back in the last month, in the words of AWS's Spot Advisor."""

OTHER_STARTUP_S: Final = 300.0
"""Start-up on a service that is not listed, seconds: a planning figure inside the range of those listed."""


SYSTEM_DISK_GIB: Final = 100.0
"""Of a rented machine: the system with its drivers, an image of 10 to 20 GB, packed and unpacked, and caches. A
planning figure."""


@dataclass(frozen=True, slots=True)
class CloudService:
    """
    One service of a cloud that rents machines.

    Attributes:
        name: as in the price book's column `service`.
        label: the name that reports show.
        startup_s: seconds from the first billed second to the first training step, without compilation. A planning
            figure, not a measurement.
        disk: the general-purpose disk of the run-cost facts that its machines are given; "" where none is known.
        system_disk_gib: of each machine, billed beside it. A planning figure; None: not known.
        planned_disk_usd_per_gib_month: where no price of its disk is known. A planning figure; None: none of its own.
        own_disk_because: why no disk is billed beside a machine that has local disks; "" where one is billed all the
            same, or where that is not known.
        machine_prefix: what its names of machines have before the cloud's own.
        priced_as: the service whose prices of an hour it charges; "" where it has prices of its own.
    """

    name: str
    label: str
    startup_s: float
    disk: str = ""
    system_disk_gib: float | None = None
    planned_disk_usd_per_gib_month: float | None = None
    own_disk_because: str = ""
    machine_prefix: str = ""
    priced_as: str = ""


@dataclass(frozen=True, slots=True)
class Cloud:
    """
    One cloud.

    Attributes:
        name: as in the price book's column `provider`; also the name of its plug-in and of its price file.
        label: the name that charts show.
        extra: the extra of the distribution that installs what its live prices need.
        services: those that rent accelerator machines.
        country_of_region: ISO 3166 code of the country in which each region lies, as its page of regions states it.
        no_bands_because: why it publishes no interruption band of a machine; "" where it does, or that is not known.
        quota_by_accelerator: its default quotas count accelerators (H100), not machines of a type.
        least_spot_share: spot over on demand at its largest discount, as it states it; 0 where that was not found.
        spot_is_listed: its spot price is one for all zones, for a month; else each machine and zone is a market.
        size_in_name: regular expression of the part of a machine's name that tells the size; a group of it is kept.
        gb_bytes: what its bill of transfer and object storage calls a GB; 10^9, which costs most, where unknown.
    """

    name: str
    label: str
    extra: str
    services: tuple[CloudService, ...]
    country_of_region: Mapping[str, str] = field(default_factory=dict[str, str])
    no_bands_because: str = ""
    quota_by_accelerator: bool = False
    least_spot_share: float = 0.0
    spot_is_listed: bool = False
    size_in_name: str = r"-\d+.*$"
    gb_bytes: float = 1e9


_FLAGS: Final = ("quota_by_accelerator", "spot_is_listed")
_NUMBERS: Final = frozenset(
    ("startup_s", "system_disk_gib", "planned_disk_usd_per_gib_month", "least_spot_share", "gb_bytes")
)


def _read_cell(name: str, text: str) -> float | bool | str:
    if text == "usual":
        return SYSTEM_DISK_GIB
    return float(text) if name in _NUMBERS else text == "yes" if name in _FLAGS else text


def _read_facts(table: str, cloud: str) -> Iterator[dict[str, Any]]:
    """Yield a cloud's rows of a table; an empty cell takes the default of its class, "usual" `SYSTEM_DISK_GIB`."""
    for row in data_rows(table):
        if row.pop("cloud") == cloud:
            yield {name: _read_cell(name, text) for name, text in row.items() if text and name != "source"}


def _read_cloud(name: str) -> Cloud:
    (facts,) = _read_facts("clouds.csv", name)
    services = tuple(CloudService(**service) for service in _read_facts("cloud_services.csv", name))
    countries = {row["region"]: row["country"] for row in _read_facts("regions.csv", name)}
    return Cloud(name=name, services=services, country_of_region=countries, **facts)


CLOUDS: Final = {row["cloud"]: _read_cloud(row["cloud"]) for row in data_rows("clouds.csv")}
"""Clouds by name. The order is that of colours and markers in charts: append new ones."""


SERVICES: Final = {service.name: service for cloud in CLOUDS.values() for service in cloud.services}
"""Services of all clouds by name; no two clouds share one."""


def pricing_service(service: str) -> str:
    """Return the service whose prices of an hour a service charges: mostly itself."""
    known = SERVICES.get(service)
    return service if known is None else known.priced_as or service


def service_label(provider: str, service: str) -> str:
    """Return the name of a cloud service in reports; one that is not listed keeps its own."""
    if provider in CLOUDS and service in SERVICES:
        return SERVICES[service].label
    return provider if provider == service else f"{provider} {service}"


def service_startup_s(service: str) -> float:
    """Return the seconds from the first billed second to the first training step, without compilation."""
    known = SERVICES.get(service)
    return OTHER_STARTUP_S if known is None else known.startup_s


def pip_extra(provider: str) -> str:
    """Return the extra of the distribution that a cloud's live prices need; "all" for one that is not listed."""
    cloud = CLOUDS.get(provider)
    return "all" if cloud is None else cloud.extra
