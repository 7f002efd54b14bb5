"""
`group_options`, which lets a command take many options as one object, and the table of what `--format` takes.

Typer reads a function's signature and has no option groups of its own.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Final, Literal, TypeAlias, TypeGuard

import typer

Format: TypeAlias = Literal["table", "json", "markdown", "html", "csv", "sarif", "junit", "github"]
"""Of a parameter: its option `--format`, with the formats that `FORMATS` has for the command."""

FORMATS: Final[Mapping[str, tuple[Format, ...]]] = {
    "probe": ("table", "json", "markdown", "html", "csv"),
    "predict": ("table", "json"),
    "recommend": ("table", "json", "markdown", "html", "csv"),
    "estimate": ("table", "json", "markdown", "html", "csv"),
    "why": ("table", "json"),
    "savings": ("table", "json", "markdown", "html"),
    "check": ("table", "json", "markdown", "html", "sarif", "junit", "github"),
    "offers": ("table", "json", "csv"),
    "strategy": ("table", "json", "html"),
    "reconcile": ("table", "json", "html"),
    "update": ("table", "json"),
    "verify": ("table", "json"),
    "status": ("table", "json"),
    "claims": ("table", "json", "html"),
    "forecast": ("table", "json", "html"),
    "wait": ("table", "json", "html"),
    "decompose": ("table", "json", "html"),
    "list_runs": ("table", "json", "html"),
    "score": ("table", "json", "html"),
    "explain": ("table", "json", "html"),
    "doctor": ("table", "json"),
}
"""Formats of the answers of each command."""


class OptionGroup:
    """A class with an option for each parameter of its signature, which a subclass makes."""

    __signature__: ClassVar[inspect.Signature]


def group_options(command: Callable[..., None]) -> Callable[..., None]:
    """
    Return the command with options in place of each parameter that is a dataclass or an `OptionGroup`.

    Typer then makes one option of each field; the command receives the object filled in.
    """
    parameters = list(inspect.signature(command, eval_str=True).parameters.values())
    groups = {
        parameter.name: parameter.annotation for parameter in parameters if _is_group(parameter.annotation)
    }
    members = {name: inspect.signature(group, eval_str=True).parameters for name, group in groups.items()}

    @functools.wraps(command)
    def run(**values: Any) -> None:
        for name, group in groups.items():
            values[name] = group(**{member: values.pop(member) for member in members[name]})
        command(**values)

    flat = [
        member.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for parameter in parameters
        for member in (members[parameter.name].values() if parameter.name in groups else (parameter,))
    ]
    run.__dict__["__signature__"] = inspect.Signature([_with_formats(option, command) for option in flat])
    return run


def _is_group(annotation: object) -> TypeGuard[type[Any]]:
    if not isinstance(annotation, type):
        return False
    return dataclasses.is_dataclass(annotation) or issubclass(annotation, OptionGroup)


def _with_formats(parameter: inspect.Parameter, command: Callable[..., None]) -> inspect.Parameter:
    """Return an option `--format` with the formats of the command; other options as they are."""
    if parameter.annotation != Format:
        return parameter
    formats = FORMATS[command.__name__]
    note = "; github: annotations of GitHub Actions" if "github" in formats else ""
    option = typer.Option("--format", help=f"output format{note}")
    return parameter.replace(annotation=Annotated[Literal[formats], option])
