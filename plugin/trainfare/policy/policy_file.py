"""
Read a policy: `trainfare.toml`, or the table `[tool.trainfare]` of `pyproject.toml`.

    [jobs.resnet]
    target = "train.py:job"
    max_usd = 500
    max_increase_percent = 10
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias, cast

from pydantic import BaseModel, ValidationError

from trainfare.job import script_of, target_of
from trainfare.prices.run_cost_table import OWN_FILE, PROJECT_FILE, PROJECT_TABLE
from trainfare_core.errors import InputError
from trainfare_core.ledger.run_record import LedgerSettings
from trainfare_core.limits.cost_assumptions import CostAssumptions
from trainfare_core.policy.policy import AllowList, Policy, PolicyJob, Waiver
from trainfare_core.recommendation import Launch
from trainfare_providers.disk.files import read_input
from trainfare_providers.disk.toml_file import key_hint, line_of_key, parse_toml

MAX_BYTES: Final = 2**20
"""Largest file that is read. A chosen value, against reading a wrong file."""

_SHOWN: Final = 5
"""Problems named at once. A chosen value: what one looks through before trying again."""

_LONGEST_KEY: Final = 80
"""Characters of an unknown key that are shown; no key of ours has half as many."""

_TABLES: Final[dict[object, type[BaseModel]]] = {
    "run_cost": CostAssumptions,
    "export": Launch,
    "ledger": LedgerSettings,
}
"""Tables of a policy that other commands read as well."""

_Path: TypeAlias = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class PolicyFile:
    """
    A policy and where it was read.

    Attributes:
        policy: its content.
        path: the file.
    """

    policy: Policy
    path: Path

    def beside(self, name: str) -> Path:
        """Return a path that the file gives, which is relative to its folder."""
        return self.path.parent / name

    def target_of(self, job: str) -> str:
        """Return a job's target as seen from the current folder; a module is not a path and stays as it is."""
        target = self.policy.jobs[job].target
        script = script_of(target)
        if script is not None:
            return target if script.is_module else target_of(str(self.beside(script.name)), script.arguments)
        path, colon, name = target.rpartition(":")
        if colon and not path.endswith(".py"):
            return target
        if colon:
            return f"{self.beside(path)}:{name}"
        file = str(self.beside(target))
        return "./-" if file == "-" else file  # a file of that name, not standard input, which may never end


def read_policy(path: Path | None, folder: Path = Path()) -> PolicyFile:
    """
    Read and check a policy.

    Args:
        path: the file; None looks for `trainfare.toml` and `pyproject.toml` in `folder`.
        folder: where to look.

    Raises:
        InputError: there is no policy, or two; it is not TOML, or has an unknown key or a bad value. The message has
            the file, the line and the table, and a near key.
    """
    if path is not None:
        file = read_file(path)
        if file is None:
            raise InputError(f"{path}: it has no table [tool.trainfare]")
        return file
    both = [
        read
        for name in (OWN_FILE, PROJECT_FILE)
        if (folder / name).is_file() and (read := read_file(folder / name))
    ]
    if not both:
        raise InputError(
            f"nothing to check: give a TARGET with --max-usd or --deadline, or a policy in {OWN_FILE} or in "
            f"[tool.trainfare] of {PROJECT_FILE}; docs/policy.md has an example"
        )
    if len(both) > 1:
        raise InputError(
            f"{both[0].path} and [tool.trainfare] of {both[1].path} both hold a policy: keep one"
        )
    return both[0]


def read_file(path: Path) -> PolicyFile | None:
    """
    Read one file; None for a `pyproject.toml` without a policy.

    Raises:
        InputError: see `read_policy`.
    """
    content = read_input(path, MAX_BYTES, label="policy ", kind="a policy")
    document = parse_toml(content, where=f"policy {path}")
    inside: _Path = PROJECT_TABLE if path.name == PROJECT_FILE else ()
    table: Any = document
    for part in inside:
        table = cast("dict[object, Any]", table).get(part) if isinstance(table, dict) else None
    if table is None:
        return None
    # As JSON, pydantic can be strict about types and still take an array for a tuple and text for a date.
    text = json.dumps(table, default=str)
    try:
        return PolicyFile(Policy.model_validate_json(text, strict=True), path)
    except ValidationError as error:
        wrong = _Wrong(path, content, inside)
        lines = [wrong.sentence(detail) for detail in error.errors(include_url=False)[:_SHOWN]]
        raise InputError("; ".join(lines)) from error


@dataclass(frozen=True, slots=True)
class _Wrong:
    """The words for what is wrong in a file; `inside` is the table that holds the policy."""

    path: Path
    content: bytes
    inside: _Path

    def sentence(self, problem: Any) -> str:
        """Return one problem as 'file:line: [table] what, and what to do'."""
        where: _Path = tuple(part for part in problem["loc"] if part != "[key]")
        kind = str(problem["type"])
        if kind == "waiver":
            where = ("waivers", int(problem["ctx"]["place"]))
        if kind == "extra_forbidden":
            known = list(_model_of(where[:-1]).model_fields)
            unknown = str(where[-1])[:_LONGEST_KEY]
            hint = key_hint(unknown, known)
            if where == ("tool",):
                hint = f"in {self.path.name} the keys stand at the top, without [tool.trainfare]"
            return f"{self._at(where, where[:-1])}unknown key {unknown!r}; {hint}"
        if kind == "missing":
            return f"{self._at(where[:-1], where[:-1])}{where[-1]} is missing"
        text = str(problem["msg"]).removeprefix("Value error, ")
        if kind in ("dict_type", "model_type", "model_attributes_type"):
            text = "give a table"
        table = where if kind in ("waiver", "value_error") else where[: _depth_of_table(where)]
        key = ".".join(str(part) for part in where[len(table) :])
        return f"{self._at(where, table)}{key}{': ' if key else ''}{text}"

    def _at(self, where: _Path, table: _Path) -> str:
        line = line_of_key(self.content, (*self.inside, *where))
        position = f"{self.path}:{line}" if line is not None else str(self.path)
        full = (*self.inside, *table)
        if not full:
            return f"{position}: "
        if table[:1] == ("waivers",) and len(table) == 2:
            names = ".".join(str(part) for part in full[:-1])
            return f"{position}: [[{names}]] {int(table[1]) + 1}: "
        return f"{position}: [{'.'.join(str(part) for part in full)}]: "


def _model_of(table: _Path) -> type[BaseModel]:
    """Return the model of a table."""
    if table[-1:] == ("allow",):
        return AllowList
    if len(table) == 1 and table[0] in _TABLES:
        return _TABLES[table[0]]
    if table[:1] == ("jobs",) and len(table) == 2:
        return PolicyJob
    return Waiver if table[:1] == ("waivers",) else Policy


def _depth_of_table(where: _Path) -> int:
    """Return how many parts of a key's path name its table."""
    if where and where[0] in ("allow", *_TABLES):
        return 1
    if where[:1] == ("jobs",):
        return 3 if where[2:3] == ("allow",) else 2
    return 2 if where[:1] == ("waivers",) else 0
