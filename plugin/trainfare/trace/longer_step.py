"""The step of a long module from those of three short versions of it, which have 2, 3 and 4 of its equal blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Final, TypeVar, cast

import torch

from trainfare.trace import module_facts
from trainfare.trace.ledger import Ledger
from trainfare.trace.live_memory import MemoryChange, moments_of
from trainfare.trace.module_work import ModuleWatch
from trainfare.trace.repetition import Item, NotRepeatedError, extend_rows, extend_sequence, same
from trainfare.trace.step_facts import StepFacts
from trainfare.trace.weighted_sum import MEMORY_SIZES
from trainfare_core.documents import Record
from trainfare_core.job_profile import BlockFacts, MemoryFacts, OptimizerFacts, ParameterGroup

_Record = TypeVar("_Record", bound=Record)


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


def longer_step(
    steps: Sequence[ShortStep], more: int, module: torch.nn.Module, micro_batches: int
) -> StepFacts:
    """
    Return the step of a module of which three short versions were traced.

    Every amount must grow linearly over the three, and every sequence by equal parts; the parameters that follow for
    the whole module must be those that it has.

    Args:
        steps: of the versions: the shortest, with one more piece of equal blocks, and with two more.
        more: pieces of equal blocks that the module has beyond the shortest version.
        module: the whole module.
        micro_batches: forward and backward passes in one optimizer step.

    Raises:
        NotRepeatedError: it does not grow in the same way with each piece.
    """
    facts = [step.facts for step in steps]
    parameters = module_facts.parameter_groups(module)
    expected = extend_rows((_bytes_by_kind(step_facts.parameters) for step_facts in facts), more)
    actual = _bytes_by_kind(parameters)
    if expected != actual:
        raise NotRepeatedError(f"parameters would be {expected}, and are {actual}")
    first, second, third = (step.ledger for step in steps)
    ledger = first.longer(second, third, more)
    operations = ledger.groups(micro_batches, module_facts.list_accumulated_gradients(module.parameters()))
    names = ModuleWatch(module)
    names.find_names()
    gradients = module_facts.gradient_owners(module.parameters(), names.owner)
    return replace(
        same(*(replace(step_facts, **_DIFFERENT) for step_facts in facts)),
        operations=operations,
        modules=ledger.modules(micro_batches, gradients, operations),
        parameters=parameters,
        optimizer=_extend_record([step_facts.optimizer for step_facts in facts], ("state_bytes",), more),
        memory=_mix_memory(steps, ledger, more),
    )


_NO_OPTIMIZER = OptimizerFacts(names=(), state_bytes=0)
_NO_MEMORY = MemoryFacts(saved_activation_bytes=0, gradient_bytes=0)
_DIFFERENT: Final[dict[str, Any]] = {
    "operations": (), "modules": (), "parameters": (), "optimizer": _NO_OPTIMIZER, "memory": _NO_MEMORY,
}  # fmt: skip
"""The fields that differ with the length of a module; all others must be the same."""
_LINEAR_OF_BLOCKS: Final = ("count", "saved_activation_bytes", "input_bytes")


def _bytes_by_kind(parameters: Sequence[ParameterGroup]) -> dict[tuple[str, bool], list[int]]:
    return {(group.dtype, group.trainable): [group.parameter_bytes] for group in parameters}


def _extend_fields(records: Sequence[Record], names: Sequence[str], more: int) -> dict[str, int]:
    rows = extend_rows(({name: (getattr(record, name),) for name in names} for record in records), more)
    return {name: amount for name, (amount,) in rows.items()}


def _extend_record(records: Sequence[_Record], names: Sequence[str], more: int) -> _Record:
    """Return the record of a longer module: these fields grow, all others must be the same."""
    others = same(*(record.model_copy(update=dict.fromkeys(names, 0)) for record in records))
    return others.model_copy(update=_extend_fields(records, names, more))


def _extend_blocks(blocks: Sequence[BlockFacts | None], more: int) -> BlockFacts | None:
    known = [block for block in blocks if block is not None]
    return same(*blocks) if len(known) < len(blocks) else _extend_record(known, _LINEAR_OF_BLOCKS, more)


def _mix_memory(steps: Sequence[ShortStep], ledger: Ledger, more: int) -> MemoryFacts:
    facts = [step.facts.memory for step in steps]
    stretches = [
        [list(stretch) for _, stretch in groupby(step.changes, key=lambda change: change.phase)]
        for step in steps
    ]
    changes: list[MemoryChange] = []
    same(*(len(memory) for memory in stretches))
    for parts in zip(*stretches, strict=True):
        first, second, third = ([Item(change[:-1], change[-1:]) for change in part] for part in parts)
        changes += [
            MemoryChange(*cast("tuple[int, int, bool]", item.key), *item.amounts)
            for item in extend_sequence(first, second, third, more)
        ]
    return MemoryFacts(
        **_extend_fields(facts, MEMORY_SIZES, more),
        blocks=_extend_blocks([memory.blocks for memory in facts], more),
        largest_temporary_bytes=same(*(memory.largest_temporary_bytes for memory in facts)),
        moments=moments_of(changes, ledger.largest_optimizer_temporary_bytes()),
    )
