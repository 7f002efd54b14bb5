"""
Steps that differ from each other, as one mean step.

Under manual optimization batches differ in the optimizers that step in them: a critic in every batch and a generator in
each fifth, or one optimizer in each fourth batch. Each kind of batch is traced apart, and the kinds are added by how
many of them an optimizer step has.
"""

from __future__ import annotations

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
MAX_CHARACTERS: Final = 500
"""What a profile holds."""


class KindsOfBatches:
    """The kinds of the batches of a run, in order; one optimizer step ends with a batch in which any steps."""

    def __init__(self) -> None:
        self._sequence: list[BatchKind] = []

    def add(self, kind: BatchKind) -> None:
        """Add the next batch."""
        if len(self._sequence) < MAX_SEQUENCE:
            self._sequence.append(kind)

    def list_stepped(self, *, since: int = 0) -> set[int]:
        """Return the optimizers that have stepped, in all batches or from one on."""
        return {optimizer for kind in self._sequence[since:] for optimizer in kind}

    def fewest_steps(self) -> int:
        """Return how often the optimizer that steps most rarely has stepped, of those that have."""
        counts = Counter(optimizer for kind in self._sequence for optimizer in set(kind))
        return min(counts.values(), default=0)

    def __len__(self) -> int:
        return len(self._sequence)

    def whole_periods(self) -> Sequence[BatchKind]:
        """
        Return the batches of whole periods: up to the last step of the optimizer that steps most rarely.

        They begin after its first step. Where it has stepped once, they are all batches up to the last step of any.
        """
        counts = Counter(optimizer for kind in self._sequence for optimizer in set(kind))
        if not counts:
            return ()
        rarest = min(counts, key=lambda optimizer: (counts[optimizer], -self._indexes(optimizer)[0]))
        indexes = self._indexes(rarest)
        if len(indexes) == 1:
            last = max(index for index, kind in enumerate(self._sequence) if kind)
            return self._sequence[: last + 1]
        return self._sequence[indexes[0] + 1 : indexes[-1] + 1]

    def _indexes(self, optimizer: int) -> list[int]:
        return [index for index, kind in enumerate(self._sequence) if optimizer in kind]

    def per_step(self) -> dict[BatchKind, float]:
        """Return how many batches of each kind one optimizer step has; empty before the first step."""
        batches = self.whole_periods()
        steps = sum(1 for kind in batches if kind)
        return {kind: count / steps for kind, count in Counter(batches).items()} if steps else {}

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
    parts = [(traced[kind], count) for kind, count in per_step.items() if kind in traced]
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
        sentences.append(
            f"{percent(missing / sum(per_step.values()))} of the batches are left out: none like them was traced"
        )
    sentences += [f"{name} never stepped in the traced batches: its part is left out" for name in left_out]
    return replace(
        step,
        optimizer_calls=kinds.calls_per_step(),
        batches_per_step=kinds.batches_per_step(),
        differs=list_items(sentences, MAX_CHARACTERS, separator="; "),
    )


def _format_names(kind: BatchKind) -> str:
    counts = Counter(kind)
    shown = (
        f"{optimizer + 1}" + (f" ({times} times)" if times > 1 else "") for optimizer, times in counts.items()
    )
    return f"optimizer{'s' if len(counts) > 1 else ''} {' and '.join(shown)}"
