"""
What activation checkpointing of the blocks that repeat would change of a step's memory, seen without running it.

A block is the outermost one whose name in a profile has a `*` (`module_work.fold_names`). Checkpointed, it keeps the
tensors that it is called with, and runs its forward again when its backward begins; what autograd saved inside is then
held for one block at a time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from trainfare_core.job_profile import BlockFacts


@dataclass(slots=True)
class BlockMemory:
    """
    Follows which storages the blocks of a step save for backward.

    Attributes:
        inside: number of the block whose forward runs, from 1; 0 outside of all.
        classes: names of the blocks' classes, in the order of their first call.
        saves: tensors saved so far. What a block does after its last one is not run again: torch ends the recomputation
            there.
    """

    inside: int = 0
    classes: dict[str, None] = field(default_factory=dict[str, None])
    saves: int = 0
    _count: int = 0
    _inputs: dict[int, int] = field(default_factory=dict[int, int])
    _made: dict[int, int] = field(default_factory=dict[int, int])
    _saved: dict[int, int] = field(default_factory=dict[int, int])
    _largest: dict[int, int] = field(default_factory=lambda: defaultdict(int))

    def enter(self, class_name: str, inputs: Iterable[tuple[int, int]]) -> None:
        """
        Begin the forward of a block.

        Args:
            class_name: of the block.
            inputs: number and bytes of the storages that it is called with.
        """
        self._count += 1
        self.inside = self._count
        self.classes[class_name] = None
        self._inputs.update(inputs)

    def leave(self) -> None:
        """End the forward of a block."""
        self.inside = 0

    def record_made(self, keys: Iterable[int]) -> None:
        """Record storages that an operation of forward made."""
        if self.inside:
            self._made.update(dict.fromkeys(keys, self.inside))

    def record_saved(self, key: int) -> None:
        """Record a storage that autograd keeps: what is saved outside of the blocks stays whatever they do."""
        self.saves += 1
        if self.inside:
            self._saved.setdefault(key, self.inside)
        else:
            self._saved[key] = 0

    def read_in_backward(self, key: int) -> None:
        """Record a storage that something else than autograd kept, such as a custom function."""
        self._saved.setdefault(key, self._made.get(key, 0))

    def operation(self, moved_bytes: int) -> None:
        """Record the activations that an operation reads and writes; its backward has gradients of that size."""
        if self.inside:
            self._largest[self.inside] = max(self._largest[self.inside], moved_bytes)

    def facts(self, saved: Mapping[int, int], elsewhere: Collection[int]) -> BlockFacts | None:
        """
        Return what checkpointing would change; None where no block ran that has a backward.

        Args:
            saved: bytes of the storages that the step keeps for backward.
            elsewhere: numbers of parameters, buffers, the batch and of what does not scale with it.
        """
        if not self._count:
            return None
        dropped: dict[int, int] = dict.fromkeys(range(1, self._count + 1), 0)
        for key, block in self._saved.items():
            if block and key in saved and key not in elsewhere and key not in self._inputs:
                dropped[block] += saved[key]
        added = sum(size for key, size in self._inputs.items() if key not in saved and key not in elsewhere)
        return BlockFacts(
            classes=tuple(self.classes),
            count=self._count,
            saved_activation_bytes=sum(dropped.values()),
            input_bytes=added,
            largest_bytes=max(size + self._largest[block] for block, size in dropped.items()),
        )
