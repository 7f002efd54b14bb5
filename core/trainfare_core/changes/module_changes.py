"""Which submodules account for a change of the model: FLOPs and bytes of base and head by module, adding up."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

from trainfare_core.changes.cost_change import ModuleChange
from trainfare_core.job_profile import JobProfile

LISTED: Final = 4
"""Modules to name; a chosen value: what a reader takes in at once. The others are added up."""
_SAME: Final = 0.01
"""Relative difference up to which two ratios of head to base are the same: a loss or a norm that does not scale with
the blocks around it is far above."""


@dataclass(slots=True)
class _Part:
    """A module with its submodules: base FLOPs, head FLOPs, base bytes, head bytes of a sample, its own and in all."""

    own: list[float] = field(default_factory=lambda: [0.0] * 4)
    total: list[float] = field(default_factory=lambda: [0.0] * 4)
    children: dict[str, _Part] = field(default_factory=dict["str", "_Part"])


def module_changes(base: JobProfile, head: JobProfile) -> tuple[ModuleChange, ...]:
    """
    Return the modules that changed most, largest change first, and then the others together.

    A module stands for all its submodules where these changed alike, as all do when blocks are added. The changes
    add up to the difference of the profiles, per sample where both batches are known, else per optimizer step.

    Returns:
        Nothing where one of the profiles does not know its modules.
    """
    if not (base.modules and head.modules):
        return ()
    known = bool(base.batch.samples_per_step and head.batch.samples_per_step)
    root = _Part()
    for side, profile in enumerate((base, head)):
        samples = (profile.batch.samples_per_step or 1) if known else 1
        for work in profile.modules:
            parts = [root]
            for name in work.module.split(".") if work.module else ():
                parts.append(parts[-1].children.setdefault(name, _Part()))
            for index, amount in ((side, work.flops / samples), (side + 2, work.bytes_moved / samples)):
                parts[-1].own[index] += amount
                for part in parts:
                    part.total[index] += amount
    changed_modules = [
        (name, amounts) for name, amounts in _split("", root) if _size(amounts, root.total) > 0
    ]
    changed_modules.sort(key=lambda change: (-_size(change[1], root.total), change[0]))
    # One more is named rather than called "others".
    listed = changed_modules if len(changed_modules) <= LISTED + 1 else changed_modules[:LISTED]
    changes = [_change(name, amounts) for name, amounts in listed]
    rest = [amounts for _, amounts in changed_modules[len(listed) :]]
    if rest:
        changes.append(_change(None, [sum(amounts_each) for amounts_each in zip(*rest, strict=True)]))
    return tuple(changes)


def _split(name: str, part: _Part) -> list[tuple[str, list[float]]]:
    """Return the largest modules within a part that changed as one, with their amounts."""
    if not part.children or (name and _is_alike(part, part.total)):
        return [(name, part.total)]
    changes = [(name, part.own)]
    for child, inner in part.children.items():
        changes += _split(f"{name}.{child}" if name else child, inner)
    return changes


def _is_alike(part: _Part, like: list[float]) -> bool:
    """Whether a module and all its submodules grew by the same factors."""
    same = all(_factor_is(part.own[start : start + 2], like[start : start + 2]) for start in (0, 2))
    return same and all(_is_alike(child, like) for child in part.children.values())


def _factor_is(amounts: list[float], like: list[float]) -> bool:
    if not any(amounts):
        return True
    if not (all(amounts) and all(like)):
        return [bool(amount) for amount in amounts] == [bool(amount) for amount in like]
    return math.isclose(amounts[1] / amounts[0], like[1] / like[0], rel_tol=_SAME)


def _size(amounts: list[float], total: list[float]) -> float:
    """Return how large a change is: FLOPs and bytes each as a share of the larger side's."""
    return sum(
        abs(amounts[index + 1] - amounts[index]) / max(*total[index : index + 2], 1.0) for index in (0, 2)
    )


def _change(name: str | None, amounts: list[float]) -> ModuleChange:
    return ModuleChange(
        module=name,
        base_flops=amounts[0],
        head_flops=amounts[1],
        base_bytes=amounts[2],
        head_bytes=amounts[3],
    )
