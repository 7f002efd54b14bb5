"""The step of a long module from those of three short versions of it, which have 2, 3 and 4 of its equal blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Final, NamedTuple, cast

import torch

from trainfare.trace import module_facts
from trainfare.trace.ledger import Ledger
from trainfare.trace.live_memory import MemoryChange, moments_of
from trainfare.trace.module_work import ModuleWatch
from trainfare.trace.repetition import Item, NotRepeatedError, Three, extended, extended_sequence, same
from trainfare.trace.step_facts import StepFacts
from trainfare_core.job_profile import BlockFacts, MemoryFacts, OptimizerFacts, ParameterGroup

__all__ = ["ShortStep", "ThreeSteps", "longer_step"]


@dataclass(frozen=True, slots=True)
class ShortStep:
    """
    The step of a short version of a module.

    Attributes:
        facts: of its step.
        ledger: its operations before they are added up.
        changes: allocations and releases in their order.
    """

    facts: StepFacts
    ledger: Ledger
    changes: Sequence[MemoryChange]


class ThreeSteps(NamedTuple):
    """
    The steps of three versions.

    Attributes:
        first: of the shortest.
        second: with one more piece of equal blocks.
        third: with two more.
    """

    first: ShortStep
    second: ShortStep
    third: ShortStep


def longer_step(steps: ThreeSteps, more: int, module: torch.nn.Module, micro_batches: int) -> StepFacts:
    """
    Return the step of a module of which three short versions were traced.

    Every amount must grow linearly over the three, and every sequence by equal parts; the parameters that follow for
    the whole module must be those that it has.

    Args:
        steps: of the versions.
        more: pieces of equal blocks that the module has beyond the shortest version.
        module: the whole module.
        micro_batches: forward and backward passes in one optimizer step.

    Raises:
        NotRepeatedError: it does not grow in the same way with each piece.
    """
    facts = [step.facts for step in steps]
    parameters = module_facts.parameter_groups(module)
    _check_parameters(
        [{_kind(group): group for group in each.parameters} for each in facts], parameters, more
    )
    whole = same(*(replace(each, **_DIFFERENT) for each in facts))
    optimizer = same(*(each.optimizer.model_copy(update={"state_bytes": 0}) for each in facts))
    state_bytes = extended(Three(*(each.optimizer.state_bytes for each in facts)), more)
    ledger = steps.first.ledger.longer(steps.second.ledger, steps.third.ledger, more)
    operations = ledger.groups(micro_batches, module_facts.accumulated_gradients(module.parameters()))
    names = ModuleWatch(module)
    names.find_names()
    gradients = module_facts.gradient_owners(module.parameters(), names.owner)
    return replace(
        whole,
        operations=operations,
        modules=ledger.modules(micro_batches, gradients, operations),
        parameters=parameters,
        optimizer=optimizer.model_copy(update={"state_bytes": state_bytes}),
        memory=_memory(steps, ledger, more),
    )


_NO_OPTIMIZER = OptimizerFacts(names=(), state_bytes=0)
_NO_MEMORY = MemoryFacts(saved_activation_bytes=0, gradient_bytes=0)
_DIFFERENT: Final[dict[str, Any]] = {
    "operations": (), "modules": (), "parameters": (), "optimizer": _NO_OPTIMIZER, "memory": _NO_MEMORY,
}  # fmt: skip
"""The fields that differ with the length of a module; all others must be the same."""


def _kind(group: ParameterGroup) -> tuple[str, bool]:
    return group.dtype, group.trainable


def _check_parameters(
    short: Sequence[dict[tuple[str, bool], ParameterGroup]], whole: Sequence[ParameterGroup], more: int
) -> None:
    """Check that the parameters that follow for the whole module are those that it has."""
    same(*(set(each) for each in short))
    expected = {
        kind: extended(Three(*(each[kind].parameter_bytes for each in short)), more) for kind in short[0]
    }
    actual = {_kind(group): group.parameter_bytes for group in whole}
    if expected != actual:
        raise NotRepeatedError(f"parameters would be {expected}, and are {actual}")


def _blocks(
    first: BlockFacts | None, second: BlockFacts | None, third: BlockFacts | None, more: int
) -> BlockFacts | None:
    if first is None or second is None or third is None:
        return same(first, second, third)
    counts = ("count", "saved_activation_bytes", "input_bytes")
    linear = {
        name: extended(Three(*(getattr(each, name) for each in (first, second, third))), more)
        for name in counts
    }
    zero: dict[str, Any] = dict.fromkeys(counts, 0)
    return same(*(each.model_copy(update=zero) for each in (first, second, third))).model_copy(update=linear)


def _memory(steps: ThreeSteps, ledger: Ledger, more: int) -> MemoryFacts:
    facts = [step.facts.memory for step in steps]
    linear = ("saved_activation_bytes", "gradient_bytes", "buffer_bytes", "input_bytes")
    sizes = {name: extended(Three(*(getattr(each, name) for each in facts)), more) for name in linear}
    stretches = [
        [list(stretch) for _, stretch in groupby(step.changes, key=lambda change: change.phase)]
        for step in steps
    ]
    changes: list[MemoryChange] = []
    same(*(len(each) for each in stretches))
    for parts in zip(*stretches, strict=True):
        first, second, third = ([Item(change[:-1], change[-1:]) for change in part] for part in parts)
        changes += [
            MemoryChange(*cast("tuple[int, int, bool]", item.key), *item.amounts)
            for item in extended_sequence(first, second, third, more)
        ]
    return MemoryFacts(
        **sizes,
        blocks=_blocks(facts[0].blocks, facts[1].blocks, facts[2].blocks, more),
        largest_temporary_bytes=same(*(each.largest_temporary_bytes for each in facts)),
        moments=moments_of(changes, ledger.largest_optimizer_temporary_bytes()),
    )
