"""
What the process of a TARGET does not get: credentials, and the files by which one step of a CI job steers the next.

This is not a sandbox: the code has the rights of the command's user. docs/exit-codes.md says what it protects from.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

from trainfare.job import RANK_OF_ONE

with Path(__file__).with_name("withheld_variables.csv").open(encoding="utf-8") as _table:
    PATTERNS: Final = tuple(row["pattern"] for row in csv.DictReader(_table))
"""Names of variables that are withheld, in capitals; docs/exit-codes.md lists them."""

_asked: dict[str, None] = {}
"""Withheld variables that the code of this process has looked up."""


def environment_of(environment: Mapping[str, str], passed: Iterable[str] = ()) -> dict[str, str]:
    """
    Return the variables that the process of a TARGET gets, with the order of sets that is the same each time.

    The rank that a launcher gave the command is left out: the process is alone, and would wait for the others.

    Args:
        environment: of the command.
        passed: names that it gets all the same.
    """
    withheld = {*list_withheld(environment, passed), *(RANK_OF_ONE.keys() - {*passed})}
    kept = {name: value for name, value in environment.items() if name not in withheld}
    if kept.get("PYTHONHASHSEED", "random") == "random":
        kept["PYTHONHASHSEED"] = "0"
    return kept


def list_withheld(environment: Iterable[str], passed: Iterable[str] = ()) -> tuple[str, ...]:
    """Return which variables the process of a TARGET does not get; see `environment_of`."""
    given = {*passed}
    return tuple(
        sorted(
            name
            for name in environment
            if name not in given and any(fnmatchcase(name.upper(), pattern) for pattern in PATTERNS)
        )
    )


def note_lookups(withheld: Iterable[str]) -> None:
    """Note from now on which of these variables the code of this process looks up, for `explain_withheld`."""
    names = frozenset(withheld)

    class Noting(os._Environ[str]):  # noqa: SLF001 - the class of `os.environ` # pyright: ignore[reportPrivateUsage]
        def __getitem__(self, key: str) -> str:
            if key in names:
                _asked[key] = None
            return super().__getitem__(key)

    environment: Any = os.environ
    environment.__class__ = Noting  # of the same object, which other modules hold already


def explain_withheld(message: str) -> str:
    """Return an error of the code, with the variables that it looked up and did not get."""
    names = [name for name in _asked if f"--pass-env {name}" not in message]
    if not names:
        return message
    given = " ".join(f"--pass-env {name}" for name in names)
    return f"{message}; {', '.join(names)}: withheld from the code of a TARGET, {given} passes it on"
