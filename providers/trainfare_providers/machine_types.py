"""Machine types with accelerators: what every cloud's price belongs to, and the tables that describe them."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from trainfare_core.documents import data_rows


@dataclass(frozen=True, slots=True)
class Machine:
    """
    A machine type that has an accelerator.

    Attributes:
        accelerator_count: physical accelerators; a slice of one is below 1.
        accelerator_memory_gib: of one whole accelerator, nominal.
        vcpus: None where the cloud does not say, as of a TPU slice.
        memory_gib: of the host.
    """

    instance_type: str
    accelerator: str
    accelerator_count: float
    accelerator_memory_gib: float
    vcpus: float | None = None
    memory_gib: float | None = None
    network_gbit_per_s: float | None = None


def table_rows(name: str) -> Iterator[dict[str, str]]:
    """Yield the rows of one of our tables in `data`."""
    text = (files("trainfare_providers") / "data" / name).read_text(encoding="utf-8")
    yield from csv.DictReader(text.splitlines())


@cache
def _read_published_networks() -> dict[tuple[str, str], float]:
    return {
        (row["provider"], row["instance_type"]): float(row["network_gbit_per_s"])
        for row in data_rows("networks.csv")
    }


def network_gbit_per_s(provider: str, instance_type: str) -> float | None:
    """
    Return the published rate of a machine's network towards other machines, in gigabits per second.

    `data/networks.csv` of the core names a source for each. A rate that the cloud calls "up to" is its baseline on
    AWS, and the maximum on Azure and Google, which publish no other. Where some cards are for accelerators alone, only
    those count. SageMaker's ml.x is the EC2 machine x. None: not published, or sources disagree.
    """
    return _read_published_networks().get((provider, instance_type.removeprefix("ml.")))


def machine_of(provider: str, row: Mapping[str, str]) -> Machine:
    """Return the machine of a row of a cloud's table."""
    return Machine(
        row["instance_type"],
        row["accelerator"],
        float(row["accelerator_count"]),
        float(row["accelerator_memory_gib"]),
        float(row["vcpus"]),
        float(row["memory_gib"]),
        network_gbit_per_s(provider, row["instance_type"]),
    )
