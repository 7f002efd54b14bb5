"""Base classes of the pydantic models that are read from files or written as JSON, and the interval they share."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable
from importlib import resources
from typing import Annotated, Any, Final, Literal, TypeAlias, cast

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_serializer

from trainfare_core.installation import __version__

MAX_DEPTH: Final = 64
"""Levels of a file or an answer. Chosen: far below the depth at which Python runs out of stack; price lists are nested
under ten deep."""

Finite: TypeAlias = Annotated[float, Field(ge=0, allow_inf_nan=False)]
"""A quantity that is finite and not negative."""
Signed: TypeAlias = Annotated[float, Field(allow_inf_nan=False)]
"""A finite quantity of either sign, such as a difference."""
Count: TypeAlias = Annotated[int, Field(ge=0, le=10**18)]
"""A number of things: below it fits a 64-bit integer."""
Flops: TypeAlias = Annotated[int, Field(ge=0, le=10**24)]
"""Floating-point operations of a step."""

LONGEST_LIST: Final = 120
"""Characters of a list of plain values that stays on one line. Chosen: the numbers of a shape do, sentences do not."""
_CONTROLS: Final = re.compile(
    "[\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]"
)
"""C1 control bytes, marks of writing direction and characters of no width; JSON itself escapes those below 0x20."""
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False)


class Record(BaseModel):
    """Immutable record: its fields cannot be set, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True, protected_namespaces=())


def leave_out_empty(*fields: str) -> Any:
    """Return a serializer for the body of a model that leaves out those of some fields whose value is empty."""

    # The annotation of what it returns would take the place of the model's JSON schema.
    def serialize(self: Any, make: Callable[[Any], dict[str, Any]]):  # type: ignore[no-untyped-def]
        return {name: value for name, value in make(self).items() if name not in fields or value}

    return model_serializer(mode="wrap")(serialize)


class Document(Record):
    """A whole document, with its JSON text."""

    def to_json(self) -> str:
        """Return JSON text, indented by one space; equal documents give equal bytes."""
        return escape_controls(self.model_dump_json(indent=1)) + "\n"


class KeptDocument(Document):
    """A document that people keep beside their code: its text has one record a line, so that changes are readable."""

    def to_json(self) -> str:
        """Return JSON text with one record a line; equal documents give equal bytes."""
        return escape_controls(format_records(self.model_dump(mode="json")))


def escape_controls(text: str) -> str:
    r"""
    Return JSON text in which no character of a name controls a terminal or turns text around; its value is the same.

    >>> print(escape_controls('["a' + chr(0x202E) + 'b"]'))
    ["a\u202eb"]
    """
    if text.isascii() and "\x7f" not in text:
        return text
    return _CONTROLS.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


class Answer(Document):
    """A document that trainfare writes, with the version of its schema and of trainfare."""

    schema_version: Literal[1] = 1
    tool_version: str = __version__


class Interval(Record):
    """Median and central 80 % of a quantity: 10 % below `low_80`, 10 % above `high_80`."""

    mid: Finite
    low_80: Finite
    high_80: Finite


def is_flat(value: JsonValue) -> bool:
    """Return whether a dict holds only plain values and lists of them, or whether a list of plain values is short."""
    if isinstance(value, dict):
        return all(
            _is_plain(entry) or (isinstance(entry, list) and _holds_plain(entry)) for entry in value.values()
        )
    return isinstance(value, list) and _holds_plain(value) and len(_ENCODER.encode(value)) <= LONGEST_LIST


def _holds_plain(values: list[JsonValue]) -> bool:
    return all(map(_is_plain, values))


def _is_plain(value: JsonValue) -> bool:
    return not isinstance(value, dict | list)


def format_records(value: JsonValue, *, is_record: Callable[[JsonValue], bool] = is_flat) -> str:
    """
    Return JSON text with one record a line; what holds several records has one entry a line.

    Example:
        >>> job = {"name": "gpt", "operations": [{"kind": "matmul", "shape": [1, 8]}, {"kind": "copy", "shape": [8]}]}
        >>> print(format_records(job), end="")
        {
         "name": "gpt",
         "operations": [
          {"kind": "matmul", "shape": [1, 8]},
          {"kind": "copy", "shape": [8]}
         ]
        }

    Args:
        value: of plain values, dicts and lists, as JSON has them.
        is_record: whether a dict or list stays on one line.
    """
    return _format_entry(value, "\n", is_record) + "\n"


def _format_entry(value: JsonValue, line_break: str, is_record: Callable[[JsonValue], bool]) -> str:
    """Return the text of a value, of which each line but the first begins with `line_break`."""
    if not isinstance(value, dict | list) or not value or is_record(value):
        return _ENCODER.encode(value)
    inner = f"{line_break} "
    if isinstance(value, dict):
        entries = [
            f"{_ENCODER.encode(key)}: {_format_entry(entry, inner, is_record)}"
            for key, entry in value.items()
        ]
        return f"{{{inner}{f',{inner}'.join(entries)}{line_break}}}"
    entries = [_format_entry(entry, inner, is_record) for entry in value]
    return f"[{inner}{f',{inner}'.join(entries)}{line_break}]"


def check_text(text: str | bytes, document: Document) -> None:
    """Raise a ValueError where the text of a document has no schema version, or a key twice: readers take either."""
    json.loads(text, object_pairs_hook=_refuse_repeated_key)
    if "schema_version" not in document.model_fields_set:
        raise ValueError("schema_version is missing")


def _refuse_repeated_key(pairs: list[tuple[str, object]]) -> None:
    if len(dict(pairs)) < len(pairs):
        raise ValueError(f"key {Counter(key for key, _ in pairs).most_common(1)[0][0]!r} stands twice")


def first_problem(error: ValueError) -> str:
    """Return the first thing that is wrong in a document, as 'place: what'; nothing of its values."""
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(str(part) for part in first['loc']) or 'the document'}: {first['msg']}"


def is_too_deep(value: object) -> bool:
    """Return whether lists and dicts are nested deeper than `MAX_DEPTH`; without recursion."""
    level = _inside([value])
    for _ in range(MAX_DEPTH):
        level = _inside(inner for value in level for inner in value)
    return bool(level)


def _inside(values: Iterable[object]) -> list[Iterable[object]]:
    """Return the values of each list and dict among some values."""
    inner_values: list[Iterable[object]] = []
    for value in values:
        if isinstance(value, dict):
            inner_values.append(cast("dict[object, object]", value).values())
        elif isinstance(value, list):
            inner_values.append(cast("list[object]", value))
    return inner_values


def data_text(name: str) -> str:
    """Return the text of a file that ships in `trainfare_core/data`."""
    return resources.files("trainfare_core").joinpath("data", name).read_text(encoding="utf-8")


def data_rows(name: str) -> list[dict[str, str]]:
    """Return the rows of a table that ships in `trainfare_core/data`, by column."""
    return list(csv.DictReader(data_text(name).splitlines()))
