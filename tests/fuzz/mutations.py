"""Change a document so that it often stays one: bytes changed at random are refused by the first parser they meet."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from random import Random
from typing import Any, Final, TypeAlias

from fuzz.target import Form

ByteMutator: TypeAlias = Callable[[bytes, int], bytes]
"""Takes bytes and the greatest length of what it returns: libFuzzer's own mutations."""

_RAW: Final = "\x00raw:"
"""Begins a text that is written into JSON without its quotes: for numbers that Python's writer would change."""

_JUNK: Final = (
    *(None, True, False, 0, -1, 1, 7, 0.5, 1e-300, 1e300, 2**31, 2**63, 10**18, 10**30, -(10**30), 65536),
    *("", " ", "nan", "inf", "1e400", "1_000", "-1", "0", "1E+999999999", "٣", "\ud800", "a\x00b", "x" * 300, "<script>", "=cmd()"),
    *("\u202e\x1b[31m", "a\nb", "../../etc/passwd", "2026-07-01", "2026-99-99", "9999-12-31", "0001-01-01", "USD", "CNY"),
    *(_RAW + text for text in ("1e400", "-1e400", "NaN", "Infinity", "1e-400", "-0.0", "1E+999999", "1E+999999999", "1E-999999999", "9" * 5000, "0.1" + "0" * 99)),
    *([], {}, [[]], [None], {"": None}, [0] * 40),
)  # fmt: skip
_WORDS: Final = (
    *("nan", "inf", "-inf", "1e400", "-1", "0", "0.1", "true", '""', "''", "[]", "{}", "[[]]", '"\\u0000"', "9" * 5000, "1e99999999999999999999"),
    *("2026-07-01", "2026-99-99", "9999-12-31T23:59:59Z", "12:34:56", "0x7f", "0o7", "1_0", '"""', "'''", "null", "~"),
    *("!!int ''", "!!float ''", "!!bool maybe", "!!timestamp x", "!!binary x", "!!set {a}", "!!omap [a]", "&a", "*a", "<<: {}", "? ", "- "),
    *("\ufeff", "\x00", "é", "\u2028", "#", ",", "=", ":", '"', "\r", "\t", "١٢"),
)  # fmt: skip


def mutate(form: Form, data: bytes, max_bytes: int, dice: Random, by_bytes: ByteMutator) -> bytes:
    """
    Return a changed input of at most `max_bytes`.

    Args:
        form: of the document.
        data: what to change; need not be a document.
        max_bytes: of the result.
        dice: the chance.
        by_bytes: changes that know no form; one in eight is made by it, so that what is no document comes too.
    """
    change = {"json": _json, "json lines": _json_lines, "csv": _csv, "text": _text, "bytes": None}[form]
    if change is not None and dice.random() > 1 / 8:
        content = change(data, dice)
        if content is not None and len(content) <= max_bytes:
            return content
    return by_bytes(data, max_bytes)


def _json(data: bytes, dice: Random) -> bytes | None:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    for _ in range(dice.choice((1, 1, 2, 4))):
        value = _change_value(value, dice)
    try:
        text = json.dumps(value, ensure_ascii=dice.random() < 0.9, separators=(",", ":"))
    except (ValueError, RecursionError):
        return None
    for raw in (word for word in _JUNK if isinstance(word, str) and word.startswith(_RAW)):
        text = text.replace(json.dumps(raw), raw.removeprefix(_RAW))
    return text.encode("utf-8", "surrogatepass")


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Return every container in a value with each of its keys."""
    found: list[tuple[Any, Any]] = []
    left = [value]
    while left:
        fields = left.pop()
        keys = (
            list(fields)
            if isinstance(fields, dict)
            else range(len(fields))
            if isinstance(fields, list)
            else ()
        )
        found += [(fields, key) for key in keys]
        left += [fields[key] for key in keys]
    return found


def _change_value(value: Any, dice: Random) -> Any:
    places = _places(value)
    if not places:
        return copy.deepcopy(dice.choice(_JUNK))
    inside, key = dice.choice(places)
    way = dice.randrange(8)
    if way <= 2:
        inside[key] = copy.deepcopy(dice.choice(_JUNK))
    elif way == 3:
        del inside[key]
    elif way == 4:  # what another place holds: of the right type more often than junk
        other, there = dice.choice(places)
        inside[key] = copy.deepcopy(other[there])
    elif way == 5 and isinstance(inside, list):
        inside.insert(key, copy.deepcopy(inside[key]))
    elif way == 5:
        inside[str(key) + dice.choice(("", "s", "\x00", "_"))] = inside[key]
    elif way == 6 and isinstance(inside[key], (int, float)) and not isinstance(inside[key], bool):
        inside[key] = dice.choice((-inside[key], inside[key] * 10**9, inside[key] + 1, str(inside[key])))
    elif way == 6 and isinstance(inside[key], str):
        inside[key] = inside[key][: dice.randint(0, len(inside[key]))] + dice.choice(("", "é", "\x00", "9"))
    else:
        inside[key] = dice.choice(([inside[key]], {"": inside[key]}))
    return value


def _json_lines(data: bytes, dice: Random) -> bytes | None:
    lines = data.split(b"\n")
    at = dice.randrange(len(lines))
    way = dice.randrange(6)
    if way == 0:
        lines.insert(at, lines[dice.randrange(len(lines))])
    elif way == 1:
        del lines[at]
    else:
        content = _json(lines[at], dice)
        if content is None:
            return None
        lines[at] = content.replace(b"\n", b" ")
    return b"\n".join(lines)


def _csv(data: bytes, dice: Random) -> bytes | None:
    lines = [line.split(",") for line in data.decode("utf-8", "surrogateescape").split("\n")]
    row = dice.choice(lines)
    at, way = dice.randrange(len(row)), dice.randrange(7)
    if way <= 2:
        junk = dice.choice(_JUNK + _WORDS)
        row[at] = junk.removeprefix(_RAW) if isinstance(junk, str) else str(junk)
    elif way == 3:
        row[at] = dice.choice(dice.choice(lines))
    elif way == 4:
        lines.insert(dice.randrange(len(lines)), list(row))
    elif way == 5 and len(lines) > 1:
        lines.remove(row)
    else:
        row[at : at + 1] = dice.choice(([], [row[at], row[at]], [f'"{row[at]}']))
    return "\n".join(map(",".join, lines)).encode("utf-8", "surrogatepass")


def _text(data: bytes, dice: Random) -> bytes | None:
    """TOML and YAML: lines, and the value that stands behind a sign."""
    lines = data.decode("utf-8", "surrogateescape").split("\n")
    at, way = dice.randrange(len(lines)), dice.randrange(8)
    line = lines[at]
    if way <= 2 and any(sign in line for sign in "=:"):
        sign = "=" if "=" in line else ":"
        key, _, value = line.partition(sign)
        word = dice.choice((*_WORDS, value.strip() + dice.choice(_WORDS), f"[{value.strip()}]"))
        lines[at] = dice.choice((f"{key}{sign} {word}", f"{key}x{sign}{value}", f"{word}{sign}{value}"))
    elif way <= 2 and line.startswith("["):  # a table of TOML becomes something else
        lines[at] = dice.choice((f"{line.strip('[]')} = {dice.choice(_WORDS)}", f"[{line}]", line.strip("[")))
    elif way == 3:
        lines.insert(at, dice.choice(lines))
    elif way == 4:
        del lines[at]
    elif way == 5:
        index = dice.randint(0, len(line))
        lines[at] = line[:index] + dice.choice(_WORDS) + line[index:]
    elif way == 6:
        lines[at] = dice.choice((f"  {line}", line.lstrip(), f"{line} #", line[: dice.randint(0, len(line))]))
    else:
        first, last = sorted((at, dice.randrange(len(lines))))
        lines[first], lines[last] = lines[last], lines[first]
    return "\n".join(lines).encode("utf-8", "surrogateescape")
