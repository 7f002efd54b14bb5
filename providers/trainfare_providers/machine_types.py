"""Machine types with accelerators: what every cloud's price belongs to, and the tables that describe them."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files

from trainfare_providers.machine_networks import network_gbit_per_s


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
