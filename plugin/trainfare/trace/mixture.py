"""
Steps that differ from each other, as one mean step.

Under manual optimization batches differ in the optimizers that step in them: a critic in every batch and a generator in
each fifth, or one optimizer in each fourth batch. Each kind of batch is traced apart, and the kinds are added by how
many of them an optimizer step has.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final, TypeAlias

from trainfare.trace.step_facts import StepFacts, add_steps
from trainfare_core.number_format import list_items, percent

BatchKind: TypeAlias = tuple[int, ...]
"""The places of the optimizers that step in a batch, in their order; empty where none does."""

MAX_SEQUENCE: Final = 4096
"""Batches whose kind is kept; a chosen value that bounds memory, above any period of optimizers."""
MANY_GAPS: Final = 2
"""An optimizer that did not step for so many of its longest gaps is taken as not begun, or done. A chosen value: the
end of an epoch can nearly double a gap."""
MAX_CHARACTERS: Final = 500
"""What a profile holds."""


class KindsOfBatches:
    """The kinds of the batches of a run, in order; one optimizer step ends with a batch in which any steps."""

    def __init__(self) -> None:
        self._sequence: list[BatchKind] = []
        self._counts: dict[BatchKind, int] = {}
        self._last: dict[BatchKind, int] = {}
        self._gaps: dict[BatchKind, int] = {}
        self._batches = 0

    def add(self, kind: BatchKind) -> None:
        """Add the next batch."""
        if len(self._sequence) < MAX_SEQUENCE:
            self._sequence.append(kind)
        if kind in self._last:
            self._gaps[kind] = self._batches - self._last[kind]
        self._last[kind] = self._batches
        self._counts[kind] = self._counts.get(kind, 0) + 1
        self._batches += 1

    @property
    def counts(self) -> Mapping[BatchKind, int]:
        """How many batches of each kind there were, the kind that came first before the others."""
        return self._counts

    def may_come(self, kind: BatchKind) -> bool:
        """Return whether the next batch is of a kind that comes again as it came last, or that has come once."""
        return self._batches == self._last[kind] + self._gaps.get(kind, 1)

    def list_stepped(self, *, since: int = 0) -> set[int]:
        """Return the optimizers that have stepped, in all batches or from one on."""
        return {optimizer for kind in self._sequence[since:] for optimizer in kind}

    def fewest_steps(self) -> int:
        """Return how often the optimizer that steps most rarely has stepped, of those that have."""
        counts = Counter(optimizer for kind in self._sequence for optimizer in set(kind))
        return min(counts.values(), default=0)

    def __len__(self) -> int:
        return len(self._sequence)

    def since(self, index: int) -> Sequence[BatchKind]:
        """Return the kinds of the batches from one on."""
        return self._sequence[index:]

    def whole_periods(self) -> Mapping[BatchKind, int]:
        """
        Count the batches of whole periods: up to the last step of the optimizer that steps most rarely.

        They begin after its first step. Where it has stepped once, they are all batches up to the last step of any;
        where it began to step late, or steps no more, they are all batches, as are those of a long run.
        """
        counts = Counter(optimizer for kind in self._sequence for optimizer in set(kind))
        if not counts:
            return {}
        if self._batches > MAX_SEQUENCE:
            return self._counts
        rarest = min(counts, key=lambda optimizer: (counts[optimizer], -self._indexes(optimizer)[0]))
        indexes = self._indexes(rarest)
        if len(indexes) == 1:
            last = max(index for index, kind in enumerate(self._sequence) if kind)
            return Counter(self._sequence[: last + 1])
        longest = max(after - before for before, after in itertools.pairwise(indexes))
        if max(indexes[0], len(self._sequence) - 1 - indexes[-1]) > MANY_GAPS * longest:
            return self._counts
        return Counter(self._sequence[indexes[0] + 1 : indexes[-1] + 1])

    def _indexes(self, optimizer: int) -> list[int]:
        return [index for index, kind in enumerate(self._sequence) if optimizer in kind]

    def per_step(self) -> dict[BatchKind, float]:
        """Return how many batches of each kind one optimizer step has; empty before the first step."""
        counts = self.whole_periods()
        steps = sum(count for kind, count in counts.items() if kind)
        return {kind: count / steps for kind, count in counts.items()} if steps else {}

    def batches_per_step(self) -> float:
        """Return the batches of one optimizer step; 1 before the first step."""
        return sum(self.per_step().values()) or 1.0

    def calls_per_step(self) -> float:
        """Return how often an optimizer steps in one optimizer step; 1 before the first step."""
        return sum(len(kind) * count for kind, count in self.per_step().items()) or 1.0


def mix_batches(
    kinds: KindsOfBatches, traced: Mapping[BatchKind, StepFacts], left_out: Sequence[str]
) -> StepFacts:
    """
    Return the mean step of a run under manual optimization.

    Args:
        kinds: of the batches that were seen; at least one has an optimizer that steps.
        traced: one batch of each kind, as far as one was traced; at least one.
        left_out: names of optimizers that did not step in any traced batch.
    """
    per_step = kinds.per_step()
    last = list(traced.values())[-1]
    parts = [(traced[_find_nearest(kind, traced)], count) for kind, count in per_step.items()]
    missing = sum(count for kind, count in per_step.items() if kind not in traced)
    step = add_steps([*parts, (last, 0.0)])
    sentences: list[str] = []
    stepping = {kind: count for kind, count in per_step.items() if kind}
    if len(stepping) > 1:
        shares = ", ".join(
            f"{_format_names(kind)} in {percent(count)}" for kind, count in sorted(stepping.items())
        )
        sentences.append(f"mean of steps in which not all optimizers step: {shares}")
    if missing:
        share = percent(missing / sum(per_step.values()))
        sentences.append(f"{share} of the batches were not traced and count as those most like them")
    sentences += dict.fromkeys(part.differs for part in traced.values() if part.differs)
    sentences += [f"{name} never stepped in the traced batches: its part is left out" for name in left_out]
    return replace(
        step,
        optimizer_calls=kinds.calls_per_step(),
        batches_per_step=kinds.batches_per_step(),
        differs=list_items(sentences, MAX_CHARACTERS, separator="; "),
    )


def _find_nearest(kind: BatchKind, traced: Mapping[BatchKind, StepFacts]) -> BatchKind:
    """Return the traced kind that shares most steps of optimizers, and of several the one with the fewest others."""
    shared = {other: (Counter(kind) & Counter(other)).total() for other in traced}
    return max(traced, key=lambda other: (shared[other], -len(other)))


def flops_per_step(counts: Mapping[BatchKind, float], traced: Mapping[BatchKind, StepFacts]) -> float:
    """Return the FLOPs of so many batches of each kind over the steps that they make; 0 where they make none."""
    steps = sum(count for kind, count in counts.items() if kind)
    flops = sum(count * traced[_find_nearest(kind, traced)].flops for kind, count in counts.items())
    return flops / steps if steps else 0.0


def _format_names(kind: BatchKind) -> str:
    counts = Counter(kind)
    shown = (
        f"{optimizer + 1}" + (f" ({times} times)" if times > 1 else "") for optimizer, times in counts.items()
    )
    return f"optimizer{'s' if len(counts) > 1 else ''} {' and '.join(shown)}"
