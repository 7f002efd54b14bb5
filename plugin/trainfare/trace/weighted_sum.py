"""
Weighted sums of recorded steps: a mean over phases or kinds of batches, or what follows for more equal blocks.

Rows that agree in their key are added, each amount times the weight of its step; weights may be negative.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final, TypeVar

from trainfare_core.job_profile import MemoryFacts, MemoryMoment, ModuleWork, OperationGroup, Phase

_Key = TypeVar("_Key")
_Number = TypeVar("_Number", int, float)

MAX_MOMENTS: Final = 64
"""What a profile holds."""
_AMOUNTS: Final = ("launches", "flops", "bytes_read", "bytes_written", "bytes_fixed")
MEMORY_SIZES: Final = ("saved_activation_bytes", "gradient_bytes", "buffer_bytes", "input_bytes")


def add_rows(rows: Iterable[tuple[_Key, Sequence[_Number], _Number]]) -> dict[_Key, list[_Number]]:
    """
    Return the weighted sums of amounts by key, in the order in which keys come first.

    Args:
        rows: key, amounts and weight; rows of one key have equally many amounts.

    >>> add_rows([("mm", (1, 10), -1), ("mm", (1, 12), 2)])
    {'mm': [1, 14]}
    """
    sums: dict[_Key, list[_Number]] = {}
    for key, amounts, weight in rows:
        weighted = [weight * amount for amount in amounts]
        before = sums.get(key)
        sums[key] = weighted if before is None else [a + b for a, b in zip(before, weighted, strict=True)]
    return sums


def add_operations(parts: Iterable[tuple[Sequence[OperationGroup], float]]) -> tuple[OperationGroup, ...]:
    """
    Return the operations of a weighted sum of steps, in whole numbers.

    What rounding cuts off from the launches of one group is added to the next, so that none is lost.

    Args:
        parts: operations of a step, and its weight.
    """
    # The key is the group without its amounts.
    sums = add_rows(
        (group.model_copy(update=dict.fromkeys(_AMOUNTS, 0)), amounts_of(group), weight)
        for groups, weight in parts
        for group in groups
    )
    operations: list[OperationGroup] = []
    carried = 0.0
    for key, (exact_launches, *others) in sums.items():
        launches = max(0, round(exact_launches + carried))
        carried += exact_launches - launches
        group = with_amounts(key, (launches, *others))
        if any(amounts_of(group)):
            operations.append(group)
    return tuple(operations)


def amounts_of(group: OperationGroup) -> tuple[int, ...]:
    """Return launches, FLOPs, and bytes read, written and fixed."""
    return tuple(getattr(group, name) for name in _AMOUNTS)


def with_amounts(group: OperationGroup, amounts: Iterable[float]) -> OperationGroup:
    """Return a group with other amounts, rounded, in the order of `amounts_of`."""
    launches, flops, read, written, fixed = map(round, amounts)
    numbers = (launches, flops, read, written, min(fixed, read + written))
    return group.model_copy(update=dict(zip(_AMOUNTS, numbers, strict=True)))


def add_modules(
    parts: Iterable[tuple[Sequence[ModuleWork], float]], operations: Sequence[OperationGroup]
) -> tuple[ModuleWork, ...]:
    """
    Return the work by submodule and phase, scaled so that each phase has the FLOPs and bytes of the operations.

    Args:
        parts: work of the submodules of a step, and its weight.
        operations: of the whole step.
    """
    sums: dict[tuple[Phase, str], list[float]] = add_rows(
        ((work.phase, work.module), (work.flops, work.bytes_moved), weight)
        for modules, weight in parts
        for work in modules
    )
    totals = add_rows((group.phase, (group.flops, group.bytes_moved), 1) for group in operations)
    flops, moved = (
        _share(
            {key: amounts[column] for key, amounts in sums.items()},
            {phase: amounts[column] for phase, amounts in totals.items()},
        )
        for column in range(2)
    )
    return tuple(
        ModuleWork(module=module, phase=phase, flops=flops[phase, module], bytes_moved=size)
        for (phase, module), size in moved.items()
        if size or flops[phase, module]
    )


def _share(amounts: dict[tuple[Phase, str], float], totals: dict[Phase, int]) -> dict[tuple[Phase, str], int]:
    """Scale amounts to the totals of each phase; what rounding cuts off goes to the next one."""
    sums = add_rows((phase, (amount,), 1.0) for (phase, _), amount in amounts.items())
    shares: dict[tuple[Phase, str], int] = {}
    exact: dict[Phase, float] = defaultdict(float)
    given: dict[Phase, int] = defaultdict(int)
    for (phase, module), amount in amounts.items():
        whole = sums[phase][0]
        exact[phase] += amount * totals.get(phase, 0) / whole if whole else 0.0
        shares[phase, module] = max(0, round(exact[phase]) - given[phase])
        given[phase] += shares[phase, module]
    return shares


def largest_memory(memories: Sequence[MemoryFacts]) -> MemoryFacts:
    """Return the memory that suffices for each of several steps: they run one after the other, so peaks do not add."""
    moments = dict.fromkeys(moment for memory in memories for moment in memory.moments)
    return MemoryFacts(
        **{
            name: max(getattr(memory, name) for memory in memories)
            for name in (*MEMORY_SIZES, "largest_temporary_bytes")
        },
        moments=tuple(sorted(moments, key=_all_bytes, reverse=True)[:MAX_MOMENTS]),
        blocks=max(memories, key=lambda memory: memory.saved_activation_bytes).blocks,
    )


def _all_bytes(moment: MemoryMoment) -> int:
    return moment.activation_bytes + moment.fixed_bytes + moment.gradient_bytes + moment.optimizer_bytes
