"""
The kinds of training loops that trainfare knows, by the module of each; a loop of another package may register too.

The packages under the loops name none of them: `trainfare` itself registers those that it brings, and `fake_step` and
`job` ask here which of them a module or a file belongs to. A kind is loaded when it is asked for the first time.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

__all__ = ["loop_kinds", "register_loop"]

_HOMES: list[str] = []


def register_loop(home: str) -> None:
    """
    Make a kind of loop known; it is asked before those that are known.

    Args:
        home: dotted name of a module whose `KIND` is a `trainfare.fake_step.loop_kind.LoopKind`.
    """
    if home not in _HOMES:
        _HOMES.insert(0, home)


def loop_kinds() -> Iterator[Any]:
    """Yield the kinds, the one that was registered last first, each loaded when it is asked."""
    for home in tuple(_HOMES):
        yield import_module(home).KIND
