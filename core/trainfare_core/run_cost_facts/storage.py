"""Object storage and disks."""

from __future__ import annotations

from typing import Literal, TypeAlias

from trainfare_core.run_cost_facts.answers import Amount, DiskPrice, TieredPrice, Unknown
from trainfare_core.run_cost_facts.table import amount, choose, group, matching
from trainfare_core.run_cost_facts.tiers import tiered_price

__all__ = [
    "RequestKind",
    "StorageClass",
    "disk_price",
    "disk_prices",
    "local_ssd_usd_per_hour",
    "object_storage_request_usd",
    "object_storage_retrieval_usd_per_gb",
    "object_storage_usd_per_gb_month",
]

StorageClass: TypeAlias = Literal["standard", "infrequent", "archive", "premium"]
"""infrequent: S3 Standard-IA, Azure's cool tier, Google's Nearline."""
RequestKind: TypeAlias = Literal["read", "write"]


def object_storage_usd_per_gb_month(
    cloud: str, region: str, storage_class: StorageClass = "standard"
) -> TieredPrice | Unknown:
    """
    Return the price of object storage (S3, Blob Storage with local redundancy, Cloud Storage).

    Args:
        cloud: as in the price book.
        region: the cloud's own name.
        storage_class: how the objects are kept.

    Returns:
        Dollars per GB and month by tier; `price.usd(gb)` are the dollars of a month.

    Example:
        >>> price = object_storage_usd_per_gb_month("azure", "eastus")
        >>> price.tiers[0].usd_per_gb, [row.value for row in price.unused]
        (0.0208, [0.018])
    """
    rows = matching("object_storage", cloud, item=storage_class)
    return tiered_price(rows, region, f"the price of {cloud}'s object storage ({storage_class})")


def object_storage_request_usd(cloud: str, region: str, request: RequestKind) -> Amount | Unknown:
    """
    Return the price of one request to object storage of the standard class.

    Args:
        cloud: as in the price book.
        region: the cloud's own name.
        request: read (GET) or write (PUT).

    Returns:
        Dollars per request.
    """
    rows = matching("object_storage_request", cloud, item=request)
    return amount(rows, region, f"the price of {cloud}'s {request} requests to object storage")


def object_storage_retrieval_usd_per_gb(
    cloud: str, region: str, storage_class: StorageClass = "infrequent"
) -> Amount | Unknown:
    """
    Return the price of reading data back from a class that charges for it.

    Args:
        cloud: as in the price book.
        region: the cloud's own name.
        storage_class: how the objects are kept.

    Returns:
        Dollars per GB that is read.
    """
    rows = matching("object_storage_retrieval", cloud, item=storage_class)
    return amount(rows, region, f"the price of reading {cloud}'s object storage ({storage_class})")


def disk_price(cloud: str, region: str, disk: str) -> DiskPrice | Unknown:
    """
    Return the price of one kind of disk.

    Args:
        cloud: as in the price book.
        region: the cloud's own name.
        disk: as `disk_prices` names it, such as gp3 or premium-ssd-v2.

    Returns:
        The price in its own unit; `price.usd_per_month(size)` are the dollars of a month.
    """
    chosen = choose(matching("disk", cloud, item=disk), region, f"the price of {cloud}'s disk {disk}")
    if isinstance(chosen, Unknown):
        return chosen
    return DiskPrice(
        disk=disk,
        value=chosen.row.value,
        unit=chosen.row.unit,
        region_match=chosen.region_match,
        rows=(chosen.row,),
        unused=chosen.unused,
    )


def disk_prices(cloud: str, region: str) -> tuple[DiskPrice, ...]:
    """
    Return the prices of all kinds of disks that are known in a region.

    Args:
        cloud: as in the price book.
        region: the cloud's own name.

    Returns:
        One price a kind of disk; empty where none is known.
    """
    kinds = dict.fromkeys(row.item for row in group("disk", cloud))
    prices = (disk_price(cloud, region, disk) for disk in kinds)
    return tuple(price for price in prices if isinstance(price, DiskPrice))


def local_ssd_usd_per_hour(cloud: str, machine: str, region: str) -> Amount | Unknown:
    """
    Return the price of the local SSD of a machine, where it is billed beside the machine.

    Args:
        cloud: as in the price book.
        machine: machine type.
        region: the cloud's own name.

    Returns:
        Dollars an hour for all local SSD of the machine.
    """
    rows = matching("local_ssd", cloud, machine=machine)
    return amount(rows, region, f"the price of the local SSD of {cloud}'s {machine}")
