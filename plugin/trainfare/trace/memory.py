"""Which memory of a watched step lives how long: parameters, inputs, activations, temporaries."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import torch

from trainfare.trace import torch_private
from trainfare.trace.live_memory import LiveMemory, StorageClasses
from trainfare.trace.storages import StorageBook, Traffic, storage_bytes
from trainfare_core.job_profile import MemoryMoment

__all__ = ["GradientEdges", "MemoryWatch"]

_SHAPE_ONLY_NODES: Final = (
    "TBackward", "TransposeBackward", "ViewBackward", "UnsafeViewBackward", "ReshapeAliasBackward",
    "PermuteBackward", "ExpandBackward", "ToCopyBackward", "SqueezeBackward", "UnsqueezeBackward",
    "SliceBackward", "SelectBackward", "SplitBackward", "SplitWithSizesBackward", "CloneBackward",
    "AsStridedBackward", "AliasBackward", "ChunkBackward",
)  # fmt: skip
"""Autograd nodes that change a gradient's shape or type and nothing else."""

_SCALAR_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class GradientEdges:
    """
    The gradients an autograd node makes.

    Attributes:
        fixed: shapes of those that go to a parameter, without order and ones.
        other: shapes of the rest.
        accumulates: whether the node adds a gradient into `.grad`.
    """

    fixed: frozenset[tuple[int, ...]]
    other: frozenset[tuple[int, ...]]
    accumulates: bool


@dataclass(slots=True)
class MemoryWatch:
    """
    Follows storages through one step.

    A storage is "fixed" where its size does not depend on the batch: parameters, buffers, gradients of
    parameters, and whatever is made of such alone (a weight cast to bf16, a low-rank update multiplied out).
    """

    parameters: Sequence[torch.Tensor]
    buffers: Sequence[torch.Tensor]
    book: StorageBook = field(default_factory=StorageBook)
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
    _gradients_ever: set[int] = field(default_factory=set[int])
    live: LiveMemory = field(init=False)

    def __post_init__(self) -> None:
        self.live = LiveMemory(self.book)

    def begin(self) -> None:
        """Learn which storages are parameters, buffers and gradients; those of an earlier step are still there."""
        self._parameter_keys = self._plain_keys(self.parameters)
        self._constant = self._parameter_keys | self._plain_keys(self.buffers)
        self.fixed = set(self._constant)
        self.learn_gradients()
        self.live.enter(self._plain(p.grad for p in self.parameters if p.grad is not None), "forward")

    def learn_gradients(self) -> None:
        """Look again at what hangs on the parameters as `.grad`."""
        self.gradients = self._plain_keys(p.grad for p in self.parameters if p.grad is not None)
        self.fixed |= self.gradients
        self._gradients_ever |= self.gradients

    def _plain_keys(self, tensors: Iterable[torch.Tensor]) -> set[int]:
        return self.book.keys(self._plain(tensors))

    @staticmethod
    def _plain(tensors: Iterable[torch.Tensor]) -> list[torch.Tensor]:
        return [plain for tensor in tensors for plain in torch_private.inner_tensors(tensor)]

    # ---- how long

    def allocated(self, results: Iterable[torch.Tensor], operands: Sequence[torch.Tensor]) -> None:
        """Enter results of an operation without a kernel; a view is memory of its operand."""
        self._learn_parameters(operands)
        if not torch_private.in_backward():
            self._made |= self.book.keys(results) - self.book.keys(operands)

    def kept(self, tensor: torch.Tensor) -> None:
        """Enter a tensor that autograd keeps for backward."""
        if self._here(tensor) and not torch_private.in_backward():
            self.saved.setdefault(self.book.key(tensor), storage_bytes(tensor))

    def kept_extra(self, size: int) -> int:
        """Enter bytes that a fused kernel keeps beside its operands and results, and return their number."""
        self._extras -= 1
        if torch_private.in_backward():
            self._enter_recomputed(self._extras, size)
        else:
            self.saved[self._extras] = size
        self.live.enter_extra(self._extras, size)
        return self._extras

    def ran_forward(self, operands: Sequence[torch.Tensor], moved: Traffic) -> None:
        """Enter an operation of the forward pass: what it reads and nobody made is input."""
        self._learn_parameters(operands)
        for tensor in operands:
            key, size = self.book.key(tensor), storage_bytes(tensor)
            unseen = key not in self._made and key not in self.fixed
            if unseen and size > _SCALAR_BYTES and self._here(tensor):
                self.inputs.setdefault(key, size)
        # Scalars are left out: losses, and the one that backward starts from.
        self._made |= {key for key, size in moved.written if size > _SCALAR_BYTES}
        self._temporary(moved)

    def _learn_parameters(self, operands: Iterable[torch.Tensor]) -> None:
        """Learn parameters that came later: FSDP2 puts whole ones in place for a forward."""
        for tensor in operands:
            if isinstance(tensor, torch.nn.Parameter):
                key = self.book.key(tensor)
                if key not in self.fixed:
                    self.fixed.add(key)
                    self._constant.add(key)

    def ran_backward(self, operands: Sequence[torch.Tensor], moved: Traffic, *, recomputed: bool) -> None:
        """
        Enter an operation of the backward pass.

        What it reads and forward made was kept, whoever kept it: autograd, a custom function, a checkpoint.
        """
        for tensor in operands:
            key = self.book.key(tensor)
            if key in self._made and key not in self.saved and self._here(tensor):
                self.saved[key] = storage_bytes(tensor)
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
        """Say that backward needs these storages: where a checkpoint remade them they live side by side."""
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

    def saved_bytes(self) -> int:
        """Return the bytes kept for backward, without parameters, buffers and the batch."""
        return sum(size for key, size in self.saved.items() if not self._elsewhere(key))

    def input_bytes(self) -> int:
        """Return the bytes that forward read and neither made nor found in the module."""
        return sum(size for key, size in self.inputs.items() if key not in self._constant)

    def largest_temporary_bytes(self) -> int:
        """Return the most that one operation, or one checkpoint made again, holds beside all of that."""
        single = (
            sum(size for key, size in items if key not in self.saved and key not in self.inputs)
            for items in self._temporaries
        )
        return max(max(single, default=0), max(self._recomputed_bytes, default=0))

    def moments(self, optimizer_bytes: int) -> tuple[MemoryMoment, ...]:
        """
        Return the instants that can be the peak of the step.

        Args:
            optimizer_bytes: what the update allocates beside everything that is there.
        """
        self.learn_gradients()
        elsewhere = self._constant | self.inputs.keys()
        return self.live.moments(StorageClasses(elsewhere, self._gradients_ever, self.fixed), optimizer_bytes)

    def _here(self, tensor: torch.Tensor) -> bool:
        """Return whether a tensor is on the module's device, and not where somebody offloaded it to."""
        return not self.parameters or tensor.device.type == self.parameters[0].device.type

    def _elsewhere(self, key: int) -> bool:
        return key in self.inputs or key in self._constant

    # ---- what does not shrink with the batch

    def fixed_bytes(self, moved: Traffic, *, looks_up: bool) -> int:
        """
        Return the bytes of an operation that do not shrink with the batch; a look-up reads rows, not the
        table.
        """
        read = moved.read[1:] if looks_up else moved.read
        return sum(size for key, size in (*read, *moved.written) if key in self.fixed)

    def spread_fixed(
        self, node: Any | None, operands: Sequence[torch.Tensor], results: Sequence[torch.Tensor]
    ) -> None:
        """Mark results that are fixed: made of fixed storages alone, or gradients of parameters."""
        sized = [self.book.key(tensor) for tensor in operands if tensor.numel() > 1]
        if sized and all(key in self.fixed for key in sized):
            self.fixed |= self.book.keys(results)
            return
        if node is None:
            return
        edges = self.edges(node)
        from_fixed = any(key in self.fixed for key in sized)
        for tensor in results:
            shape = _unordered(tensor.shape)
            # The input's gradient is made with the weight, the weight's without: that tells equal shapes
            # apart.
            if shape in edges.fixed and (shape not in edges.other or not from_fixed):
                self.fixed.add(self.book.key(tensor))

    def edges(self, node: Any) -> GradientEdges:
        """Return which gradients an autograd node makes."""
        key = torch_private.node_key(node)
        known = self._edges.get(key)
        if known is not None and not known.accumulates:
            return known
        fixed: set[tuple[int, ...]] = set()
        other: set[tuple[int, ...]] = set()
        for following, index in node.next_functions:
            shape = None if following is None else torch_private.edge_shape(following, index)
            if shape is not None:
                (fixed if self._leads_to_parameter(following) else other).add(_unordered(shape))
        edges = GradientEdges(frozenset(fixed), frozenset(other), accumulates=hasattr(node, "variable"))
        self._edges[key] = edges
        return edges

    def _leads_to_parameter(self, node: Any) -> bool:
        while True:
            variable = getattr(node, "variable", None)
            if isinstance(variable, torch.Tensor):
                return self.book.key(variable) in self._parameter_keys
            following = [n for n, _ in node.next_functions if n is not None]
            if len(following) != 1 or not str(node.name()).startswith(_SHAPE_ONLY_NODES):
                return False
            node = following[0]


def _unordered(shape: Iterable[int]) -> tuple[int, ...]:
    """Return a shape without order and ones: weight gradients come transposed, biases as a row."""
    return tuple(sorted(int(size) for size in shape if size != 1))
