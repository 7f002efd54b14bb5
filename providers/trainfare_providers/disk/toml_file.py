"""TOML that a user wrote: its content, and the line on which a key stands."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any, cast

from trainfare_core.documents import MAX_DEPTH, is_too_deep
from trainfare_core.errors import InputError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


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


def line_of_key(content: bytes, path: Sequence[str | int]) -> int | None:
    r"""
    Return the line, from 1, of the statement that brings a key into a TOML file; None where it is not there.

    It is the first line after which the text up to there has the key. That text is parsed, so a key in a comment or
    in a string of several lines is not taken for one.

    >>> line_of_key(b'[jobs.a]\ntarget = "x.py:job"\nmax_usd = 5\n', ("jobs", "a", "max_usd"))
    3

    Args:
        content: the bytes of a valid TOML file.
        path: names of tables and keys, and places in arrays, from 0.
    """
    lines = re.findall(r"[^\n]*\n|[^\n]+$", content.decode("utf-8"))
    below, above = 0, len(lines)
    if not _has(_parse_lines(lines), path):
        return None
    while above - below > 1:
        middle = (below + above) // 2
        # Text that ends inside a value of several lines is not TOML: the nearest end of a statement is looked for.
        ends = (*range(middle, above), *range(middle - 1, below, -1))
        end_and_document = next(
            ((end, document) for end in ends if (document := _parse_lines(lines[:end])) is not None), None
        )
        if end_and_document is None:
            break
        below, above = (
            (below, end_and_document[0]) if _has(end_and_document[1], path) else (end_and_document[0], above)
        )
    return below + 1


def _parse_lines(lines: Sequence[str]) -> dict[str, object] | None:
    try:
        return cast("dict[str, object]", tomllib.loads("".join(lines)))
    except tomllib.TOMLDecodeError:
        return None


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
