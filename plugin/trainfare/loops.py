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
_PLAN_HOMES: dict[str, str] = {}


def register_loop(home: str, plan_code: str | None = None) -> None:
    """
    Make a kind of loop known; it is asked before those that are known.

    Args:
        home: dotted name of a module whose `KIND` is a `trainfare.fake_step.loop_kind.LoopKind`.
        plan_code: dotted name of a module, without torch, whose `WRITER` is a `PlanWriter` of
            `trainfare_core.recommendation`, and whose `format_plan` writes its arguments as the loop's line of code.
            The first that is registered writes for profiles that name no loop.
    """
    if home not in _HOMES:
        _HOMES.insert(0, home)
        if plan_code is not None:
            register_words("", plan_code)


def register_words(loop: str, plan_code: str) -> None:
    """
    Make the words known in which plans for a loop are written.

    Args:
        loop: see `ProfileSource.loop`.
        plan_code: see `register_loop`; without `format_plan` where the writer gives `TrainerArguments.code`.
    """
    _PLAN_HOMES.setdefault(loop, plan_code)


def load_kinds() -> Iterator[Any]:
    """Yield the kinds, the one that was registered last first, each loaded when it is asked."""
    for home in tuple(_HOMES):
        yield import_module(home).KIND


def load_plan_writer(loop: str) -> PlanWriter:
    """
    Return the writer of plans that a ranking is asked with.

    Args:
        loop: of the profile, see `ProfileSource.loop`.
    """
    from trainfare_core.recommendation import NEUTRAL

    if loop not in _PLAN_HOMES:
        return NEUTRAL
    writer: PlanWriter = import_module(_PLAN_HOMES[loop]).WRITER
    return writer


def format_plan(plan: Any) -> str:
    """
    Return a plan as a line of code, or in plain words.

    Args:
        plan: a `trainfare_core.recommendation.TrainerArguments`.
    """
    if plan.code or "" not in _PLAN_HOMES:
        return str(plan.code)
    line: str = import_module(_PLAN_HOMES[""]).format_plan(plan)
    return line
