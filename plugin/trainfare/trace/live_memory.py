"""The live memory of a watched step, from the births and releases of storages, and its highest instants."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from trainfare.trace.storages import StorageBook, storage_bytes
from trainfare_core.job_profile import MemoryMoment, Phase

__all__ = ["LiveMemory", "StorageClasses"]

_PHASES: Final[tuple[Phase, ...]] = ("forward", "backward", "optimizer")
_RATIOS: Final = (0.0, 1 / 16, 1.0, 16.0, 1e6)
"""Micro-batches, over the traced one, whose highest instant is kept."""
_GRADIENT_SHARES: Final = (0.0, 1.0)
"""Shares of the gradients on one device, likewise: sharded over very many, and whole."""
_PULSE: Final = 0


@dataclass(frozen=True, slots=True)
class StorageClasses:
    """
    Which storages, by number, are what. Those that are none of it scale with the batch.

    Attributes:
        elsewhere: parameters, buffers and the batch, which are counted elsewhere.
        gradients: what was `.grad` of a parameter at some time.
        fixed: whatever else does not scale with the batch, such as weights cast for mixed precision.
    """

    elsewhere: Collection[int]
    gradients: Collection[int]
    fixed: Collection[int]


@dataclass(slots=True)
class LiveMemory:
    """
    Follows storages from the operation that makes them to their real release.

    A release is seen by a weak reference to the storage, on real and on fake tensors alike; nothing is kept alive.
    What runs inside a fused call is not entered: its results are, as soon as another operation touches them.
    """

    book: StorageBook
    _events: list[tuple[int, int, int]] = field(default_factory=list[tuple[int, int, int]])
    _known: set[int] = field(default_factory=set[int])
    _pins: dict[int, int] = field(default_factory=dict[int, int])
    _released: set[int] = field(default_factory=set[int])
    _updates: set[int] = field(default_factory=set[int])
    _phase: int = 0

    def __post_init__(self) -> None:
        self.book.on_release = self._gone

    def enter(self, tensors: Iterable[torch.Tensor], phase: Phase) -> None:
        """Enter the storages of forward and backward that were not seen before."""
        self._phase = _PHASES.index(phase)
        for tensor in tensors:
            self._enter_one(tensor)

    def enter_update(
        self, operands: Iterable[torch.Tensor], results: Iterable[torch.Tensor], *, state: bool
    ) -> None:
        """
        Enter what an operation of the optimizer makes.

        Args:
            operands: what it reads, which is there already.
            results: of the operation.
            state: whether they stay for the next step, and are counted elsewhere.
        """
        self._phase = _PHASES.index("optimizer")
        had = self.book.keys(operands)
        self._events.append((_PULSE, 0, self._phase))
        for tensor in results:
            key = self.book.key(tensor)
            if key in had or state:
                self._known.add(key)
            elif key not in self._known:
                self._updates.add(key)
                self._enter_one(tensor)

    def _enter_one(self, tensor: torch.Tensor) -> None:
        key = self.book.key(tensor)
        if key in self._known:
            return
        self._known.add(key)
        if key < 0:
            return  # a sparse tensor, which has no storage of its own
        self._events.append((key, storage_bytes(tensor), self._phase))

    def enter_extra(self, key: int, size: int) -> None:
        """Enter bytes that a fused kernel keeps; they stay until `unpin`."""
        self._events.append((key, size, self._phase))
        self._pins[key] = 1
        self._released.add(key)

    def pulse(self, size: int) -> None:
        """Say that so many bytes, which scale with the batch, are there for an instant."""
        self._events += [(_PULSE, size, self._phase), (_PULSE, -size, self._phase)]

    def pin(self, keys: Iterable[int]) -> None:
        """Keep storages that CUDA's kernel would keep, whatever this machine's does, until `unpin`."""
        for key in keys:
            self._pins[key] = self._pins.get(key, 0) + 1

    def unpin(self, keys: Iterable[int]) -> None:
        """Let storages go that `pin` or `enter_extra` kept."""
        for key in keys:
            pins = self._pins.get(key, 0)
            if pins > 1:
                self._pins[key] = pins - 1
            elif pins == 1:
                del self._pins[key]
                if key in self._released:
                    self._release(key)

    def _gone(self, key: int) -> None:
        # Runs wherever the last reference goes, on any thread: it only notes the number.
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
        """Follow nothing any more."""
        self.book.on_release = None

    def moments(self, classes: StorageClasses, optimizer_bytes: int) -> tuple[MemoryMoment, ...]:
        """
        Return the instants that can be the peak, for some micro-batch and some sharding of the gradients.

        Args:
            classes: what the storages turned out to be.
            optimizer_bytes: what the update allocates on CUDA, where that is more than here.
        """
        curve, phases = self._curve(classes)
        if not len(phases):
            return ()
        found: dict[MemoryMoment, None] = {}
        for phase, name in enumerate(_PHASES):
            rows = curve[phases == phase]
            if not len(rows):
                continue
            extra = int(rows[:, 3].max())
            for ratio in _RATIOS:
                for share in _GRADIENT_SHARES:
                    weights = np.array([ratio, 1.0, share, 1.0]) + 1e-9
                    scaling, fixed, gradients, update = (int(v) for v in rows[int(np.argmax(rows @ weights))])
                    if extra < optimizer_bytes and name == "optimizer":
                        update = optimizer_bytes
                    moment = MemoryMoment(
                        phase=name, activation_bytes=scaling, fixed_bytes=fixed, gradient_bytes=gradients,
                        optimizer_bytes=update,
                    )  # fmt: skip
                    found[moment] = None
        return _undominated(tuple(found))

    def _curve(self, classes: StorageClasses) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return bytes alive after each event, (events, 4): scaling, fixed, gradients, the update's; and its phase."""
        columns = dict.fromkeys(classes.fixed, 1)
        columns |= dict.fromkeys(classes.gradients, 2)
        columns |= dict.fromkeys(self._updates, 3)
        columns |= dict.fromkeys(classes.elsewhere, -1)
        change = np.zeros((len(self._events), 4))
        sizes: dict[int, int] = {}
        for row, (key, size, _) in enumerate(self._events):
            column = columns.get(key, 0)
            if column < 0:
                continue
            if key == _PULSE:
                change[row, 0] = size
            elif size >= 0:
                sizes[key] = size
                change[row, column] = size
            else:
                change[row, column] = -sizes.pop(key, 0)
        return np.cumsum(change, axis=0), np.array([phase for _, _, phase in self._events], dtype=np.int64)


def _undominated(moments: tuple[MemoryMoment, ...]) -> tuple[MemoryMoment, ...]:
    """Return the moments that no other of their phase holds more than, in every respect."""

    def under(one: MemoryMoment, other: MemoryMoment) -> bool:
        return (
            one is not other
            and one.phase == other.phase
            and one.activation_bytes <= other.activation_bytes
            and one.fixed_bytes <= other.fixed_bytes
            and one.gradient_bytes <= other.gradient_bytes
            and one.optimizer_bytes <= other.optimizer_bytes
        )

    return tuple(one for one in moments if not any(under(one, other) for other in moments))
