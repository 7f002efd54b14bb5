"""The work by submodule of a step whose operations were scaled or mixed: the parts add up to the operations again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from trainfare_core.job_profile import ModuleWork, OperationGroup, Phase

__all__ = ["adding_up"]


def adding_up(
    parts: Iterable[tuple[ModuleWork, float]], operations: Sequence[OperationGroup]
) -> tuple[ModuleWork, ...]:
    """
    Return the work by submodule and phase, scaled so that each phase has the FLOPs and bytes of the operations.

    Args:
        parts: work of submodules, and how much of it counts.
        operations: of the whole step.
    """
    flops: dict[tuple[Phase, str], float] = defaultdict(float)
    moved: dict[tuple[Phase, str], float] = defaultdict(float)
    for work, weight in parts:
        flops[work.phase, work.module] += weight * work.flops
        moved[work.phase, work.module] += weight * work.bytes_moved
    wanted_flops: dict[Phase, int] = defaultdict(int)
    wanted_bytes: dict[Phase, int] = defaultdict(int)
    for group in operations:
        wanted_flops[group.phase] += group.flops
        wanted_bytes[group.phase] += group.bytes_moved
    whole_flops, whole_bytes = _shared(flops, wanted_flops), _shared(moved, wanted_bytes)
    return tuple(
        ModuleWork(module=module, phase=phase, flops=whole_flops[phase, module], bytes_moved=size)
        for (phase, module), size in whole_bytes.items()
        if size or whole_flops[phase, module]
    )


def _shared(
    amounts: dict[tuple[Phase, str], float], wanted: dict[Phase, int]
) -> dict[tuple[Phase, str], int]:
    """Scale amounts to the sums wanted of each phase; what rounding cuts off goes to the next one."""
    sums: dict[Phase, float] = defaultdict(float)
    for (phase, _), amount in amounts.items():
        sums[phase] += amount
    found: dict[tuple[Phase, str], int] = {}
    exact: dict[Phase, float] = defaultdict(float)
    given: dict[Phase, int] = defaultdict(int)
    for (phase, module), amount in amounts.items():
        exact[phase] += amount * wanted[phase] / sums[phase] if sums[phase] else 0.0
        found[phase, module] = max(0, round(exact[phase]) - given[phase])
        given[phase] += found[phase, module]
    return found
