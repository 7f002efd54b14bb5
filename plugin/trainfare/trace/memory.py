"""
Classify the storages of a recorded step: parameters, inputs, saved activations, temporaries.

Besides, what activation checkpointing of the blocks that repeat would change of its memory, seen without running it. A
block is the outermost one whose name in a profile has a `*` (`module_work.fold_names`). Checkpointed, it keeps the
tensors that it is called with, and runs its forward again when its backward begins; what autograd saved inside is then
held for one block at a time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import torch

from trainfare.trace import torch_private
from trainfare.trace.live_memory import LiveMemory, MemoryChange
from trainfare.trace.storages import StorageRegistry, Traffic, storage_bytes, tensors_in
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


_SHAPE_ONLY_NODES: Final = (
    "TBackward", "TransposeBackward", "ViewBackward", "UnsafeViewBackward", "ReshapeAliasBackward",
    "PermuteBackward", "ExpandBackward", "ToCopyBackward", "SqueezeBackward", "UnsqueezeBackward",
    "SliceBackward", "SelectBackward", "SplitBackward", "SplitWithSizesBackward", "CloneBackward",
    "AsStridedBackward", "AliasBackward", "ChunkBackward",
)  # fmt: skip
"""Autograd nodes that change a gradient's shape or type and nothing else."""

_SCALAR_BYTES: Final = 8
"""Storages up to the size of one fp64 or int64 number are losses and counters, and not counted."""


@dataclass(frozen=True, slots=True)
class GradientEdges:
    """
    The shapes of the gradients that an autograd node produces.

    Attributes:
        fixed: shapes of gradients of parameters, sorted and without ones.
        other: shapes of all other gradients.
        accumulates: whether the node adds a gradient into `.grad`.
    """

    fixed: frozenset[tuple[int, ...]]
    other: frozenset[tuple[int, ...]]
    accumulates: bool


@dataclass(slots=True)
class MemoryWatch:
    """
    Follows storages through one step.

    A storage is "fixed" if its size does not depend on the batch: parameters, buffers, gradients of parameters,
    and results computed from fixed storages alone (a weight cast to bf16, a low-rank update multiplied out).
    """

    parameters: Sequence[torch.Tensor]
    buffers: Sequence[torch.Tensor]
    registry: StorageRegistry = field(default_factory=StorageRegistry)
    saved: dict[int, int] = field(default_factory=dict[int, int])
    inputs: dict[int, int] = field(default_factory=dict[int, int])
    fixed: set[int] = field(default_factory=set[int])
    gradients: set[int] = field(default_factory=set[int])
    _temporaries: list[tuple[tuple[int, int], ...]] = field(default_factory=list[tuple[tuple[int, int], ...]])
    _made: set[int] = field(default_factory=set[int])
    _recomputed: dict[int, tuple[int, int]] = field(default_factory=dict[int, tuple[int, int]])
    _recomputed_bytes: list[int] = field(default_factory=list[int])
    _recomputing: bool = False
    _constant: set[int] = field(default_factory=set[int])
    _parameter_keys: set[int] = field(default_factory=set[int])
    _edges: dict[tuple[int, str], GradientEdges] = field(default_factory=dict[tuple[int, str], GradientEdges])
    _extras: int = 0
    _all_gradients: set[int] = field(default_factory=set[int])
    blocks: BlockMemory = field(default_factory=BlockMemory)
    live: LiveMemory = field(init=False)

    def __post_init__(self) -> None:
        self.live = LiveMemory(self.registry)

    def begin(self) -> None:
        """Find the storages of parameters, buffers and gradients; those of the previous step may still exist."""
        self._parameter_keys = self._inner_keys(self.parameters)
        self._constant = self._parameter_keys | self._inner_keys(self.buffers)
        self.fixed = set(self._constant)
        self.update_gradients()
        self.live.enter(self._inner_tensors(p.grad for p in self.parameters if p.grad is not None), "forward")

    def update_gradients(self) -> None:
        """Read again which storages are `.grad` of a parameter."""
        self.gradients = self._inner_keys(p.grad for p in self.parameters if p.grad is not None)
        self.fixed |= self.gradients
        self._all_gradients |= self.gradients

    def _inner_keys(self, tensors: Iterable[torch.Tensor]) -> set[int]:
        return self.registry.keys(self._inner_tensors(tensors))

    @staticmethod
    def _inner_tensors(tensors: Iterable[torch.Tensor]) -> list[torch.Tensor]:
        return [plain for tensor in tensors for plain in torch_private.inner_tensors(tensor)]

    # ---- lifetimes

    def enter_allocation(self, results: Iterable[torch.Tensor], operands: Sequence[torch.Tensor]) -> None:
        """Record the results of an operation without a kernel; a view shares the memory of its operand."""
        self._add_parameters(operands)
        if not torch_private.in_backward():
            self._enter_made(self.registry.keys(results) - self.registry.keys(operands))

    def _enter_made(self, keys: set[int]) -> None:
        self._made |= keys
        self.blocks.record_made(keys)

    def save(self, tensor: torch.Tensor) -> None:
        """Record a tensor that autograd keeps for backward."""
        if self._on_module_device(tensor) and not torch_private.in_backward():
            key = self.registry.key(tensor)
            self.saved.setdefault(key, storage_bytes(tensor))
            self.blocks.record_saved(key)

    def save_extra(self, size: int) -> int:
        """Record bytes that a fused kernel keeps besides operands and results; return their storage number."""
        self._extras -= 1
        if torch_private.in_backward():
            self._enter_recomputed(self._extras, size)
        else:
            self.saved[self._extras] = size
            self.blocks.record_saved(self._extras)
        self.live.enter_extra(self._extras, size)
        return self._extras

    def enter_forward(self, operands: Sequence[torch.Tensor], moved: Traffic) -> None:
        """Record an operation of the forward pass; a storage that it reads and no operation made is input."""
        self._add_parameters(operands)
        for tensor in operands:
            key, size = self.registry.key(tensor), storage_bytes(tensor)
            unseen = key not in self._made and key not in self.fixed
            if unseen and size > _SCALAR_BYTES and self._on_module_device(tensor):
                self.inputs.setdefault(key, size)
        # Scalars are left out: losses, and the gradient that backward starts from.
        self._enter_made({key for key, size in moved.written if size > _SCALAR_BYTES})
        self.blocks.operation(
            sum(size for key, size in dict.fromkeys((*moved.read, *moved.written)) if key not in self.fixed)
        )
        self._temporary(moved)

    def _add_parameters(self, operands: Iterable[torch.Tensor]) -> None:
        """Add parameters that appear during the step: FSDP2 replaces shards by whole parameters for a forward."""
        for tensor in operands:
            if isinstance(tensor, torch.nn.Parameter):
                key = self.registry.key(tensor)
                if key not in self.fixed:
                    self.fixed.add(key)
                    self._constant.add(key)

    def enter_backward(self, operands: Sequence[torch.Tensor], moved: Traffic, *, recomputed: bool) -> None:
        """
        Record an operation of the backward pass.

        A storage that it reads and forward made was kept for backward, by autograd, a custom function or a checkpoint.
        """
        for tensor in operands:
            key = self.registry.key(tensor)
            if key in self._made and key not in self.saved and self._on_module_device(tensor):
                self.saved[key] = storage_bytes(tensor)
                self.blocks.read_in_backward(key)
        if recomputed:
            if not self._recomputing:
                self._recomputed_bytes.append(0)
            read = {key for key, _ in moved.read}
            for key, size in moved.written:
                if key not in read:
                    self._enter_recomputed(key, size)
        else:
            self.read_in_backward(key for key, _ in moved.read)
        self._recomputing = recomputed
        self._temporary(moved)

    def read_in_backward(self, keys: Iterable[int]) -> None:
        """Record that backward reads these storages; those that one checkpoint recomputed are live together."""
        for key in keys:
            entry = self._recomputed.pop(key, None)
            if entry is not None:
                self._recomputed_bytes[entry[0]] += entry[1]

    def _enter_recomputed(self, key: int, size: int) -> None:
        if self._recomputed_bytes:
            self._recomputed[key] = (len(self._recomputed_bytes) - 1, size)

    def _temporary(self, moved: Traffic) -> None:
        items = dict.fromkeys((*moved.read, *moved.written))
        self._temporaries.append(tuple(item for item in items if item[0] not in self.fixed))

    def count_saved_bytes(self) -> int:
        """Return the bytes kept for backward, without parameters, buffers and the batch."""
        elsewhere = self._constant | self.inputs.keys()
        return sum(size for key, size in self.saved.items() if key not in elsewhere)

    def enter_block(self, block: torch.nn.Module, arguments: Any) -> bool:
        """Begin the forward of a block that repeats, called with these arguments; False where it has no backward."""
        inputs = tensors_in(arguments)
        trains = any(tensor.requires_grad for tensor in (*inputs, *block.parameters()))
        if torch_private.in_backward() or not (trains and torch.is_grad_enabled()):
            return False
        sizes = ((self.registry.key(tensor), storage_bytes(tensor)) for tensor in inputs)
        self.blocks.enter(type(block).__name__, sizes)
        return True

    def block_facts(self) -> BlockFacts | None:
        """Return what activation checkpointing of the blocks that repeat would change; None without such blocks."""
        return self.blocks.facts(self.saved, self._constant | self.fixed | self.inputs.keys())

    def input_bytes(self) -> int:
        """Return the bytes that forward read and that neither forward made nor the module holds."""
        return sum(size for key, size in self.inputs.items() if key not in self._constant)

    def largest_temporary_bytes(self) -> int:
        """Return the largest bytes of one operation, or one recomputed checkpoint, beyond saved and input bytes."""
        single = (
            sum(size for key, size in items if key not in self.saved and key not in self.inputs)
            for items in self._temporaries
        )
        return max(max(single, default=0), max(self._recomputed_bytes, default=0))

    def changes(self) -> list[MemoryChange]:
        """Return the allocations and releases of the step in their order."""
        self.update_gradients()
        elsewhere = self._constant | self.inputs.keys()
        return self.live.changes(elsewhere, self._all_gradients, self.fixed)

    def _on_module_device(self, tensor: torch.Tensor) -> bool:
        """Return whether a tensor is on the module's device; one offloaded to the host is not."""
        return not self.parameters or tensor.device.type == self.parameters[0].device.type

    # ---- bytes that do not shrink with the batch

    def count_fixed_bytes(self, moved: Traffic, *, looks_up: bool) -> int:
        """
        Return the bytes of an operation that do not shrink with the batch.

        A look-up reads rows of its first operand and not the table, so that operand is left out.
        """
        read = moved.read[1:] if looks_up else moved.read
        return sum(size for key, size in (*read, *moved.written) if key in self.fixed)

    def mark_fixed_results(
        self, node: Any | None, operands: Sequence[torch.Tensor], results: Sequence[torch.Tensor]
    ) -> None:
        """
        Mark results that are fixed: computed from fixed storages alone, or gradients of parameters.

        A sparse gradient is none: it has a row for each that the batch looked up.
        """
        sized = [self.registry.key(tensor) for tensor in operands if tensor.numel() > 1]
        if sized and all(key in self.fixed for key in sized):
            self.fixed |= self.registry.keys(results)
            return
        if node is None:
            return
        edges = self.edges(node)
        from_fixed = any(key in self.fixed for key in sized)
        for tensor in results:
            shape = _sort_shape(tensor.shape)
            # With equal shapes: the input's gradient is computed from the weight, the weight's is not.
            if (
                tensor.layout is torch.strided
                and shape in edges.fixed
                and (shape not in edges.other or not from_fixed)
            ):
                self.fixed.add(self.registry.key(tensor))

    def edges(self, node: Any) -> GradientEdges:
        """Return which gradients an autograd node produces."""
        key = torch_private.node_key(node)
        known = self._edges.get(key)
        if known is not None and not known.accumulates:
            return known
        fixed: set[tuple[int, ...]] = set()
        other: set[tuple[int, ...]] = set()
        for following, index in node.next_functions:
            shape = None if following is None else torch_private.edge_shape(following, index)
            if shape is not None:
                (fixed if self._leads_to_parameter(following) else other).add(_sort_shape(shape))
        edges = GradientEdges(frozenset(fixed), frozenset(other), accumulates=hasattr(node, "variable"))
        self._edges[key] = edges
        return edges

    def _leads_to_parameter(self, node: Any) -> bool:
        while True:
            variable = getattr(node, "variable", None)
            if isinstance(variable, torch.Tensor):
                return self.registry.key(variable) in self._parameter_keys
            following = [n for n, _ in node.next_functions if n is not None]
            if len(following) != 1 or not str(node.name()).startswith(_SHAPE_ONLY_NODES):
                return False
            node = following[0]


def _sort_shape(shape: Iterable[int]) -> tuple[int, ...]:
    """Return a shape sorted and without ones: weight gradients come transposed, bias gradients as a row."""
    return tuple(sorted(int(size) for size in shape if size != 1))
