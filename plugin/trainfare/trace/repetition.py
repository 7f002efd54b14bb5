"""
What N equal blocks do, from what 2, 3 and 4 of them do: amounts grow linearly, sequences by equal pieces.

Two lengths give the growth, the third one checks it; where it does not fit, nothing is extrapolated.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import NamedTuple, TypeVar

from trainfare.trace.weighted_sum import add_rows

_T = TypeVar("_T")
_Key = TypeVar("_Key")


class NotRepeatedError(Exception):
    """The step does not grow in the same way with each further block."""


class Item(NamedTuple):
    """
    One entry of a sequence.

    Attributes:
        key: what has to be the same in entries that correspond to each other.
        amounts: numbers that may grow with the length of the module.
    """

    key: Hashable
    amounts: tuple[int, ...] = ()


def extend_rows(steps: Iterable[Mapping[_Key, Sequence[int]]], more: int) -> dict[_Key, list[int]]:
    """
    Return the amounts of a step with more pieces than the shortest, by key.

    They are a weighted sum of those of two lengths, the straight line through both, on which the third must lie.

    Args:
        steps: amounts with three lengths of the module: the shortest, with one more piece, and with two more.
        more: pieces beyond the shortest.

    Raises:
        NotRepeatedError: keys differ, or an amount does not grow linearly.

    >>> extend_rows([{"mm": (10, 1)}, {"mm": (13, 1)}, {"mm": (16, 1)}], 100)
    {'mm': [310, 1]}
    """
    first, second, third = steps
    same(first.keys(), second.keys(), third.keys())

    def line(pieces: int) -> dict[_Key, list[int]]:
        weights = ((first, 1 - pieces), (second, pieces))
        return add_rows((key, amounts, weight) for rows, weight in weights for key, amounts in rows.items())

    for key, amounts in line(2).items():
        if amounts != list(third[key]):
            msg = f"{key}: {first[key]}, {second[key]}, {third[key]} do not grow linearly"
            raise NotRepeatedError(msg[:500])
    return line(more)


def same(first: _T, second: _T, third: _T) -> _T:
    """
    Return the value that is the same with all three lengths.

    Raises:
        NotRepeatedError: it is not.
    """
    if not first == second == third:
        raise NotRepeatedError(f"{first!r}, {second!r}, {third!r} differ"[:500])
    return first


def extend_sequence(
    first: Sequence[Item], second: Sequence[Item], third: Sequence[Item] | None, more: int
) -> list[Item]:
    """
    Return the sequence of a step with more pieces than the shortest.

    >>> a, b, c = Item("a"), Item("b"), Item("c")
    >>> "".join(str(item.key) for item in extend_sequence([a, b, c], [a, b, b, c], [a, b, b, b, c], 4))
    'abbbbbc'

    Args:
        first: of the shortest.
        second: with one more piece.
        third: with two more pieces; None where the result is checked in another way.
        more: pieces beyond the shortest.

    Raises:
        NotRepeatedError: it does not grow by the same entries at the same places.
    """
    edits = _edits(first, second)
    if third is not None:
        edits = _split_names(edits, third)
        if _apply_edits(first, edits, 2) != list(third):
            raise NotRepeatedError("two more blocks do not add twice what one more adds")
    return _apply_edits(first, edits, more)


@dataclass(frozen=True, slots=True)
class _Edit:
    """
    What one more piece changes.

    Attributes:
        index: in the shortest sequence before which entries are added.
        added: the entries.
        growth: of the amounts of the entry at that index; empty for none.
    """

    index: int
    added: tuple[Item, ...] = ()
    growth: tuple[int, ...] = ()


def _apply_edits(items: Sequence[Item], edits: Sequence[_Edit], times: int) -> list[Item]:
    grown: list[Item] = []
    done = 0
    for edit in edits:
        grown += items[done : edit.index]
        done = edit.index
        grown += edit.added * times
        if edit.growth:
            key, amounts = items[done]
            grown.append(Item(key, tuple(a + times * g for a, g in zip(amounts, edit.growth, strict=True))))
            done += 1
    return [*grown, *items[done:]]


def _edits(shorter: Sequence[Item], longer: Sequence[Item]) -> list[_Edit]:
    """Return the edits that make the longer sequence of the shorter one, in their order."""
    old, new = _growing(shorter, longer), _growing(longer, shorter)
    if [shorter[index].key for index in old] != [longer[index].key for index in new]:
        raise NotRepeatedError("one more block changes what the others do")
    edits: list[_Edit] = []
    for index, other in zip(old, new, strict=True):
        amounts = zip(shorter[index].amounts, longer[other].amounts, strict=True)
        edits.append(_Edit(index, growth=tuple(after - before for before, after in amounts)))
    # Entries that only grow are the same entry in both.
    pairs: dict[Item, Hashable] = {shorter[index]: number for number, index in enumerate(old)}
    pairs |= {longer[index]: number for number, index in enumerate(new)}
    inner, outer = ([pairs.get(item, item) for item in items] for items in (shorter, longer))
    begin, most = 0, min(len(inner), len(outer))
    while begin < most and inner[begin] == outer[begin]:
        begin += 1
    end = 0
    while end < most - begin and inner[-1 - end] == outer[-1 - end]:
        end += 1
    if begin + end == len(inner):
        edits.append(_Edit(begin, tuple(longer[begin : len(outer) - end])))
        return sorted(edits, key=_order)
    middle = SequenceMatcher(
        None, inner[begin : len(inner) - end], outer[begin : len(outer) - end], autojunk=False
    )
    for kind, index, _, first, last in middle.get_opcodes():
        if kind == "insert":
            edits.append(_Edit(begin + index, tuple(longer[begin + first : begin + last])))
        elif kind != "equal":
            raise NotRepeatedError("one more block does not only add to what the others do")
    return sorted(edits, key=_order)


def _split_names(edits: Sequence[_Edit], third: Sequence[Item]) -> list[_Edit]:
    """Take apart what one more piece adds side by side, but not in turns: a list of keys, then one of values."""
    separated: list[_Edit] = []
    done = 0
    for edit in edits:
        begin, added = edit.index + 2 * done, edit.added
        done += len(added)
        if edit.growth:
            separated.append(edit)
        while added:
            twice = tuple(third[begin : begin + 2 * len(added)])
            size = next((n for n in range(len(added), 0, -1) if twice[: 2 * n] == added[:n] * 2), len(added))
            separated.append(_Edit(edit.index, added[:size]))
            begin, added = begin + 2 * size, added[size:]
    return separated


def _growing(items: Sequence[Item], others: Sequence[Item]) -> list[int]:
    """Return the places of entries that the other sequence does not have, such as one over all parameters."""
    known = set(others)
    return [index for index, item in enumerate(items) if item not in known]


def _order(edit: _Edit) -> tuple[int, bool]:
    """Put what is added before the entry at a place in front of the growth of that entry."""
    return edit.index, not edit.added
