"""YAML of plain values: texts of several lines as block scalars, which people read, and others quoted as in JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, cast

from trainfare_core.documents import escape_controls

_PLAIN_KEY: Final = re.compile(r"\$?[A-Za-z_][A-Za-z0-9_-]*")


def format_yaml(document: Mapping[str, Any], facts: Sequence[str] = ()) -> str:
    r"""
    Return YAML text, comments first.

    >>> print(format_yaml({"run": "a \\\\\\n  b", "machines": [{"name": "x"}], "nodes": 2}, ["of 2026"]), end="")
    # of 2026
    run: |
      a \\
        b
    machines:
      -
        name: "x"
    nodes: 2
    """
    return "".join(f"{line}\n" for line in (*(f"# {fact}" for fact in facts), *_list_lines(document)))


def _list_lines(value: Mapping[str, Any] | Sequence[Any]) -> Iterator[str]:
    entries = (
        [(f"{_write_key(key)}:", inner) for key, inner in value.items()]
        if isinstance(value, Mapping)
        else [("-", inner) for inner in value]
    )
    for name, inner in entries:
        if isinstance(inner, Mapping | list) and inner:
            yield name
            yield from (f"  {line}" for line in _list_lines(cast("Mapping[str, Any] | list[Any]", inner)))
        elif isinstance(inner, str) and "\n" in inner and _is_readable(inner):
            yield f"{name} |" + "-" * (not inner.endswith("\n"))
            yield from (f"  {line}" for line in inner.splitlines())
        else:
            yield f"{name} {escape_controls(json.dumps(inner, ensure_ascii=False))}"


def _write_key(key: str) -> str:
    return key if _PLAIN_KEY.fullmatch(key) else json.dumps(key)


def _is_readable(text: str) -> bool:
    """Return whether a block scalar gives the text back: one that begins with no space and has no blank end."""
    return text.replace("\n", "").isprintable() and text.strip() == text.removesuffix("\n")
