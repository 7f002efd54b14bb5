"""What a script asks for that would start its processes: here it is one of them, on a CPU."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

FP16_AS_BF16: Final = "fp16 mixed precision ran as bf16 on the CPU here, and is counted as that"


@dataclass(frozen=True, slots=True)
class AskedDevices:
    """
    Devices that a launcher inside the script, such as Fabric, was asked for.

    Attributes:
        devices: accelerators per node.
        num_nodes: machines.
        strategy: Lightning's word for it.
        notes: what had to be assumed or is not counted, for the profile.
        any_devices: as many devices as the machine has; one is assumed here.
    """

    devices: int
    num_nodes: int
    strategy: str
    notes: tuple[str, ...]
    any_devices: bool = False


@dataclass(slots=True)
class Launch:
    """
    What a script has asked for so far.

    Attributes:
        devices: None: no launcher was asked.
        processes: that would be started; None: none, or not known how many.
        notes: what is done instead, for the profile.
    """

    devices: AskedDevices | None = None
    processes: int | None = None
    notes: list[str] = field(default_factory=list[str])

    def note_processes(self, count: int | None, what: str) -> None:
        """Take note that what processes would do is called in this one; None: how many is not known."""
        self.processes = count
        self.notes.append(f"{what}: what it starts is called in this process, as the first of them")
