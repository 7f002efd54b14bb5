"""
The kinds of training loops that trainfare knows, by the module of each; a loop of another package may register too.

The packages under the loops name none of them: `trainfare` itself registers those that it brings, and `fake_step` and
`job` ask here which of them a module or a file belongs to. A kind is loaded when it is asked for the first time.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainfare_core.recommendation import PlanWriter

_HOMES: list[str] = []
_PLAN_HOMES: list[str] = []


def register_loop(home: str, plan_code: str | None = None) -> None:
    """
    Make a kind of loop known; it is asked before those that are known.

    Args:
        home: dotted name of a module whose `KIND` is a `trainfare.fake_step.loop_kind.LoopKind`.
        plan_code: dotted name of a module, without torch, whose `WRITER` is a `PlanWriter` of
            `trainfare_core.recommendation`, and whose `format_plan` writes its arguments as the loop's line of code.
    """
    if home not in _HOMES:
        _HOMES.insert(0, home)
        _PLAN_HOMES.extend([] if plan_code is None else [plan_code])


def load_kinds() -> Iterator[Any]:
    """Yield the kinds, the one that was registered last first, each loaded when it is asked."""
    for home in tuple(_HOMES):
        yield import_module(home).KIND


def load_plan_writer() -> PlanWriter:
    """
    Return the writer of plans that a ranking is asked with.

    A profile does not say which loop it comes from: the loop that was registered first writes.
    """
    from trainfare_core.recommendation import NEUTRAL

    for home in _PLAN_HOMES:
        writer: PlanWriter = import_module(home).WRITER
        return writer
    return NEUTRAL


def format_plan(plan: Any) -> str:
    """
    Return a plan as a line of code.

    A profile does not say which loop it comes from: the loop that was registered first writes the line.

    Args:
        plan: a `trainfare_core.recommendation.TrainerArguments`.
    """
    for home in _PLAN_HOMES:
        line: str = import_module(home).format_plan(plan)
        return line
    return ""
