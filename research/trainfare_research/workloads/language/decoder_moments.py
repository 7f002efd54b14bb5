"""Memory peaks of the step of a whole decoder, from traces of models with one and two blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from trainfare_core.job_profile import MemoryFacts, MemoryMoment

_Sizes = NDArray[np.int64]
"""Bytes that some blocks add to a point in time: saved activations, casts, gradients and update, as in `_FIELDS`."""
_FIELDS = ("activation_bytes", "fixed_bytes", "gradient_bytes", "optimizer_bytes")


def change_memory(
    memory: MemoryFacts, change: Callable[[MemoryMoment], dict[str, int]], **sizes: int
) -> MemoryFacts:
    """Return the memory with other sizes, and with those that `change` gives for each of its points in time."""
    moments = tuple(moment.model_copy(update=change(moment)) for moment in memory.moments)
    return memory.model_copy(update={**sizes, "moments": moments})


def with_less_saved(memory: MemoryFacts, less: int) -> MemoryFacts:
    """Return the memory of a step that saves so many bytes of activations less."""

    def at(moment: MemoryMoment) -> dict[str, int]:
        size = moment.activation_bytes
        return {"activation_bytes": size - less if size > less else size}

    return change_memory(memory, at, saved_activation_bytes=memory.saved_activation_bytes - less)


def moments_of_blocks(base: MemoryFacts, more: Sequence[tuple[MemoryFacts, int]]) -> tuple[MemoryMoment, ...]:
    """
    Return the points in time of a step that can be its peak, for a model of many blocks.

    With each block that backward has finished, the activations of one more block are released and its gradients
    allocated. Memory is linear in the number of finished blocks, so the peak is at the first or at the last block.

    Args:
        base: memory of a model with the first block only, with embedding and head.
        more: memory of a model with the first and one other block, and the number of such other blocks.
    """
    added = [_subtract_memory(two, base) for two, _ in more]
    whole = np.zeros(len(_FIELDS), dtype=np.int64)
    for size, (_, count) in zip(added, more, strict=True):
        whole = whole + count * size
    others = [(base, whole), *((two, whole - size) for size, (two, _) in zip(added, more, strict=True))]
    moments: dict[MemoryMoment, None] = {}
    for facts, blocks in others:
        for moment in facts.moments:
            moments |= dict.fromkeys(_ends(moment, blocks))
    return tuple(moments)


def _ends(moment: MemoryMoment, blocks: _Sizes) -> list[MemoryMoment]:
    """Return a point in time with further blocks, before their backward pass and, where possible, after it."""
    if moment.phase == "optimizer":
        return [_plus(moment, blocks * (0, 0, 1, 1))]
    old = moment.phase == "forward" and moment.gradient_bytes > 0
    before = _plus(moment, blocks * (1, 1, int(old), 0))
    after = moment.phase == "backward" and moment.gradient_bytes > 0
    return [before, _plus(moment, blocks * (0, 0, 1, 0))] if after else [before]


def _plus(moment: MemoryMoment, sizes: _Sizes) -> MemoryMoment:
    more = zip(_FIELDS, sizes.tolist(), strict=True)
    return moment.model_copy(update={name: int(getattr(moment, name)) + size for name, size in more})


def _subtract_memory(two: MemoryFacts, base: MemoryFacts) -> _Sizes:
    """Return the bytes that one more block adds to each kind of memory."""

    def highest(facts: MemoryFacts) -> _Sizes:
        def of(phase: str, name: str) -> int:
            return max((int(getattr(m, name)) for m in facts.moments if m.phase == phase), default=0)

        saved, casts = of("forward", "activation_bytes"), of("forward", "fixed_bytes")
        return np.array([saved, casts, facts.gradient_bytes, of("optimizer", "optimizer_bytes")])

    return highest(two) - highest(base)
