"""
Enter the launches of a model in the ledger, with their submodule and what a fusing compiler would leave of them.

A compiler, as torch.compile and XLA do, fuses pointwise operations with their neighbours. A chain of them becomes one
kernel: it reads each tensor from outside once, and writes the results that other kernels read. Products, convolutions
and attention are kernels of their own, and a pointwise kernel can start when those that it waits for have run. So each
operation has a level, the number of such kernels that run before it one after another, and pointwise operations of one
level count as fused. Backward is a program of its own: results of forward that it needs are written, except pointwise
ones, which it can compute again.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from trainfare.trace.ledger import Fused, Ledger, Line
from trainfare.trace.memory import MemoryWatch
from trainfare.trace.module_work import ModuleWatch
from trainfare.trace.storages import Traffic
from trainfare_core.job_profile import POINTWISE_KINDS, OperationGroup, OperationKind
from trainfare_core.variants import cast_of

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
    """It stands for several operations; values that only they read count as neither read nor written."""
    level: int = 0
    """Number of products, convolutions and attention kernels that run before it, one after another."""
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
        """Return whether one of its results is written: another kernel reads it, or nothing does (the output)."""
        if not value.readers:
            return not self.of_several
        return any(_needs_memory(reader, self) for reader in value.readers)


@dataclass(slots=True)
class Fusion:
    """Records which operation of a step writes each storage and which operations read it."""

    _values: dict[int, _Value] = field(default_factory=dict[int, _Value])
    _launches: list[_Launch] = field(default_factory=list[_Launch])

    def add(self, line: Line, moved: Traffic, *, kept_bytes: int = 0, alone: bool = False) -> int:
        """
        Record one operation of forward or backward, and return its number.

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
        """Record an operation that runs as several, each of which `extend` adds; return its number."""
        self._launches.append(_Launch(line, line.kind in POINTWISE_KINDS, of_several=True))
        return len(self._launches) - 1

    def extend(self, number: int, moved: Traffic) -> None:
        """Add what one of the several operations reads and writes."""
        launch = self._launches[number]
        own_values = {id(value) for value, _ in launch.writes}
        read = tuple(part for part in moved.read if id(self._values.get(part[0])) not in own_values)
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
    """Return whether the reader's own kernel computes the value."""
    writer = value.writer
    return writer is not None and writer.pointwise and writer.program == reader.program


def _needs_memory(reader: _Launch, writer: _Launch) -> bool:
    """Return whether the reader takes the writer's result from memory."""
    if not reader.pointwise:
        return True
    if (reader.line.phase, reader.line.recomputed) != (writer.line.phase, writer.line.recomputed):
        return writer.line.kind not in _RECOMPUTED_KINDS
    return reader.level != writer.level or reader.sums_gradients


@dataclass(slots=True)
class LaunchRecorder:
    """
    The launches of a model in one recorded step.

    Attributes:
        memory: knows which bytes are fixed, and the block that is running.
        modules: knows which submodule is running.
        ledger: adds up operations.
        fusion: follows what a fusing compiler would leave of their bytes.
    """

    memory: MemoryWatch
    modules: ModuleWatch
    ledger: Ledger
    fusion: Fusion = field(default_factory=Fusion)
    _of_block: list[tuple[Line, Callable[[Line], None], int]] = field(
        default_factory=list[tuple[Line, Callable[[Line], None], int]]
    )
    _fused: dict[int, Fused] = field(default_factory=dict[int, Fused])
    """By the number of a launch, what takes the bytes that a fusing compiler leaves of it."""

    def add(
        self,
        line: Line,
        moved: Traffic,
        flops: int,
        *,
        only_rows: bool = False,
        kept_bytes: int = 0,
        accumulation: bool = False,
    ) -> None:
        """
        Add one launch of the model to the ledger, and the casts of a product in fp8.

        `kept_bytes` are written besides its results.
        """
        module = self.modules.running(line.phase, recomputed=line.recomputed)
        read, written = moved.bytes_read, moved.bytes_written + kept_bytes
        fixed = self.memory.count_fixed_bytes(moved, looks_up=only_rows)
        launches = [(line, flops, read, written, fixed)]
        if line.kind == "matmul" and self.modules.is_in_fp8(module, line.shape):
            product = OperationGroup(
                **line._replace(dtype="fp8")._asdict(), launches=1, flops=flops, bytes_read=read,
                bytes_written=written, bytes_fixed=min(fixed, read + written),
            )  # fmt: skip
            launches = [
                (Line(*(getattr(group, name) for name in Line._fields)), group.flops, group.bytes_read,
                 group.bytes_written, group.bytes_fixed)
                for group in (product, cast_of(product, line.dtype))
            ]  # fmt: skip
        blocks = self.memory.blocks
        number = self.fusion.add(line, moved, kept_bytes=kept_bytes, alone=accumulation)
        for key, each_flops, each_read, each_written, each_fixed in launches:
            add = functools.partial(
                self.enter, number, flops=each_flops, read=each_read, written=each_written, fixed=each_fixed,
                accumulation=accumulation, module=module,
            )  # fmt: skip
            if key.phase == "forward" and blocks.inside:
                self._of_block.append((key, add, blocks.saves))
            else:
                add(key)

    def enter(self, number: int, line: Line, **amounts: Any) -> None:
        """Add a launch to the ledger, by its number in `fusion`."""
        self._fused[number] = self.ledger.add(line, **amounts)

    def end(self) -> None:
        """Enter what a fusing compiler would leave of the bytes of every operation, now that all are known."""
        for number, left in self.fusion.bytes_left():
            if number in self._fused:
                self._fused[number](left)
        self.fusion, self._fused = Fusion(), {}

    def leave_block(self) -> None:
        """End the forward of a block that repeats: what it did up to its last saved tensor would be run again."""
        blocks = self.memory.blocks
        blocks.leave()
        for line, add, saves in self._of_block:
            add(line._replace(in_block=saves < blocks.saves))
        self._of_block.clear()
