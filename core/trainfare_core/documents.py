"""Base classes of the pydantic models that are read from files or written as JSON, and the interval they share."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import resources
from typing import Annotated, Final, TypeAlias, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError

__all__ = [
    "MAX_DEPTH",
    "Count",
    "Document",
    "Finite",
    "Flops",
    "Interval",
    "Record",
    "data_text",
    "first_problem",
    "is_too_deep",
]

MAX_DEPTH: Final = 64
"""Levels of a file or an answer. Chosen: far below the depth at which Python runs out of stack; price lists are nested
under ten deep."""

Finite: TypeAlias = Annotated[float, Field(ge=0, allow_inf_nan=False)]
"""A quantity that is finite and not negative."""
Count: TypeAlias = Annotated[int, Field(ge=0, le=10**18)]
"""A number of things: below it fits a 64-bit integer."""
Flops: TypeAlias = Annotated[int, Field(ge=0, le=10**24)]
"""Floating-point operations of a step."""


class Record(BaseModel):
    """Immutable record: its fields cannot be set, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class Document(Record):
    """A whole document, with its JSON text."""

    def to_json(self) -> str:
        """Return JSON text, indented by one space; equal documents give equal bytes."""
        return self.model_dump_json(indent=1) + "\n"


class Interval(Record):
    """Median and central 80 % of a quantity: 10 % below `low_80`, 10 % above `high_80`."""

    mid: Finite
    low_80: Finite
    high_80: Finite


def first_problem(error: ValidationError) -> str:
    """Return the first thing that is wrong in a document, as 'place: what'; nothing of its values."""
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(str(part) for part in first['loc']) or 'the document'}: {first['msg']}"


def is_too_deep(value: object) -> bool:
    """Return whether lists and dicts are nested deeper than `MAX_DEPTH`; without recursion."""
    level = _inside([value])
    for _ in range(MAX_DEPTH):
        level = _inside(inner for one in level for inner in one)
    return bool(level)


def _inside(values: Iterable[object]) -> list[Iterable[object]]:
    """Return the values of each list and dict among some values."""
    found: list[Iterable[object]] = []
    for value in values:
        if isinstance(value, dict):
            found.append(cast("dict[object, object]", value).values())
        elif isinstance(value, list):
            found.append(cast("list[object]", value))
    return found


def data_text(name: str) -> str:
    """Return the text of a file that ships in `trainfare_core/data`."""
    return resources.files("trainfare_core").joinpath("data", name).read_text(encoding="utf-8")
