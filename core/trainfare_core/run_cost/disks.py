"""Disks of a run: those that keep its checkpoints, and the machines' own for the system and the data."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainfare_core.arrays import Column
from trainfare_core.clouds import HOURS_PER_MONTH, SERVICES, service_label
from trainfare_core.limits.cost_assumptions import CostAssumptions
from trainfare_core.run_cost.sourced import STATED, Sourced, text_of
from trainfare_core.run_cost_facts import Unknown, find_fact, local_disk, machines_without_local_disk

PLANNED_USD_PER_GIB_MONTH: Final = 0.10
"""Where no price of the region is published: between the list prices of general-purpose SSD volumes of the three clouds
(0.08 to 0.13). A planning figure."""

_SYSTEM: Final = "the system, an image of 10 to 20 GB, and caches"
_GIB: Final = 2.0**30
_GB: Final = 1e9


def disk_usd_per_gib_month(
    assumed: CostAssumptions, cloud: str, service: str, region: str, machine: str = ""
) -> Sourced:
    """
    Return the price of disk space beside a machine: 0 where the service gives none to machines with local disks.

    Args:
        assumed: with the user's own figure.
        cloud: as in the price book.
        service: as in the price book.
        region: the cloud's own name.
        machine: machine type; "": one with local disks.

    Example:
        >>> disk_usd_per_gib_month(CostAssumptions(), "aws", "ec2", "us-east-1").value
        0.08
    """
    if assumed.disk_usd_per_gib_month is not None:
        return Sourced(assumed.disk_usd_per_gib_month, STATED)
    because = _none_billed_because(cloud, service, machine)
    if because:
        return Sourced(0.0, because)
    known = SERVICES.get(service)
    price = find_fact("disk", cloud, region, item="" if known is None else known.disk)
    usd = None if isinstance(price, Unknown) else price.usd_per_month(1.0)
    if usd is None or isinstance(price, Unknown):
        none = f"no price of {cloud} in {region} is known"
        own_usd = None if known is None else known.planned_disk_usd_per_gib_month
        if own_usd is not None:
            return Sourced(own_usd, f"a planning figure for {service_label(cloud, service)}: {none}")
        return Sourced(
            PLANNED_USD_PER_GIB_MONTH, f"a planning figure between those of the three clouds: {none}"
        )
    return Sourced(usd, f"{price.disk}: {text_of(price)}")


def regions_of_disk_prices(cloud: str, service: str) -> tuple[str, ...]:
    """Return the regions whose `disk_usd_per_gib_month` is published, by the clouds' own names."""
    known = SERVICES.get(service)
    price = find_fact("disk", cloud, "", item="" if known is None else known.disk)
    return price.known_in if isinstance(price, Unknown) else ()


def _none_billed_because(cloud: str, service: str, machine: str) -> str:
    """Return why no disk is billed beside a machine; "" where one is, or where that is not known of the service."""
    known = SERVICES.get(service)
    if known is None or not known.own_disk_because or not machine:
        return "" if known is None else known.own_disk_because
    disk = local_disk(cloud, machine.removeprefix(known.machine_prefix))
    if isinstance(disk, Unknown):
        return f"{disk.because}, and a volume beside it is not counted"
    return f"{disk.gb:,.0f} GB of local disks ({disk.source}); {known.own_disk_because}" if disk.gb else ""


def machines_with_volume(cloud: str, service: str) -> tuple[str, ...]:
    """Return the machines of a service that are given a volume because they have no local disk, by its own names."""
    known = SERVICES.get(service)
    if known is None or not known.own_disk_because:
        return ()
    return tuple(known.machine_prefix + machine for machine in machines_without_local_disk(cloud))


def system_disk_gib(assumed: CostAssumptions, cloud: str, service: str, machine: str = "") -> Sourced:
    """
    Return the size of a machine's system disk or volume, where it is billed beside the machine.

    Args:
        assumed: with the user's own figure.
        cloud: as in the price book.
        service: as in the price book.
        machine: machine type; "": one with local disks.
    """
    if assumed.system_disk_gib is not None:
        return Sourced(assumed.system_disk_gib, STATED)
    because = _none_billed_because(cloud, service, machine)
    if because:
        return Sourced(0.0, because)
    known = SERVICES.get(service)
    if known is None or known.system_disk_gib is None:
        label = service_label(cloud, service)
        return Sourced(None, f"whether the price of {label} includes the machine's system disk is not known")
    what = "the volume of an estimator that states no size" if known.own_disk_because else _SYSTEM
    return Sourced(known.system_disk_gib, f"a planning figure: {what}")


def disk_gib(
    checkpoint_bytes: Column,
    assumed: CostAssumptions,
    nodes: NDArray[np.int64],
    system_gib: Column,
    data_gb: float,
) -> Column:
    """
    Return the GiB of all disks of each run, shape (n,).

    Args:
        checkpoint_bytes: of one checkpoint of each run; those of a run are kept once, shape (n,).
        assumed: how many checkpoints are kept.
        nodes: machines of each run, shape (n,).
        system_gib: of one machine, shape (n,).
        data_gb: GB of data that each machine copies.
    """
    kept_gib = assumed.checkpoints_kept * checkpoint_bytes / _GIB
    return kept_gib + nodes * (system_gib + data_gb * _GB / _GIB)


def disks_usd_per_hour(gib: Column, usd_per_gib_month: Column) -> Column:
    """Return the dollars an hour of disks, shape (n,)."""
    return gib * usd_per_gib_month / HOURS_PER_MONTH
