"""Options made from the fields of models, so that a name, a type and a help text exist once: of limits, and others."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection, Iterable
from typing import Annotated, Any, ClassVar, Final, Literal, TypeVar

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from trainfare.cli.option_groups import OptionGroup
from trainfare_core.errors import InputError
from trainfare_core.limits.constraints import Constraints
from trainfare_core.limits.limit_fields import LimitField, limits_of, plain_type

_LIMITS: Final = limits_of(Constraints)
_ORDER: Final = (
    "max_usd", "deadline", "confidence", "provider", "service", "region", "instance_type", "accelerator", "exclude",
    "residency", "max_accelerators", "quota", "min_network_gbit", "no_porting", "purchase", "all_clouds", "max_nodes",
    "max_hours", "keep_plan", "allow", "scale", "critical_batch",
    "data_in", "data_gb",
)  # fmt: skip
"""Of the options in a help text; others follow."""

_NUMBER: Final = r"[0-9]{1,9}(?:\.[0-9]{1,9})?"
_DEADLINE: Final = re.compile(rf"{_NUMBER}|(?:{_NUMBER}\s*[mhdw]\s*)+", re.ASCII)
_PART: Final = re.compile(rf"({_NUMBER})\s*([mhdw]?)", re.ASCII)
_HOURS_PER_UNIT: Final = {"m": 1 / 60, "": 1.0, "h": 1.0, "d": 24.0, "w": 168.0}


def separate(names: list[str] | None) -> list[str] | None:
    """Return the names of an option that may be repeated; an empty one stays, so that it is refused, not ignored."""
    return None if names is None else [part.strip() for name in names for part in name.split(",")]


def option_of(name: str) -> Any:
    """Return the option of one field of `Constraints`, to annotate a parameter with."""
    return _option(next(limit for limit in _LIMITS if limit.name == name), ranks=True)


def make_options(limits: Iterable[LimitField], *, ranks: bool = True) -> list[inspect.Parameter]:
    """
    Return a parameter for Typer for each limit, by the name of its option.

    Args:
        limits: of which options are made.
        ranks: the command ranks, so that what holds without an option belongs to its help text.
    """
    return [
        inspect.Parameter(
            limit.option,
            inspect.Parameter.KEYWORD_ONLY,
            default=_default(limit),
            annotation=Annotated[_type(limit), _option(limit, ranks=ranks)],
        )
        for limit in limits
    ]


def _option(limit: LimitField, *, ranks: bool) -> Any:
    several = "; several with commas" if limit.takes_names else ""
    unset = f"; default: {limit.limit.unset}" if ranks and limit.limit.unset else ""
    return typer.Option(
        f"--{limit.option.replace('_', '-')}",  # of a switch too: without its --no- twin
        help=f"{limit.text}{several}{unset}",
        metavar=limit.limit.metavar,
        min=limit.least,
        callback=separate if limit.takes_names else None,
    )


def _type(limit: LimitField) -> Any:
    if limit.kind is bool:
        return bool
    kind: Any = list[str] if limit.takes_names else limit.limit.typed or limit.kind
    return kind | None if _default(limit) is None else kind


def _default(limit: LimitField) -> object:
    is_shown = not (limit.limit.unset or limit.kind is tuple)
    return limit.info.default if is_shown else None


_MAX_NODES: Final = inspect.Parameter(
    "max_nodes",
    inspect.Parameter.KEYWORD_ONLY,
    default=None,
    annotation=Annotated[
        int | None,
        typer.Option(
            min=1, max=64, help="most machines in one run; default: 4, or the job's own number if larger"
        ),
    ],
)
"""A limit of the search for plans, and no field of `Constraints`."""


def _signature(options: Iterable[inspect.Parameter]) -> inspect.Signature:
    last = len(_ORDER)
    return inspect.Signature(
        sorted(options, key=lambda option: _ORDER.index(option.name) if option.name in _ORDER else last)
    )


def _filters(*names: str) -> inspect.Signature:
    """Return the options of a list of prices, in this order."""
    options = {option.name: option for option in make_options(_LIMITS, ranks=False)}
    return inspect.Signature([options[name] for name in names])


class LimitOptions(OptionGroup):
    """Limits as they were typed, one for each option of a command."""

    model: ClassVar[type[Constraints]] = Constraints

    def __init__(self, **typed: Any) -> None:
        self._typed = typed

    @property
    def max_nodes(self) -> int | None:
        """Most machines in one run; None where it is not given."""
        nodes: int | None = self._typed.get("max_nodes")
        return nodes

    def keywords(self) -> dict[str, Any]:
        """
        Return what was given, by the keywords of `recommend`.

        Raises:
            InputError: `--deadline` is not a time.
        """
        given = {limit.keyword: self._typed.get(limit.option) for limit in limits_of(self.model)}
        given["deadline_hours"] = hours_of(self._typed.get("deadline"))
        return {
            keyword: value for keyword, value in given.items() if value is not None and value is not False
        }


class OfferFilters(LimitOptions):
    """Which offers to list."""

    __signature__ = _filters(
        "provider", "region", "instance_type", "accelerator", "purchase", "service", "all_clouds"
    )


class LockFilterOptions(LimitOptions):
    """Which prices to lock."""

    __signature__ = _filters("provider", "service", "region", "accelerator", "purchase")


class StrategyLimits(LimitOptions):
    """Where the runs of `trainfare strategy` may be, and what of the script they may change."""

    __signature__ = _signature(
        [*make_options(limit for limit in _LIMITS if "strategy" in limit.limit.commands), _MAX_NODES]
    )


class RunLimits(LimitOptions):
    """What a run may cost, how long it may take and where it may run."""

    __signature__ = _signature(
        [*make_options(limit for limit in _LIMITS if "run" in limit.limit.commands), _MAX_NODES]
    )

    @property
    def any_precision(self) -> bool:
        """Whether plans may change the precision, for which a TARGET is traced in all of them."""
        return "precision" in (self._typed.get("allow") or ()) and not self._typed.get("keep_plan")

    def allowing(self, change: str) -> RunLimits:
        """Return the limits with one more change of the plan allowed; as they are under --keep-plan."""
        allow = [*(self._typed.get("allow") or ()), change]
        return self if self._typed.get("keep_plan") else RunLimits(**{**self._typed, "allow": allow})

    def check_given(self) -> None:
        """
        Check that there is a limit to check, before anything is traced.

        Raises:
            InputError: neither budget nor deadline is given.
        """
        if self._typed.get("max_usd") is None and self._typed.get("deadline") is None:
            raise InputError("nothing to check: give --max-usd, --deadline, or both")

    def constraints(self, **more: float | None) -> Constraints:
        """
        Return the limits as the ranking takes them.

        Args:
            more: limits that the command has options of its own for, by keyword.

        Raises:
            InputError: a number out of range, or `--deadline` is not a time.
        """
        from trainfare.prices.constraints import read_constraints
        from trainfare.prices.run_cost_table import read_run_cost

        return read_constraints({**self.keywords(), **more, "run_cost": read_run_cost()})


def hours_of(deadline: str | None) -> float | None:
    """
    Return `--deadline` in hours: a number of hours, or numbers followed by m, h, d or w, which add up.

    Raises:
        InputError: anything else.
    """
    if deadline is None:
        return None
    text = deadline.strip().lower()
    if _DEADLINE.fullmatch(text) is None:
        raise InputError(f"--deadline {deadline!r}: not a time; give hours such as 12, 12h, 1d12h, 2w or 90m")
    return sum(float(number) * _HOURS_PER_UNIT[unit] for number, unit in _PART.findall(text))


Command = TypeVar("Command", bound=Callable[..., None])


def with_options_of(
    model: type[BaseModel], *, leave_out: Collection[str] = ()
) -> Callable[[Command], Command]:
    """
    Return a decorator that gives a command one option a field of a model, in place of its `**fields`.

    A field that the user does not give arrives as None; the model applies its default and checks the value.

    Args:
        model: the model; the help texts are its descriptions.
        leave_out: fields without an option, or with one that the command declares itself.
    """

    def decorate(command: Command) -> Command:
        signature = inspect.signature(command, eval_str=True)
        first, *others = (
            parameter
            for parameter in signature.parameters.values()
            if parameter.kind is not parameter.VAR_KEYWORD
        )
        model_options = [
            _make_option(name, field) for name, field in model.model_fields.items() if name not in leave_out
        ]
        command.__signature__ = signature.replace(parameters=[first, *model_options, *others])  # type: ignore[attr-defined]
        return command

    return decorate


def _make_option(name: str, field: FieldInfo) -> inspect.Parameter:
    """Return the option of a field; "None: ..." in its description says what its absence means."""
    text = (field.description or "").replace("None: ", "default: ").replace("`", "")
    if isinstance(field.default, (str, int, float)) and field.default is not False:
        text += (
            f"; default: {field.default:g}"
            if isinstance(field.default, float)
            else f"; default: {field.default}"
        )
    kind = plain_type(field.annotation)
    if kind is tuple:
        text += "; may be repeated"
    # Choices are text: the model checks them.
    kind = list[str] if kind is tuple else str if kind is Literal else kind
    flag = (f"--{name.replace('_', '-')}",) if kind is bool else ()  # without its --no- twin
    return inspect.Parameter(
        name,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        default=None,
        annotation=Annotated[kind | None, typer.Option(*flag, help=text)],
    )
