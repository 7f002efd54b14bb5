"""Disks of a run: those that keep its checkpoints, and the machines' own for the system and the data."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainfare_core.clouds import HOURS_PER_MONTH, SERVICES, service_label
from trainfare_core.cost_assumptions import CostAssumptions
from trainfare_core.run_cost.sourced import STATED, Sourced, text_of
from trainfare_core.run_cost.table import Column
from trainfare_core.run_cost_facts import Unknown, disk_price

__all__ = [
    "PLANNED_USD_PER_GIB_MONTH",
    "disk_gib",
    "disk_usd_per_gib_month",
    "disks_usd_per_hour",
    "regions_of_disk_prices",
    "system_disk_gib",
]

PLANNED_USD_PER_GIB_MONTH: Final = 0.10
"""Where no price of the region is published: between the list prices of general-purpose SSD volumes of the three clouds
(0.08 to 0.13). A planning figure."""

_GIB: Final = 2.0**30
_GB: Final = 1e9


def disk_usd_per_gib_month(assumed: CostAssumptions, cloud: str, service: str, region: str) -> Sourced:
    """
    Return the price of disk space beside a machine.

    Args:
        assumed: with the user's own figure.
        cloud: as in the price book.
        service: as in the price book.
        region: the cloud's own name.

    Example:
        >>> disk_usd_per_gib_month(CostAssumptions(), "aws", "ec2", "us-east-1").value
        0.08
    """
    if assumed.disk_usd_per_gib_month is not None:
        return Sourced(assumed.disk_usd_per_gib_month, STATED)
    known = SERVICES.get(service)
    if known is not None and known.own_disk_because:
        return Sourced(0.0, known.own_disk_because)
    price = disk_price(cloud, region, "" if known is None else known.disk)
    usd = None if isinstance(price, Unknown) else price.usd_per_month(1.0)
    if usd is None or isinstance(price, Unknown):
        return Sourced(
            PLANNED_USD_PER_GIB_MONTH,
            f"a planning figure between those of the three clouds: no price of {cloud} in {region} is known",
        )
    return Sourced(usd, f"{price.disk}: {text_of(price)}")


def regions_of_disk_prices(cloud: str, service: str) -> tuple[str, ...]:
    """Return the regions whose `disk_usd_per_gib_month` is published, by the clouds' own names."""
    known = SERVICES.get(service)
    asked = disk_price(cloud, "", "" if known is None else known.disk)
    return asked.known_in if isinstance(asked, Unknown) else ()


def system_disk_gib(assumed: CostAssumptions, cloud: str, service: str) -> Sourced:
    """
    Return the size of a machine's system disk, where it is billed beside the machine.

    Args:
        assumed: with the user's own figure.
        cloud: as in the price book.
        service: as in the price book.
    """
    if assumed.system_disk_gib is not None:
        return Sourced(assumed.system_disk_gib, STATED)
    known = SERVICES.get(service)
    if known is not None and known.own_disk_because:
        return Sourced(0.0, known.own_disk_because)
    if known is None or known.system_disk_gib is None:
        label = service_label(cloud, service)
        return Sourced(None, f"whether the price of {label} includes the machine's system disk is not known")
    return Sourced(
        known.system_disk_gib, "a planning figure: the system, an image of 10 to 20 GB, and caches"
    )


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
