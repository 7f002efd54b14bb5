"""
Which bytes a compiler saves that fuses pointwise operations with their neighbours, as torch.compile and XLA do.

A chain of pointwise operations becomes one kernel: it reads what comes from outside once, and writes what is read
outside. Products, convolutions and attention are kernels of their own, so two operations are of one kernel only where
neither waits for such a kernel that the other does not wait for. Backward is a program of its own: what it needs of
forward's results is written, but for pointwise results that it can compute again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from trainfare.trace.ledger import Line
from trainfare.trace.storages import Traffic
from trainfare_core.job_profile import POINTWISE_KINDS, OperationKind

__all__ = ["Fusion"]

_RECOMPUTED_KINDS: Final[frozenset[OperationKind]] = frozenset({"elementwise", "activation", "copy"})
"""Kinds that backward runs again in place of reading their results; reductions and random numbers are kept."""


@dataclass(slots=True)
class _Value:
    """What one operation wrote into a storage, until the next one writes there."""

    writer: _Launch | None
    readers: list[_Launch] = field(default_factory=list["_Launch"])


class _Part(NamedTuple):
    value: _Value
    size: int


@dataclass(slots=True)
class _Launch:
    line: Line
    pointwise: bool
    kept_bytes: int = 0
    of_several: bool = False
    """It stands for several operations, which hand values to each other that nothing else reads."""
    level: int = 0
    """Kernels of their own that it waits for, one after another."""
    reads: list[_Part] = field(default_factory=list[_Part])
    writes: list[_Part] = field(default_factory=list[_Part])

    @property
    def program(self) -> tuple[str, bool, int]:
        """What operations of one kernel share."""
        return self.line.phase, self.line.recomputed, self.level

    @property
    def sums_gradients(self) -> bool:
        """Whether it adds up a gradient over rows, e.g. that of a bias: a kernel that reads the gradient again."""
        return self.line.kind == "reduction" and self.line.phase == "backward"

    def writes_to_memory(self, value: _Value) -> bool:
        """Return whether others read a value of its own from memory; results that nobody reads are written too."""
        if not value.readers:
            return not self.of_several
        return any(_needs_memory(reader, self) for reader in value.readers)


@dataclass(slots=True)
class Fusion:
    """Follows the values that the operations of a step hand to each other."""

    _values: dict[int, _Value] = field(default_factory=dict[int, _Value])
    _launches: list[_Launch] = field(default_factory=list[_Launch])

    def add(self, line: Line, moved: Traffic, *, kept_bytes: int = 0, alone: bool = False) -> int:
        """
        Follow one operation of forward or backward, and return its number.

        Args:
            line: its group.
            moved: what it reads and writes.
            kept_bytes: written besides its results, for its own backward.
            alone: it runs outside of what is compiled, e.g. adding a gradient to that of an earlier micro-batch.
        """
        self._launches.append(_Launch(line, not alone and line.kind in POINTWISE_KINDS, kept_bytes))
        self._follow(self._launches[-1], moved)
        return len(self._launches) - 1

    def add_several(self, line: Line) -> int:
        """Follow an operation that is seen as several ones, each of which `extend` adds; return its number."""
        self._launches.append(_Launch(line, line.kind in POINTWISE_KINDS, of_several=True))
        return len(self._launches) - 1

    def extend(self, number: int, moved: Traffic) -> None:
        """Add what one of the several operations reads and writes."""
        launch = self._launches[number]
        own = {id(value) for value, _ in launch.writes}
        read = tuple(part for part in moved.read if id(self._values.get(part[0])) not in own)
        self._follow(launch, Traffic(read, moved.written))

    def _follow(self, launch: _Launch, moved: Traffic) -> None:
        for key, size in moved.read:
            value = self._values.setdefault(key, _Value(None))
            value.readers.append(launch)
            launch.reads.append(_Part(value, size))
            if value.writer is not None:
                launch.level = max(launch.level, value.writer.level + (not value.writer.pointwise))
        for key, size in moved.written:
            self._values[key] = _Value(launch)
            launch.writes.append(_Part(self._values[key], size))

    def bytes_left(self) -> Iterator[tuple[int, int]]:
        """Yield the number of each pointwise operation, and the bytes that it still moves where it is fused."""
        read = set[tuple[int, tuple[str, bool, int]]]()
        for number, launch in enumerate(self._launches):
            if not launch.pointwise:
                continue
            left = sum(size for value, size in launch.writes if launch.writes_to_memory(value))
            for value, size in launch.reads:
                key = id(value), launch.program
                if launch.sums_gradients or not (key in read or _is_made_beside(value, launch)):
                    left += size
                read.add(key)
            yield number, left + launch.kept_bytes


def _is_made_beside(value: _Value, reader: _Launch) -> bool:
    """Return whether the kernel of a reader has made the value itself."""
    made = value.writer
    return made is not None and made.pointwise and made.program == reader.program


def _needs_memory(reader: _Launch, writer: _Launch) -> bool:
    if not reader.pointwise:
        return True
    if (reader.line.phase, reader.line.recomputed) != (writer.line.phase, writer.line.recomputed):
        return writer.line.kind not in _RECOMPUTED_KINDS
    return reader.level != writer.level or reader.sums_gradients
