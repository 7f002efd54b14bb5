"""Bytes that an operation reads and writes, by storage; storages are numbered for the length of one step."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast

import torch

from trainfare.trace import torch_private
from trainfare.trace.kinds import TRAITS
from trainfare_core.job_profile import SPARSE_TENSOR

MAKES_SPARSE: Final = SPARSE_TENSOR.removeprefix("aten.")
"""`SPARSE_TENSOR` without its namespace."""


def tensors_in(value: Any) -> list[torch.Tensor]:
    """Return the tensors inside nested lists, tuples and dicts, in order."""
    if isinstance(value, torch.Tensor):
        return [value]
    tensors: list[torch.Tensor] = []
    if isinstance(value, (list, tuple)):
        for item in cast("Iterable[Any]", value):
            tensors += tensors_in(item)
    elif isinstance(value, dict):
        for item in cast("Any", value).values():
            tensors += tensors_in(item)
    return tensors


def tensor_bytes(tensor: torch.Tensor) -> int:
    """
    Return the bytes of a tensor's distinct elements.

    An expanded dimension counts once; a sparse tensor counts its stored parts.
    """
    if tensor.layout is not torch.strided:
        return _sparse_bytes(tensor)
    count = 1
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        if stride != 0 or size == 0:
            count *= int(size)
    return count * tensor.element_size()


def _sparse_bytes(tensor: torch.Tensor) -> int:
    parts: list[torch.Tensor]
    if tensor.layout is torch.sparse_coo:
        parts = torch_private.list_stored_parts(tensor)
    elif tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        parts = [tensor.crow_indices(), tensor.col_indices(), tensor.values()]
    elif tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
        parts = [tensor.ccol_indices(), tensor.row_indices(), tensor.values()]
    else:
        return int(tensor.numel()) * tensor.element_size()
    return sum(int(part.numel()) * part.element_size() for part in parts)


def storage_bytes(tensor: torch.Tensor) -> int:
    """Return the bytes of the storage behind a tensor; for a sparse tensor, which has none, the tensor's bytes."""
    try:
        return int(tensor.untyped_storage().nbytes())
    # torch raises NotImplementedError for a sparse tensor, RuntimeError for one of another backend without storage.
    except (RuntimeError, NotImplementedError):
        return tensor_bytes(tensor)


class _StorageRef(weakref.ref[Any]):
    """A weak reference with the number and address of its storage."""

    __slots__ = ("address", "number")
    address: int
    number: int


@dataclass(slots=True)
class StorageRegistry:
    """
    Gives each storage of a step a number of its own.

    A weak reference to each storage reports the release of its memory, after which another storage may get the same
    address and must get another number. The reference is to torch's Python object of the storage, which lives as
    long as the memory; `StorageWeakRef`, torch's reference to the storage itself, would hide the release on torch 2.8.

    Attributes:
        on_release: called with the number of a released storage, on the thread that released it.
    """

    on_release: Callable[[int], None] | None = None
    _numbers: dict[int, int] = field(default_factory=dict[int, int])
    _refs: dict[int, _StorageRef] = field(default_factory=dict[int, _StorageRef])
    _held: dict[int, torch.Tensor] = field(default_factory=dict[int, torch.Tensor])
    _count: int = 0

    def key(self, tensor: torch.Tensor) -> int:
        """Return the storage's number, above 0; for a sparse tensor, which has no storage, a number below 0."""
        try:
            storage = tensor.untyped_storage()
            address = torch_private.storage_address(storage)
        # No storage, as in `storage_bytes`. Holding the tensor keeps its id from being given to another one.
        except (RuntimeError, NotImplementedError):
            self._held.setdefault(-id(tensor), tensor)
            return -id(tensor)
        known = self._numbers.get(address)
        if known is not None:
            return known
        self._count += 1
        ref = _StorageRef(storage, self._on_release)
        ref.address, ref.number = address, self._count
        self._numbers[address], self._refs[self._count] = self._count, ref
        return self._count

    def _on_release(self, ref: weakref.ref[Any]) -> None:
        gone = cast("_StorageRef", ref)
        self._refs.pop(gone.number, None)
        if self._numbers.get(gone.address) == gone.number:
            del self._numbers[gone.address]
        if self.on_release is not None:
            self.on_release(gone.number)

    def keys(self, tensors: Iterable[torch.Tensor]) -> set[int]:
        """Return the numbers of several tensors' storages."""
        return {self.key(tensor) for tensor in tensors}

    def size_tensors(self, tensors: Iterable[torch.Tensor]) -> tuple[tuple[int, int], ...]:
        """Return the storage number and the bytes of each tensor."""
        return tuple((self.key(tensor), tensor_bytes(tensor)) for tensor in tensors)


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes that one operation moves, as (storage number, bytes) for each operand and result."""

    read: tuple[tuple[int, int], ...]
    written: tuple[tuple[int, int], ...]

    @property
    def bytes_read(self) -> int:
        """Bytes read from all operands."""
        return sum(size for _, size in self.read)

    @property
    def bytes_written(self) -> int:
        """Bytes written to all results."""
        return sum(size for _, size in self.written)


def traffic(
    name: str,
    func: Any,
    args: Sequence[Any],
    operands: Sequence[torch.Tensor],
    results: Sequence[torch.Tensor],
    registry: StorageRegistry,
) -> Traffic:
    """
    Return the bytes that an operation reads and writes.

    Look-ups read the rows that they return, or add up, and not the table. Scatters, and the addition of a sparse
    gradient, read and write the rows that they change. `copy_` and fills do not read what they overwrite, and
    `zeros_like` not what it is like. Making a sparse tensor of its parts moves nothing.

    Args:
        name: the operation without its namespace.
        func: the `OpOverload`, for its schema.
        args: as dispatched, without those given by name.
        operands: all tensors among its arguments.
        results: all tensors in its result.
        registry: numbers the storages.
    """
    if name.startswith(MAKES_SPARSE):
        return Traffic((), ())
    sources = registry.size_tensors(operands)
    sinks = registry.size_tensors(results or _list_changed_operands(func, args))
    trait = TRAITS.get(name)
    if trait == "gathers" and sinks and sources:
        rows = _rows_of_bags(args) if name.startswith("_embedding_bag") else sinks[0][1]
        return Traffic(_distinct([(sources[0][0], rows), *sources[1:]]), _distinct(sinks))
    if len(sources) > 1 and (trait == "scatters" or _adds_sparse(name, args)):
        rows = min(max(size for _, size in sources[1:]), sources[0][1])
        return Traffic(_distinct([(sources[0][0], rows), *sources[1:]]), ((sources[0][0], rows),))
    if trait in ("writes only", "sizes only"):
        sources = sources[1:]
    return Traffic(_distinct(sources), _distinct(sinks))


def _rows_of_bags(args: Sequence[Any]) -> int:
    """Return the bytes of the rows that an embedding bag adds up: one for each index."""
    table: torch.Tensor = args[0]
    indices: torch.Tensor = args[1]
    return int(indices.numel()) * int(table.shape[1]) * int(table.element_size())


def _adds_sparse(name: str, args: Sequence[Any]) -> bool:
    """Return whether a sparse tensor is added to a dense one in place, which updates a few rows of a table."""
    if name not in {"add_", "sub_"}:
        return False
    changed, added = (*args, None)[:2]
    return (
        isinstance(changed, torch.Tensor)
        and changed.layout is torch.strided
        and isinstance(added, torch.Tensor)
        and added.layout is not torch.strided
    )


def _list_changed_operands(func: Any, args: Sequence[Any]) -> list[torch.Tensor]:
    """Return the operands that an operation without results changes, such as the first list of `_foreach_add_`."""
    schema = getattr(func, "_schema", None)
    if schema is None or not schema.is_mutable:
        return []
    changed: list[torch.Tensor] = []
    for argument, value in zip(schema.arguments, args, strict=False):
        # Fused optimizers declare gradients as written because they can unscale them; without a scaler they only
        # read them.
        if argument.alias_info is not None and argument.alias_info.is_write and argument.name != "grads":
            changed += tensors_in(value)
    return changed


def looks_up(name: str) -> bool:
    """Return whether an operation reads or writes only indexed rows of its first operand."""
    return TRAITS.get(name) in ("gathers", "scatters")


def _distinct(items: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    return tuple(dict.fromkeys(items))
