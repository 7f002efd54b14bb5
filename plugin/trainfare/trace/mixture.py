"""
Steps that differ from each other, as one mean step.

Under manual optimization batches differ in the optimizers that step in them: a critic in every batch and a generator in
each fifth, or one optimizer in each fourth batch. Each kind of batch is traced apart, and the kinds are added by how
many of them an optimizer step has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from trainfare.trace.module_totals import adding_up
from trainfare.trace.step_facts import StepFacts
from trainfare_core.figures import percent
from trainfare_core.job_profile import MemoryFacts, MemoryMoment, OperationGroup

__all__ = ["BatchKind", "KindsOfBatches", "mixed_batches", "mixed_step"]

BatchKind: TypeAlias = tuple[int, ...]
"""The places of the optimizers that step in a batch, in their order; empty where none does."""

MAX_SEQUENCE: Final = 4096
"""Batches whose kind is kept; a chosen value that bounds memory, above any period of optimizers."""
MAX_MOMENTS: Final = 64
MAX_CHARACTERS: Final = 500
"""Both are what a profile holds."""


class KindsOfBatches:
    """The kinds of the batches of a run, in order; one optimizer step ends with a batch in which any steps."""

    def __init__(self) -> None:
        self._sequence: list[BatchKind] = []

    def add(self, kind: BatchKind) -> None:
        """Add the next batch."""
        if len(self._sequence) < MAX_SEQUENCE:
            self._sequence.append(kind)

    def stepped(self, *, since: int = 0) -> set[int]:
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
        rarest = min(counts, key=lambda optimizer: (counts[optimizer], -self._first(optimizer)))
        places = [place for place, kind in enumerate(self._sequence) if rarest in kind]
        if len(places) == 1:
            last = max(place for place, kind in enumerate(self._sequence) if kind)
            return self._sequence[: last + 1]
        return self._sequence[places[0] + 1 : places[-1] + 1]

    def _first(self, optimizer: int) -> int:
        return next(place for place, kind in enumerate(self._sequence) if optimizer in kind)

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


@dataclass(slots=True)
class _Sum:
    launches: float = 0.0
    flops: float = 0.0
    bytes_read: float = 0.0
    bytes_written: float = 0.0
    bytes_fixed: float = 0.0


def mixed_step(parts: Sequence[tuple[StepFacts, float]]) -> StepFacts:
    """
    Return the sum of steps, each times its weight.

    Memory is that of the step that needs most; parameters and optimizer are those of the last part.

    Args:
        parts: at least one step, and how many of it the mean step has.
    """
    if len(parts) == 1 and parts[0][1] == 1.0:
        return parts[0][0]
    last, operations = parts[-1][0], _operations(parts)
    return replace(
        last,
        operations=operations,
        modules=adding_up(((each, weight) for step, weight in parts for each in step.modules), operations),
        memory=_memory([step.memory for step, weight in parts if weight > 0]),
        optimizer_calls=max(step.optimizer_calls for step, _ in parts),
        notes=tuple(dict.fromkeys(note for step, _ in parts for note in step.notes)),
    )


def mixed_batches(
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
    step = mixed_step([*parts, (last, 0.0)])
    said: list[str] = []
    stepping = {kind: count for kind, count in per_step.items() if kind}
    if len(stepping) > 1:
        shares = ", ".join(f"{_names(kind)} in {percent(count)}" for kind, count in sorted(stepping.items()))
        said.append(f"mean of steps in which not all optimizers step: {shares}")
    if missing:
        said.append(
            f"{percent(missing / sum(per_step.values()))} of the batches are left out: none like them was traced"
        )
    said += [f"{name} never stepped in the traced batches: its part is left out" for name in left_out]
    return replace(
        step,
        optimizer_calls=kinds.calls_per_step(),
        batches_per_step=kinds.batches_per_step(),
        differs="; ".join(said)[:MAX_CHARACTERS],
    )


def _names(kind: BatchKind) -> str:
    counts = Counter(kind)
    shown = (f"{place + 1}" + (f" ({times} times)" if times > 1 else "") for place, times in counts.items())
    return f"optimizer{'s' if len(counts) > 1 else ''} {' and '.join(shown)}"


def _operations(parts: Sequence[tuple[StepFacts, float]]) -> tuple[OperationGroup, ...]:
    sums: dict[OperationGroup, _Sum] = {}
    for step, weight in parts:
        for group in step.operations:
            # The key is the group without its amounts.
            key = group.model_copy(update=dict.fromkeys(_AMOUNTS, 0))
            total = sums.setdefault(key, _Sum())
            for name in _AMOUNTS:
                setattr(total, name, getattr(total, name) + weight * getattr(group, name))
    return tuple(_rounded(sums.items()))


_AMOUNTS: Final = ("launches", "flops", "bytes_read", "bytes_written", "bytes_fixed")


def _rounded(sums: Iterable[tuple[OperationGroup, _Sum]]) -> Iterable[OperationGroup]:
    """Round the amounts; what is cut off from the launches of one group is added to the next, so that none is lost."""
    carried = 0.0
    for key, total in sums:
        launches = max(0, round(total.launches + carried))
        carried += total.launches - launches
        read, written = round(total.bytes_read), round(total.bytes_written)
        amounts = {
            "launches": launches,
            "flops": round(total.flops),
            "bytes_read": read,
            "bytes_written": written,
            "bytes_fixed": min(round(total.bytes_fixed), read + written),
        }
        if any(amounts.values()):
            yield key.model_copy(update=amounts)


def _memory(all_parts: Sequence[MemoryFacts]) -> MemoryFacts:
    moments = dict.fromkeys(moment for part in all_parts for moment in part.moments)
    sizes = (
        "saved_activation_bytes",
        "gradient_bytes",
        "buffer_bytes",
        "input_bytes",
        "largest_temporary_bytes",
    )
    return MemoryFacts(
        **{name: max(getattr(part, name) for part in all_parts) for name in sizes},
        moments=tuple(sorted(moments, key=_all_bytes, reverse=True)[:MAX_MOMENTS]),
        blocks=max(all_parts, key=lambda part: part.saved_activation_bytes).blocks,
    )


def _all_bytes(moment: MemoryMoment) -> int:
    return moment.activation_bytes + moment.fixed_bytes + moment.gradient_bytes + moment.optimizer_bytes
