"""TOML that a user wrote: its content, and the line on which a key stands."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any, Final, TypeAlias, cast

from pydantic import BaseModel, ValidationError

from trainfare_core.documents import MAX_DEPTH, first_problem, is_too_deep
from trainfare_core.errors import InputError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_Path: TypeAlias = tuple[str | int, ...]

_TEXTS: Final = re.compile(
    r'''"""(?:[^\\]|\\.)*?"{3,5}|'{3}.*?'{3,5}|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|#[^\n]*''', re.DOTALL
)
_BETWEEN_KEYS: Final = re.compile(r"[^\w.\- \t]+", re.ASCII)
_CONTINUED: Final = "\0"
"""Stands for the end of a line inside a text; TOML has no such character."""


def parse_toml(content: bytes, *, where: str, parse_float: Callable[[str], Any] = float) -> dict[str, object]:
    """
    Return the content of a TOML file.

    Args:
        content: the bytes of the file.
        where: what the message calls the file.
        parse_float: makes a number of its text.

    Raises:
        InputError: it is not UTF-8, not TOML, nested deeper than 64 levels, or holds a number beyond all measure.
    """
    if _has_long_key(content.decode("utf-8", "replace")):
        raise InputError(f"{where}: not valid TOML: nested deeper than {MAX_DEPTH} levels")
    try:
        document = tomllib.loads(content.decode("utf-8"), parse_float=parse_float)
    except RecursionError:
        document = None
    except ArithmeticError as error:  # of Decimal
        raise InputError(f"{where}: not valid TOML: a number with too large an exponent") from error
    except ValueError as error:  # also an integer of thousands of digits
        raise InputError(f"{where}: not valid TOML: {error}") from error
    if document is None or is_too_deep(document):
        raise InputError(f"{where}: not valid TOML: nested deeper than {MAX_DEPTH} levels")
    if _is_too_long(document):
        raise InputError(f"{where}: not valid TOML: a whole number of more than 64 bits")
    return cast("dict[str, object]", document)


def _has_long_key(text: str) -> bool:
    """Return whether a key has more than `MAX_DEPTH` parts, which takes tomllib a time that grows with their square."""
    return any(words.count(".") >= MAX_DEPTH for words in _BETWEEN_KEYS.split(_hide_texts(text)))


def _is_too_long(value: object) -> bool:
    """Return whether a whole number of a document is beyond TOML's 64 bits; Python reads and cannot write it."""
    if isinstance(value, dict):
        return any(_is_too_long(item) for item in cast("dict[str, object]", value).values())
    if isinstance(value, list):
        return any(_is_too_long(item) for item in cast("list[object]", value))
    return isinstance(value, int) and not -(2**63) <= value < 2**63


def key_hint(key: str, known: Sequence[str]) -> str:
    """
    Return what to do about an unknown key.

    >>> key_hint("max_used", ["max_usd", "max_hours"])
    'did you mean max_usd?'
    """
    near = get_close_matches(key, known, n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else f"known are: {', '.join(known)}"


def describe_invalid(error: ValidationError, model: type[BaseModel]) -> str:
    """Return the first problem of a table that a model describes, with what to do about an unknown key."""
    first = error.errors(include_url=False)[0]
    if first["type"] != "extra_forbidden":
        return first_problem(error)
    key = str(first["loc"][0])
    return f"unknown key {key!r}; {key_hint(key, list(model.model_fields))}"


def line_of_key(content: bytes, path: Sequence[str | int]) -> int | None:
    r"""
    Return the line, from 1, of the statement that brings a key into a TOML file; None where it is not there.

    Each statement is parsed by itself, so that the time grows with the length of the file alone.

    >>> line_of_key(b'[jobs.a]\ntarget = "x.py:job"\nmax_usd = 5\n', ("jobs", "a", "max_usd"))
    3

    Args:
        content: the bytes of a valid TOML file.
        path: names of tables and keys, and places in arrays, from 0.
    """
    text = content.decode("utf-8")
    lines, end_lines = text.split("\n"), _find_ends(text)
    table: _Path = ()
    lengths: dict[_Path, int] = {}
    begin = 0
    for end in end_lines:
        statement = "\n".join(lines[begin:end]).strip()
        if statement and not statement.startswith("#"):
            document = tomllib.loads(statement)
            if statement.startswith("["):
                table = _enter_table(document, lengths)
                document = {}
            if table[: len(path)] == tuple(path) or (
                tuple(path[: len(table)]) == table and _has(document, path[len(table) :])
            ):
                return begin + 1
        begin = end
    return None


def _find_ends(text: str) -> list[int]:
    """Return how many lines stand before the end of each statement: those of arrays and texts are one statement."""
    depth, end_lines = 0, list[int]()
    for number, line in enumerate(_hide_texts(text).split("\n"), 1):
        depth += line.count("[") + line.count("{") - line.count("]") - line.count("}")
        if depth == 0 and _CONTINUED not in line:
            end_lines.append(number)
    return end_lines


def _hide_texts(text: str) -> str:
    """Replace each text by `_` and leave comments out; each line that ends inside a text has a mark."""
    return _TEXTS.sub(
        lambda match: "" if match[0][0] == "#" else "_" + match[0].count("\n") * f"{_CONTINUED}\n", text
    )


def _enter_table(header: dict[str, object], lengths: dict[_Path, int]) -> _Path:
    """
    Return the path of the table that a header opens.

    Args:
        header: the document of the header alone.
        lengths: of the arrays of tables so far, by their paths; a header `[[x]]` makes one longer.
    """
    parts: list[str | int] = []
    inner = header
    while inner:
        ((name, value),) = inner.items()
        parts.append(name)
        inner = cast("dict[str, object]", value) if isinstance(value, dict) else {}
        path = tuple(parts)
        if isinstance(value, list):
            lengths[path] = lengths.get(path, 0) + 1
        if path in lengths:
            parts.append(lengths[path] - 1)
    return tuple(parts)


def _has(document: object, path: Sequence[str | int]) -> bool:
    for part in path:
        if isinstance(document, dict) and part in document:
            document = cast("dict[object, object]", document)[part]
        elif (
            isinstance(document, list)
            and isinstance(part, int)
            and part < len(cast("list[object]", document))
        ):
            document = cast("list[object]", document)[part]
        else:
            return False
    return True
