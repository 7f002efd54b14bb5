"""What the frames around a line have in common, while their statements are written as one program."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from trainfare.plain_loop.loop_expressions import Key, UnreadableError

Statements: TypeAlias = list[ast.stmt]


@dataclass(frozen=True, slots=True)
class LoopFacts:
    """
    A loop around the line.

    Attributes:
        place: `file.py:12`.
        rounds: as it begins; None: not known before it runs; infinity: it has no end of its own.
        of_batches: it goes over a DataLoader.
    """

    place: str
    rounds: float | None
    of_batches: bool = False


@dataclass(slots=True)
class SharedParts:
    """What the frames of a program have in common, and what is known to be unreadable of it."""

    regions: Sequence[Sequence[ast.stmt]]
    unreadable: set[Key]
    unreadable_attributes: set[str]
    stored_attributes: set[str]
    stored_outside: set[str]
    """Names that are assigned where another frame reads them: of modules and of functions around functions."""
    parameters: set[Key] = field(default_factory=set[Key])
    """Those of the inner functions with plain values: they are what each call gives."""
    variables: dict[Key, str] = field(default_factory=dict[Key, str])
    loops: list[LoopFacts] = field(default_factory=list[LoopFacts])
    counters: list[str] = field(default_factory=list[str])
    exits: list[str] = field(default_factory=list[str])
    endless: list[str] = field(default_factory=list[str])
    read: set[str] = field(default_factory=set[str])
    assigned: set[str] = field(default_factory=set[str])
    reset: set[str] = field(default_factory=set[str])
    last_batch: ast.expr | None = None

    def name_variable(self, key: Key) -> str:
        """Return the variable of a key; see `Expressions`."""
        if key in self.unreadable or (key[0] == "a" and key[-1] in self.unreadable_attributes):
            raise UnreadableError(str(key[-1]))
        return self.variables.setdefault(key, f"_v{len(self.variables)}")
