"""
The kinds of training loops that trainfare knows, by the modules of each; a loop of another package may register too.

The packages under the loops name none of them: `trainfare` itself registers those that it brings, and `fake_step`,
`job` and `script` ask here which of them a module, a file or a script belongs to. Each is loaded when it is asked for
the first time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from trainfare_core.recommendation import PlanWriter

_HOMES: list[str] = []
_PLAN_HOMES: dict[str, str] = {}
_SCRIPT_HOMES: dict[str, Mapping[str, str]] = {}
_NO_TRAINER: Final[Mapping[str, str]] = MappingProxyType({})


def register_loop(
    home: str,
    plan_code: str | None = None,
    script: str | None = None,
    trainers: Mapping[str, str] = _NO_TRAINER,
) -> None:
    """
    Make a kind of loop known; it is asked before those that are known.

    Args:
        home: dotted name of a module whose `KIND` is a `trainfare.fake_step.loop_kind.LoopKind`.
        plan_code: dotted name of a module, without torch, whose `WRITER` is a `PlanWriter` of
            `trainfare_core.recommendation`, and whose `format_plan` writes its arguments as the loop's line of code.
            The first that is registered writes for profiles that name no loop.
        script: dotted name of the module for scripts, see `register_script`.
        trainers: see `register_script`.
    """
    if home not in _HOMES:
        _HOMES.insert(0, home)
        if plan_code is not None:
            register_words("", plan_code)
        if script is not None:
            register_script(script, trainers)


def register_script(home: str, trainers: Mapping[str, str] = _NO_TRAINER) -> None:
    """
    Make known what a loop does with scripts; it is asked before those that are known.

    Args:
        home: dotted name of a module whose `SCRIPT` is a `trainfare.script.loop_scripts.LoopScript`.
        trainers: modules with a `Trainer`, and its method that trains, which `trainfare probe` measures.
    """
    _SCRIPT_HOMES.setdefault(home, trainers)


def register_words(loop: str, plan_code: str) -> None:
    """
    Make the words known in which plans for a loop are written.

    Args:
        loop: see `ProfileSource.loop`.
        plan_code: see `register_loop`; without `format_plan` where the writer gives `TrainerArguments.code`.
    """
    _PLAN_HOMES.setdefault(loop, plan_code)


def load_callback(package: str) -> Callable[[str], Any]:
    """Return the `__getattr__` of a loop's package: it loads `FareMeter` on first use, and so the framework."""

    def load(name: str) -> Any:
        if name == "FareMeter":
            return import_module(f"{package}.callback").FareMeter
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return load


def load_kinds() -> Iterator[Any]:
    """Yield the kinds, the one that was registered last first, each loaded when it is asked."""
    for home in tuple(_HOMES):
        yield import_module(home).KIND


def list_scripts() -> list[tuple[str, Mapping[str, str]]]:
    """Return what was registered by `register_script`, the last first."""
    return [*reversed(_SCRIPT_HOMES.items())]


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
