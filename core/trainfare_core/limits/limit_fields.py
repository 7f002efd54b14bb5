"""
`Limit`: the names and texts of a limit, written beside its field, and `limits_of`, which reads them from a model.

The keywords of `recommend`, options, keys of a policy and words of a report are made from what it returns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from types import UnionType
from typing import Annotated, Any, Final, Literal, TypeAlias, TypeVar, Union, cast, get_args, get_origin

from pydantic import BaseModel, Field, ValidationError, create_model
from pydantic.fields import FieldInfo

from trainfare_core.errors import InputError

Command: TypeAlias = Literal["run", "strategy", "value"]
"""run: the commands that rank machines or check a run; strategy: `trainfare strategy` and its file; value: an option
that the command names itself."""

Model = TypeVar("Model", bound=BaseModel)

_WRONG: Final[Mapping[type[object], str]] = {
    float: "{name}: {value} is not a limit; give a finite number that is not negative",
    tuple: "{name}: {value!r} is no name; give a name, or a list of names",
    bool: "{name}: {value!r} is neither True nor False",
}
"""What is said of a value that cannot be used, by the kind of limit."""


@dataclass(frozen=True, slots=True)
class Limit:
    """
    How a limit is asked for and said; what is left out follows from its field's name, type and description.

    Attributes:
        help: text of the option; None takes the field's description.
        unset: what holds where it is not given, shown with the option; the option has no default then.
        commands: which commands have the option.
        keyword: argument of `recommend`; "": the field's name.
        option: name of the option, without dashes; "": the keyword's, a list in the singular.
        typed: what the option's text is parsed as, where the command line makes the value from it.
        metavar: what the help shows for the option's value.
        wrong: message about a value that cannot be used, with places for its `name` and `value`.
        said: how a report says it, with a place for its value; "": not at all.
        job, allow, policy: description of its key in a policy, beside a job's target, in the tables `allow` or at the
            top; "": it has none there.
        policy_key: that key; "": the keyword.
    """

    help: str | None = None
    unset: str = ""
    commands: tuple[Command, ...] = ("run",)
    keyword: str = ""
    option: str = ""
    typed: type[object] | None = None
    metavar: str | None = None
    wrong: str = ""
    said: str = ""
    job: str = ""
    allow: str = ""
    policy: str = ""
    policy_key: str = ""


@dataclass(frozen=True, slots=True)
class LimitField:
    """A field of a model with its `Limit`."""

    name: str
    limit: Limit
    info: FieldInfo

    @property
    def keyword(self) -> str:
        """Argument of `recommend`."""
        return self.limit.keyword or self.name

    @property
    def option(self) -> str:
        """Name of the option, as Python writes it."""
        if self.limit.option:
            return self.limit.option
        return self.keyword.removesuffix("s") if self.kind is tuple else self.keyword

    @property
    def kind(self) -> type[object]:
        """The type of a value: tuple for a list of names."""
        kind: type[object] = plain_type(self.info.annotation)
        return kind

    @property
    def least(self) -> int | None:
        """Smallest value of a limit that counts things, where its type has one."""
        marks = [mark for info in _field_infos(self.info.annotation) for mark in info.metadata]
        return next((mark.ge for mark in marks if hasattr(mark, "ge")), None) if self.kind is int else None

    @property
    def takes_names(self) -> bool:
        """Whether a value is a list of names."""
        return self.kind is tuple and self.limit.typed is None

    @property
    def text(self) -> str:
        """What it limits."""
        return (self.info.description if self.limit.help is None else self.limit.help) or ""

    @property
    def policy_key(self) -> str:
        """Key in a policy."""
        return self.limit.policy_key or self.keyword


@cache
def limits_of(model: type[BaseModel]) -> tuple[LimitField, ...]:
    """
    Return the fields of a model that have a `Limit`, in their order.

    >>> class Wishes(BaseModel):
    ...     names: Annotated[tuple[str, ...], Limit("e.g. ann")] = ()
    >>> [(limit.option, limit.text) for limit in limits_of(Wishes)]
    [('name', 'e.g. ann')]
    """
    return tuple(
        LimitField(name, limit, info)
        for name, info in model.model_fields.items()
        for limit in info.metadata
        if isinstance(limit, Limit)
    )


def list_names(value: object) -> object:
    """
    Return names as a tuple, one name too; what is no names as it is.

    >>> list_names("aws")
    ('aws',)
    """
    if isinstance(value, str):
        return (value,)
    return tuple(cast("Iterable[object]", value)) if isinstance(value, Iterable) else value


def parse_limits(model: type[Model], keywords: Mapping[str, Any], base: Model | None = None) -> Model:
    """
    Check limits that a user gave by keyword; names are kept as typed.

    >>> class Wishes(BaseModel):
    ...     most: Annotated[float, Field(ge=0), Limit(keyword="max_usd")] = 1.0
    >>> parse_limits(Wishes, {"max_usd": None}).most
    1.0

    Args:
        model: its fields have a `Limit`.
        keywords: values by the keywords of the limits; None is not given.
        base: has what is not given; None takes the defaults of the fields.

    Raises:
        InputError: a value that cannot be used, named.
        TypeError: a keyword that no limit has.
    """
    names = {limit.keyword: limit.name for limit in limits_of(model)}
    for keyword in keywords:
        if keyword not in names:
            raise TypeError(f"recommend() got an unexpected keyword argument {keyword!r}")
    given = {names[keyword]: value for keyword, value in keywords.items() if value is not None}
    try:
        return model.model_validate(given if base is None else {**dict(base), **given})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        limit = next((limit for limit in limits_of(model) if limit.name in first["loc"][:1]), None)
        if limit is None:
            raise InputError(first["msg"].removeprefix("Value error, ")) from error
        wrong = limit.limit.wrong or _WRONG.get(limit.kind, _WRONG[float])
        raise InputError(wrong.format(name=limit.keyword, value=first["input"])) from error


def take_limits(model: type[BaseModel], source: BaseModel) -> dict[str, Any]:
    """
    Return the limits that a record of other settings has, by their keywords.

    Args:
        model: its fields have a `Limit`.
        source: some of its fields are named as the keywords are.
    """
    known = type(source).model_fields
    keywords = (limit.keyword for limit in limits_of(model))
    return {keyword: getattr(source, keyword) for keyword in keywords if keyword in known}


def add_limits(base: type[Model], fields: Mapping[str, tuple[Any, str]]) -> type[Model]:
    """
    Return a model like `base` that has other fields besides; one that is not given is None.

    Args:
        base: the model.
        fields: type and description of each.
    """
    made: dict[str, Any] = {
        name: (kind | None, Field(default=None, description=text)) for name, (kind, text) in fields.items()
    }
    return create_model(base.__name__, __base__=base, __module__=base.__module__, **made)


def plain_type(annotation: Any) -> Any:
    """
    Return a type without `None`, marks and parameters.

    >>> plain_type(tuple[str, ...] | None)
    <class 'tuple'>
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return plain_type(arguments[0])
    if origin in (Union, UnionType):
        return plain_type(next(argument for argument in arguments if argument is not type(None)))
    return origin or annotation


def _field_infos(annotation: Any) -> Iterable[FieldInfo]:
    """Return the marks of pydantic in a type."""
    for argument in get_args(annotation):
        if isinstance(argument, FieldInfo):
            yield argument
        else:
            yield from _field_infos(argument)
