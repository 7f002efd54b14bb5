"""Enter the launches of a model in the ledger, with their submodule and what a fusing compiler would leave of them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from trainfare.trace.fusion import Fusion
from trainfare.trace.ledger import Fused, Ledger, Line
from trainfare.trace.memory import MemoryWatch
from trainfare.trace.module_work import ModuleWatch
from trainfare.trace.storages import Traffic
from trainfare_core.job_profile import OperationGroup
from trainfare_core.variants import cast_of


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
