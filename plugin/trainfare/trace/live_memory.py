"""The live memory of a recorded step over time, from allocations and releases of storages, and its peaks."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from trainfare.trace.storages import StorageRegistry, storage_bytes
from trainfare_core.job_profile import MemoryMoment, Phase

_PHASES: Final[tuple[Phase, ...]] = ("forward", "backward", "optimizer")
_RATIOS: Final = (0.0, 1 / 16, 1.0, 16.0, 1e6)
"""
Micro-batch sizes, as ratios to the traced one, for which the peak is kept: the batch-independent memory alone (0),
a range around the traced size (16 either way, a chosen value), and activations alone (1e6). More ratios would keep
more instants and make profiles longer.
"""
_GRADIENT_SHARES: Final = (0.0, 1.0)
"""Shares of the gradients held by one device for which the peak is kept: sharded over very many, and whole."""
_TRANSIENT: Final = 0
"""Key of bytes that belong to no storage; the registry numbers storages from 1."""


class MemoryChange(NamedTuple):
    """
    Memory that an operation of the step allocates or that is released after it.

    Attributes:
        column: what it belongs to: 0 scales with the batch, 1 is fixed, 2 are gradients, 3 is the optimizer's update.
        phase: the number of the phase in `_PHASES`.
        released: whether it is released.
        change_bytes: below 0 where it is released.
    """

    column: int
    phase: int
    released: bool
    change_bytes: int


@dataclass(slots=True)
class LiveMemory:
    """
    Follows storages from the operation that allocates them to their release.

    A weak reference to the storage reports its release, for real and fake tensors alike; nothing is kept alive.
    Operations inside a fused call are not recorded; its results are, when another operation uses them.
    """

    registry: StorageRegistry
    _events: list[tuple[int, int, int]] = field(default_factory=list[tuple[int, int, int]])
    _known: set[int] = field(default_factory=set[int])
    _pins: dict[int, int] = field(default_factory=dict[int, int])
    _released: set[int] = field(default_factory=set[int])
    _updates: set[int] = field(default_factory=set[int])
    _phase: int = 0

    def __post_init__(self) -> None:
        self.registry.on_release = self._on_release

    def enter(self, tensors: Iterable[torch.Tensor], phase: Phase) -> None:
        """Record the storages of an operation of forward or backward that are new."""
        self._phase = _PHASES.index(phase)
        for tensor in tensors:
            self._enter_one(tensor)

    def enter_update(
        self, operands: Iterable[torch.Tensor], results: Iterable[torch.Tensor], *, state: bool
    ) -> None:
        """
        Record the storages that an operation of the optimizer allocates.

        Args:
            operands: tensors that it reads, which exist already.
            results: of the operation.
            state: whether the results are optimizer state, which the profile counts in another field.
        """
        self._phase = _PHASES.index("optimizer")
        existing = self.registry.keys(operands)
        self._events.append((_TRANSIENT, 0, self._phase))
        for tensor in results:
            key = self.registry.key(tensor)
            if key in existing or state:
                self._known.add(key)
            elif key not in self._known:
                self._updates.add(key)
                self._enter_one(tensor)

    def _enter_one(self, tensor: torch.Tensor) -> None:
        key = self.registry.key(tensor)
        if key in self._known:
            return
        self._known.add(key)
        if key < 0:
            return  # a sparse tensor, which has no storage of its own
        self._events.append((key, storage_bytes(tensor), self._phase))

    def enter_extra(self, key: int, size: int) -> None:
        """Record bytes that a fused kernel keeps; they stay until `unpin`."""
        self._events.append((key, size, self._phase))
        self._pins[key] = 1
        self._released.add(key)

    def enter_transient(self, size: int) -> None:
        """Record bytes that scale with the batch and are allocated and released at once."""
        self._events += [(_TRANSIENT, size, self._phase), (_TRANSIENT, -size, self._phase)]

    def pin(self, keys: Iterable[int]) -> None:
        """Count storages as live until `unpin`, because the CUDA kernel keeps them even if this machine's does not."""
        for key in keys:
            self._pins[key] = self._pins.get(key, 0) + 1

    def unpin(self, keys: Iterable[int]) -> None:
        """End what `pin` or `enter_extra` began."""
        for key in keys:
            pins = self._pins.get(key, 0)
            if pins > 1:
                self._pins[key] = pins - 1
            elif pins == 1:
                del self._pins[key]
                if key in self._released:
                    self._release(key)

    def _on_release(self, key: int) -> None:
        # Runs on the thread that drops the last reference, whichever that is: it must only append the number.
        if key not in self._known:
            return
        if key in self._pins:
            self._released.add(key)
        else:
            self._release(key)

    def _release(self, key: int) -> None:
        self._released.discard(key)
        self._events.append((key, -1, self._phase))

    def close(self) -> None:
        """Stop following releases."""
        self.registry.on_release = None

    def changes(
        self, elsewhere: Collection[int], gradients: Collection[int], fixed: Collection[int]
    ) -> list[MemoryChange]:
        """
        Return the allocations and releases of the step in their order.

        Args:
            elsewhere: numbers of parameters, buffers and the batch, whose bytes are other fields of the profile: they
                change nothing.
            gradients: numbers of storages that were `.grad` of a parameter at some time.
            fixed: numbers of others that do not scale with the batch, such as weights cast for mixed precision.
        """
        columns = dict.fromkeys(fixed, 1) | dict.fromkeys(gradients, 2)
        columns |= dict.fromkeys(self._updates, 3) | dict.fromkeys(elsewhere, -1)
        sizes: dict[int, int] = {}
        changes: list[MemoryChange] = []
        for key, size, phase in self._events:
            column = columns.get(key, 0)
            if column < 0:
                changes.append(MemoryChange(0, phase, released=False, change_bytes=0))
            elif key == _TRANSIENT:
                changes.append(MemoryChange(0, phase, size < 0, size))
            elif size >= 0:
                sizes[key] = size
                changes.append(MemoryChange(column, phase, released=False, change_bytes=size))
            else:
                changes.append(MemoryChange(column, phase, released=True, change_bytes=-sizes.pop(key, 0)))
        return changes


def moments_of(changes: Sequence[MemoryChange], optimizer_bytes: int) -> tuple[MemoryMoment, ...]:
    """
    Return the instants that can be the peak for some micro-batch size and some sharding of the gradients.

    Args:
        changes: allocations and releases of a step.
        optimizer_bytes: bytes that the update allocates on CUDA; used where that is more than on this machine.
    """
    curve, phases = _curve(changes)
    if not len(phases):
        return ()
    moments: dict[MemoryMoment, None] = {}
    for phase, name in enumerate(_PHASES):
        rows = curve[phases == phase]
        if not len(rows):
            continue
        extra = int(rows[:, 3].max())
        for ratio in _RATIOS:
            for share in _GRADIENT_SHARES:
                weights = np.array([ratio, 1.0, share, 1.0]) + 1e-9
                scaling, constant, held_bytes, update = (int(v) for v in rows[int(np.argmax(rows @ weights))])
                if extra < optimizer_bytes and name == "optimizer":
                    update = optimizer_bytes
                moment = MemoryMoment(
                    phase=name, activation_bytes=scaling, fixed_bytes=constant, gradient_bytes=held_bytes,
                    optimizer_bytes=update,
                )  # fmt: skip
                moments[moment] = None
    return _pareto_front(tuple(moments))


def _curve(changes: Sequence[MemoryChange]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """
    Return the live bytes after each change and the change's phase.

    The bytes have shape (changes, 4), one column each for the four of `MemoryChange.column`.
    """
    table = np.array([(c.column, c.phase, c.change_bytes) for c in changes], dtype=np.int64).reshape(-1, 3)
    change = np.zeros((len(table), 4))
    change[np.arange(len(table)), table[:, 0]] = table[:, 2]
    return np.cumsum(change, axis=0), table[:, 1]


def _pareto_front(moments: tuple[MemoryMoment, ...]) -> tuple[MemoryMoment, ...]:
    """Return the moments that no other moment of the same phase exceeds in all four sizes."""
    sizes = ("activation_bytes", "fixed_bytes", "gradient_bytes", "optimizer_bytes")

    def under(moment: MemoryMoment, other: MemoryMoment) -> bool:
        same_phase = moment is not other and moment.phase == other.phase
        return same_phase and all(getattr(moment, name) <= getattr(other, name) for name in sizes)

    return tuple(moment for moment in moments if not any(under(moment, other) for other in moments))
