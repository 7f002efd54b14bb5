"""Local disks of machine types: which have them, from `data/local_disks.csv`, with the source of each row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from trainfare_core.documents import data_rows
from trainfare_core.run_cost_facts.answers import Unknown


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
