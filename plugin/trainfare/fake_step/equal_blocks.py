"""Find the equal blocks of a module, such as the layers of a transformer, and give it fewer of them for a while."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Generator, Hashable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, cast

import torch
from torch import Tensor, nn

from trainfare.fake_step.module_parts import HOOKS, buffers_of, children_of, parameters_of
from trainfare.trace import torch_private
from trainfare.trace.modes import OperationMode
from trainfare.trace.repetition import Item

SHORTEST: Final = 2
"""Pieces in the shortest version of a module: the first and the last differ where the first one's input needs no
gradient, and all between are equal."""
_LONGEST_PIECE: Final = 8
"""Blocks of different kinds that may alternate, e.g. five of local attention and one of global attention. Chosen."""
WORTHWHILE: Final = 0.5
"""Three short versions may have at most this share of the whole module's submodules together: chosen, as the whole
module takes a forward besides, and a step that cannot be extrapolated is traced in vain."""
_PLAIN: Final = (bool, int, float, str, type(None))


@dataclass(frozen=True, slots=True)
class EqualBlocks:
    """
    Pieces of equal blocks that follow each other in a list of a module.

    Attributes:
        place: dotted name of the list.
        start: index of the first block.
        period: blocks in one piece; above 1 where kinds of blocks alternate.
        pieces: how many pieces there are.
    """

    place: str
    start: int
    period: int
    pieces: int


def equal_blocks(module: nn.Module, worthwhile: float = WORTHWHILE) -> EqualBlocks | None:
    """
    Return the equal blocks of which a module has most, or None where a trace of fewer would save little time.

    Args:
        module: the module.
        worthwhile: the share of its submodules that three short versions may have together.
    """
    whole = sum(1 for _ in module.modules())
    best, most = None, 0.0
    members = cast("list[tuple[str, nn.Module]]", list(cast("Any", module).named_modules()))
    for name, member in members:
        if not isinstance(member, (nn.ModuleList, nn.Sequential)) or len(member) <= SHORTEST:
            continue
        blocks = list(member.children())
        if len({id(block) for block in blocks}) < len(blocks):
            continue
        kinds = _kinds(blocks)
        for period in range(1, min(_LONGEST_PIECE, len(blocks) // SHORTEST) + 1):
            start, pieces = _longest_run(kinds, period)
            piece = sum(1 for block in blocks[start : start + period] for _ in block.modules())
            short = sum(whole - (pieces - SHORTEST - more) * piece for more in range(3))
            saved = whole * worthwhile - short
            if pieces > SHORTEST + 2 and saved >= 0 and (best is None or saved > most):
                best, most = EqualBlocks(name, start, period, pieces), saved
    return best


@contextlib.contextmanager
def shorten_blocks(module: nn.Module, blocks: EqualBlocks, pieces: int) -> Generator[None, None, None]:
    """Leave out all but the first `pieces` of a module's equal blocks inside the block, and put them back after it."""
    children = children_of(module.get_submodule(blocks.place))
    before = dict(children)
    listed = list(before.values())
    members = listed[: blocks.start + pieces * blocks.period]
    members += listed[blocks.start + blocks.pieces * blocks.period :]
    children.clear()
    children.update((str(index), child) for index, child in enumerate(members))
    try:
        yield
    finally:
        children.clear()
        children.update(before)


def _longest_run(kinds: Sequence[Hashable], period: int) -> tuple[int, int]:
    """Return the index at which the longest run of equal pieces begins, and how many pieces it has."""
    best = (0, 1)
    start = 0
    for index in range(len(kinds) + 1 - period):
        if index + period < len(kinds) and kinds[index] == kinds[index + period]:
            continue
        pieces = (index + period - start) // period
        if pieces > best[1]:
            best = (start, pieces)
        start = index + 1
    return best


def _kinds(blocks: Sequence[nn.Module]) -> list[Hashable]:
    """
    Return what equal blocks have in common: classes, shapes, hooks, and attributes that do not count the blocks.

    What else a block depends on shows in its operations, which are compared.
    """
    parts = [list(_list_parts(block)) for block in blocks]
    values = Counter[Hashable]()
    spread = Counter[Hashable]()
    for attributes in (set(attributes) for _, attributes in map(_split, parts)):
        for name, value in attributes:
            spread[name] += not values[name, value]
            values[name, value] += 1
    # An attribute that has another value in more than half of the blocks is their number, or a rate that grows.
    few = {name for name, count in spread.items() if 2 * count <= len(blocks)}
    return [
        (structure, tuple(attribute for attribute in attributes if attribute[0] in few))
        for structure, attributes in map(_split, parts)
    ]


def _split(
    parts: Sequence[tuple[Hashable, list[tuple[str, Hashable]]]],
) -> tuple[Hashable, list[tuple[str, Hashable]]]:
    return tuple(structure for structure, _ in parts), [
        attribute for _, attributes in parts for attribute in attributes
    ]


def _list_parts(block: nn.Module) -> Generator[tuple[Hashable, list[tuple[str, Hashable]]], None, None]:
    """Yield the structure and the plain attributes of a block and each of its submodules."""
    members = cast("list[tuple[str, nn.Module]]", list(cast("Any", block).named_modules()))
    for path, member in members:
        state: dict[str, Any] = vars(member)
        tensors = [*parameters_of(member).items(), *buffers_of(member).items()]
        structure: Hashable = (
            path,
            type(member),
            tuple(
                (name, None if t is None else (tuple(t.shape), t.dtype, t.requires_grad))
                for name, t in tensors
            ),
            tuple(len(state.get(hooks) or ()) for hooks in HOOKS),
        )
        plain: list[tuple[str, Hashable]] = [
            (f"{path}.{name}", value) for name, value in state.items() if isinstance(value, _PLAIN)
        ]
        yield structure, plain


class ForwardLog:
    """
    Numbers the operations of forward passes: equal operations get equal numbers, also in different passes.

    Operations are equal in name, shapes, dtypes, gradients that are wanted, arguments that are flags, and in whether
    autograd saves tensors, recomputes them later, or neither. That floats are 0 or not counts, their values do not:
    rates and scales may differ from block to block.
    """

    def __init__(self) -> None:
        self._numbers: dict[Hashable, int] = {}

    @contextmanager
    def into(self, items: list[Item]) -> Generator[None, None, None]:
        """Append the operations that run inside the block."""

        def note(func: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> None:
            saving = torch.is_grad_enabled(), torch_private.packs_saved_tensors()
            token = (
                str(func),
                saving,
                _describe_value(args),
                _describe_value(tuple(kwargs.items())),
                _describe_value(out),
            )
            items.append(Item(self._numbers.setdefault(token, len(self._numbers))))

        with OperationMode(note):
            yield


def _describe_value(value: Any) -> Hashable:
    if isinstance(value, Tensor):
        return tuple(value.shape), value.dtype, value.requires_grad
    if isinstance(value, (list, tuple)):
        return tuple(_describe_value(item) for item in cast("list[Any]", value))
    if isinstance(value, float):
        return bool(value)
    return value if isinstance(value, (bool, str, type(None), torch.dtype)) else None
