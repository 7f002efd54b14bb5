"""Command-line options made from the fields of a pydantic model, so that a name, a type and a help text exist once."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

__all__ = ["with_options_of"]

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
        own = inspect.signature(command, eval_str=True)
        first, *others = (one for one in own.parameters.values() if one.kind is not one.VAR_KEYWORD)
        made = [_option(name, field) for name, field in model.model_fields.items() if name not in leave_out]
        command.__signature__ = own.replace(parameters=[first, *made, *others])  # type: ignore[attr-defined]
        return command

    return decorate


def _option(name: str, field: FieldInfo) -> inspect.Parameter:
    """Return the option of a field; "None: ..." in its description says what its absence means."""
    text = (field.description or "").replace("None: ", "default: ").replace("`", "")
    if isinstance(field.default, (str, int, float)) and field.default is not False:
        text += (
            f"; default: {field.default:g}"
            if isinstance(field.default, float)
            else f"; default: {field.default}"
        )
    kind = _value_type(field.annotation)
    if get_origin(kind) is list:
        text += "; may be repeated"
    flag = (f"--{name.replace('_', '-')}",) if kind is bool else ()  # without its --no- twin
    return inspect.Parameter(
        name,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        default=None,
        annotation=Annotated[kind | None, typer.Option(*flag, help=text)],
    )


def _value_type(annotation: Any) -> Any:
    """Return what the command line parses a value as: text for choices, a list for tuples."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _value_type(arguments[0])
    if origin in (Union, UnionType):
        return _value_type(next(one for one in arguments if one is not type(None)))
    if origin is tuple:
        return list[str]
    return str if origin is Literal else annotation
