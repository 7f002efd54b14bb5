"""
`Limit`: the names and texts of a limit, written beside its field, and `limits_of`, which reads them from a model.

The keywords of `recommend`, options, keys of a policy and words of a report are made from what it returns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
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
PolicyTable: TypeAlias = Literal["job", "allow", "policy"]
"""Where a policy has the limit: beside a job's target, in the tables `allow`, or at its top."""

Model = TypeVar("Model", bound=BaseModel)

_WRONG: Final[Mapping[type[object], str]] = {
    float: "{name}: {value} is not a limit; give a finite number that is not negative",
    tuple: "{name}: {value!r} is no name; give a name, or a list of names",
    bool: "{name}: {value!r} is neither True nor False",
}
"""What is said of a value that cannot be used, by the kind of limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
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
        policy: where a policy has it; None: nowhere.
        policy_key: its key there; "": the keyword.
        policy_help: description of that key; "": the text of the option.
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
    policy: PolicyTable | None = None
    policy_key: str = ""
    policy_help: str = ""


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
    def bounds(self) -> tuple[int | None, int | None]:
        """Smallest and largest whole number, None where there is none."""
        marks = [mark for info in _field_infos(self.info.annotation) for mark in info.metadata]
        lowest = next((mark.ge for mark in marks if hasattr(mark, "ge")), None)
        return lowest, next((mark.le for mark in marks if hasattr(mark, "le")), None)

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

    @property
    def policy_help(self) -> str:
        """Description of that key."""
        return self.limit.policy_help or self.text


@cache
def limits_of(model: type[BaseModel]) -> tuple[LimitField, ...]:
    """
    Return the fields of a model that have a `Limit`, in their order.

    >>> class Wishes(BaseModel):
    ...     names: Annotated[tuple[str, ...], Limit(help="e.g. ann")] = ()
    >>> [(limit.option, limit.help) for limit in limits_of(Wishes)]
    [('name', 'e.g. ann; several with commas')]
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


def add_limits(
    base: type[Model],
    limits: Iterable[LimitField],
    key_of: Callable[[LimitField], str],
    type_of: Callable[[LimitField], Any],
) -> type[Model]:
    """
    Return a model like `base` that has a key for each limit besides; a key that is not given is None.

    Args:
        base: the model.
        limits: of which keys are made.
        key_of: gives the key of a limit.
        type_of: gives the type of a limit that is given.
    """
    fields: dict[str, Any] = {
        key_of(limit): (type_of(limit) | None, Field(default=None, description=limit.policy_help))
        for limit in limits
    }
    return create_model(base.__name__, __base__=base, __module__=base.__module__, **fields)


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
