"""
The accelerators and size of each EC2 machine: from `DescribeInstanceTypes` where permitted, and our own table.

The API names a chip but not its variant, and is wrong in places: fractional machines (g6f) have 0 GPUs and a
partition size, Trainium2 has 512 GiB a chip (true: 96), trn2u has no accelerator at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Final, NamedTuple

from trainfare_providers.answer_values import amount_at, items_of, text_at, value_at
from trainfare_providers.machine_types import Machine, machine_of, network_gbit_per_s, table_rows
from trainfare_providers.source_rows import Refused

# Reported over nominal memory. A10G and L4 report 22,888 of 24,576 MiB (0.931), less what error correction takes.
_LEAST_SHARE, _MOST_SHARE = 0.92, 1.01
_CONTRADICTS: Final = "DescribeInstanceTypes and the table of machines disagree on what is in the machine"


class _Chip(NamedTuple):
    """An accelerator, its nominal memory, and what the API states instead; None: the API is right."""

    accelerator: str
    memory_gib: float
    misstated_gib: float | None


class Machines:
    """Machines by type; `refused` are the types that two sources describe differently."""

    __slots__ = ("_blocks", "_found", "_refused")

    def __init__(
        self, machines: Mapping[str, Machine], refused: Iterable[str] = (), blocks: Iterable[str] = ()
    ) -> None:
        self._refused, self._blocks = frozenset(refused), frozenset(blocks)
        self._found = {name: machine for name, machine in machines.items() if name not in self._refused}

    def get(self, instance_type: str) -> Machine | None:
        """Return the machine, or None where it is not known or not to be trusted."""
        return self._found.get(instance_type)

    def find(self, instance_type: str, *, accelerated: bool) -> Machine | Refused:
        """
        Return the machine, or why its prices are not kept.

        Args:
            instance_type: of EC2; SageMaker's ml.x is the machine x.
            accelerated: the price list itself says that the machine has an accelerator.
        """
        machine = self._found.get(instance_type)
        if machine is not None:
            return machine
        if instance_type in self._refused:
            return Refused(_CONTRADICTS, quarantined=True)
        if not accelerated:
            return Refused("machine without an accelerator")
        reason = "an accelerator machine that the table of machines does not know"
        return Refused(reason, unknown_machine=instance_type[:60])

    def names(self) -> tuple[str, ...]:
        """Return every type that prices are kept for, sorted."""
        return tuple(sorted(self._found))

    @property
    def refused(self) -> tuple[str, ...]:
        """Types that two sources describe differently, sorted."""
        return tuple(sorted(self._refused))

    def blocks(self) -> tuple[str, ...]:
        """Return the types that can be booked as a Capacity Block, sorted."""
        return tuple(name for name in self.names() if name in self._blocks)

    def join(self, described: Machines) -> Machines:
        """Return this table updated by the API's; a type on which they differ is refused."""
        machines = dict(self._found)
        refused = {*self._refused, *described.refused}
        for name in described.names():
            theirs, ours = described.get(name), self._found.get(name)
            if theirs is None:
                continue
            if ours is not None and _differs(ours, theirs):
                refused.add(name)
            machines[name] = theirs
        return Machines(machines, refused)


@cache
def read_known_machines() -> Machines:
    """Return our own table, `data/aws_machines.csv`, where each row names its source."""
    return Machines({row["instance_type"]: machine_of("aws", row) for row in table_rows("aws_machines.csv")})


@cache
def _chips() -> Mapping[str, tuple[_Chip, ...]]:
    """
    Return what the API's name of a chip can mean, from `data/aws_chips.csv`.

    Every A100, H100, H200, B200 and V100 that AWS rents is an SXM board, which the API does not say.
    """
    chips: dict[str, tuple[_Chip, ...]] = {}
    for row in table_rows("aws_chips.csv"):
        misstated = float(row["misstated_gib"]) if row["misstated_gib"] else None
        chip = _Chip(row["accelerator"], float(row["memory_gib"]), misstated)
        chips[row["chip"]] = (*chips.get(row["chip"], ()), chip)
    return chips


def parse_instance_types(items: Iterable[object]) -> Machines:
    """
    Read the `InstanceTypes` of `DescribeInstanceTypes`; a type without a known accelerator is left out.

    A type whose chip reports a memory that it does not have is refused.
    """
    machines: dict[str, Machine] = {}
    refused: set[str] = set()
    blocks: set[str] = set()
    for item in items:
        name = text_at(item, "InstanceType")
        chips = [*items_of(item, "GpuInfo", "Gpus"), *items_of(item, "NeuronInfo", "NeuronDevices")]
        if not name or len(chips) != 1:
            continue
        read = _parse_machine(name, item, chips[0])
        if read is None:
            refused.add(name)
        elif isinstance(read, Machine):
            machines[name] = read
        if "capacity-block" in items_of(item, "SupportedUsageClasses"):
            blocks.add(name)
    return Machines(machines, refused, blocks)


def _parse_machine(name: str, item: object, chip: object) -> Machine | str | None:
    """Return the machine; the chip's name where the chip is unknown; None where the numbers contradict it."""
    label = text_at(chip, "Name")
    # boto3 before 2026 does not read partition sizes: a slice then has 0 GPUs and no size, which tells nothing.
    sliced = amount_at(chip, "Count") == 0 and value_at(chip, "GpuPartitionSize") is None
    if label not in _chips() or sliced:
        return label
    share = amount_at(chip, "GpuPartitionSize") or 1.0
    slices = (amount_at(chip, "LogicalGpuCount") or 0.0) * share if share < 1 else 0.0
    count = amount_at(chip, "Count") or slices
    memory_mib, host_mib = (
        amount_at(chip, "MemoryInfo", "SizeInMiB"),
        amount_at(item, "MemoryInfo", "SizeInMiB"),
    )
    vcpus = amount_at(item, "VCpuInfo", "DefaultVCpus")
    if not count or not memory_mib or not vcpus or not host_mib:
        return None
    memory_gib = memory_mib / 1024 / share
    known = [
        chip
        for chip in _chips()[label]
        if _LEAST_SHARE * chip.memory_gib <= memory_gib <= _MOST_SHARE * chip.memory_gib
        or chip.misstated_gib == memory_gib
    ]
    if len(known) != 1:
        return None
    return Machine(
        name,
        known[0].accelerator,
        count,
        known[0].memory_gib,
        vcpus,
        host_mib / 1024,
        network_gbit_per_s("aws", name),
    )


def _differs(ours: Machine, theirs: Machine) -> bool:
    same_chip = ours.accelerator == theirs.accelerator and ours.accelerator_count == theirs.accelerator_count
    if not same_chip or ours.vcpus != theirs.vcpus or ours.memory_gib is None or theirs.memory_gib is None:
        return True
    return abs(ours.memory_gib - theirs.memory_gib) > 1  # GiB: rounding
