"""Memory peaks of the step of a whole decoder, from traces of models with one and two blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trainfare_core.job_profile import MemoryFacts, MemoryMoment

__all__ = ["moments_of_blocks"]


@dataclass(frozen=True)
class _Blocks:
    """Bytes that some blocks add to the points in time of a step."""

    saved: int
    casts: int
    gradients: int
    update: int

    def times(self, count: int) -> _Blocks:
        return _Blocks(*(count * n for n in (self.saved, self.casts, self.gradients, self.update)))

    def plus(self, other: _Blocks) -> _Blocks:
        return _Blocks(
            self.saved + other.saved, self.casts + other.casts, self.gradients + other.gradients,
            self.update + other.update,
        )  # fmt: skip


def moments_of_blocks(base: MemoryFacts, more: Sequence[tuple[MemoryFacts, int]]) -> tuple[MemoryMoment, ...]:
    """
    Return the points in time of a step that can be its peak, for a model of many blocks.

    With each block that backward has finished, the activations of one more block are released and its gradients
    allocated. Memory is linear in the number of finished blocks, so the peak is at the first or at the last block.

    Args:
        base: memory of a model with the first block only, with embedding and head.
        more: memory of a model with the first and one other block, and the number of such other blocks.
    """
    added = [_difference(two, base) for two, _ in more]
    whole = _Blocks(0, 0, 0, 0)
    for one, (_, count) in zip(added, more, strict=True):
        whole = whole.plus(one.times(count))
    found: dict[MemoryMoment, None] = {}
    for moment in base.moments:
        found |= dict.fromkeys(_ends(moment, whole))
    for one, (two, _) in zip(added, more, strict=True):
        for moment in two.moments:
            found |= dict.fromkeys(_ends(moment, whole.plus(one.times(-1))))
    return tuple(found)


def _ends(moment: MemoryMoment, blocks: _Blocks) -> list[MemoryMoment]:
    """Return a point in time with further blocks, before their backward pass and, where possible, after it."""
    if moment.phase == "optimizer":
        return [_plus(moment, gradients=blocks.gradients, update=blocks.update)]
    old = moment.phase == "forward" and moment.gradient_bytes > 0
    before = _plus(moment, saved=blocks.saved, casts=blocks.casts, gradients=blocks.gradients if old else 0)
    after = moment.phase == "backward" and moment.gradient_bytes > 0
    return [before, _plus(moment, gradients=blocks.gradients)] if after else [before]


def _plus(
    moment: MemoryMoment, *, saved: int = 0, casts: int = 0, gradients: int = 0, update: int = 0
) -> MemoryMoment:
    return MemoryMoment(
        phase=moment.phase,
        activation_bytes=moment.activation_bytes + saved,
        fixed_bytes=moment.fixed_bytes + casts,
        gradient_bytes=moment.gradient_bytes + gradients,
        optimizer_bytes=moment.optimizer_bytes + update,
    )


def _difference(two: MemoryFacts, base: MemoryFacts) -> _Blocks:
    """Return the bytes that one more block adds to each kind of memory."""

    def more(phase: str, name: str) -> int:
        highest = (
            max((int(getattr(m, name)) for m in facts.moments if m.phase == phase), default=0)
            for facts in (two, base)
        )
        return next(highest) - next(highest)

    return _Blocks(
        saved=more("forward", "activation_bytes"),
        casts=more("forward", "fixed_bytes"),
        gradients=two.gradient_bytes - base.gradient_bytes,
        update=more("optimizer", "optimizer_bytes"),
    )
