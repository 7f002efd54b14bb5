"""Command-line options made from the fields of a pydantic model, so that a name, a type and a help text exist once."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from typing import Annotated, Literal, TypeVar

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from trainfare_core.limit_fields import plain_type

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
