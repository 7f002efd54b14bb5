"""Strict JSON: numbers keep their digits; repeated names, NaN, Infinity and deep nesting are errors."""

from __future__ import annotations

import json
from decimal import Decimal, InvalidOperation
from typing import Final, NoReturn

from trainfare_core.documents import MAX_DEPTH, is_too_deep

_MAX_NUMBER: Final = 60
"""Characters: converting a long text of digits to an int takes quadratic time, and no price has so many."""


def parse_json(body: bytes) -> object:
    """
    Parse JSON; numbers become int or `Decimal` with all their digits.

    Raises:
        ValueError: not UTF-8, not JSON, NaN or Infinity, a name twice in one object, a number of more than 60
            characters, nested deeper than 64. The message quotes nothing of the text.
    """
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    try:
        value: object = json.loads(
            text,
            parse_float=_decimal,
            parse_int=_integer,
            parse_constant=_no_constant,
            object_pairs_hook=_no_repeats,
        )
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON at line {error.lineno}") from None
    except RecursionError:
        raise ValueError(f"it is nested deeper than {MAX_DEPTH}") from None
    if is_too_deep(value):
        raise ValueError(f"it is nested deeper than {MAX_DEPTH}")
    return value


def _decimal(text: str) -> Decimal:
    if len(text) > _MAX_NUMBER:
        raise ValueError("it holds a number too long to be one")
    try:
        return Decimal(text)
    except InvalidOperation:
        raise ValueError("it holds a number that cannot be read") from None


def _integer(text: str) -> int:
    if len(text) > _MAX_NUMBER:
        raise ValueError("it holds a number too long to be one")
    return int(text)


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"it holds {text}, which is no number")


def _no_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    entries = dict(pairs)
    if len(entries) != len(pairs):
        raise ValueError("an object has a name twice")
    return entries
