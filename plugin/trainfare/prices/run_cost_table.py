"""Read the user's own figures of a run's cost: the table `run_cost` of `trainfare.toml` or of `[tool.trainfare]`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from trainfare_core.errors import InputError

if TYPE_CHECKING:
    from trainfare_core.cost_assumptions import CostAssumptions

OWN_FILE: Final = "trainfare.toml"
PROJECT_FILE: Final = "pyproject.toml"
PROJECT_TABLE: Final = ("tool", "trainfare")
"""The table of `PROJECT_FILE` that has what `OWN_FILE` has at its top."""

_MAX_BYTES: Final = 2**20
"""Largest file that is read. A chosen value, against reading a wrong file."""


def read_run_cost(folder: Path = Path()) -> CostAssumptions:
    """
    Read the table `run_cost`; the rest of the file is not looked at.

    Args:
        folder: where `trainfare.toml` and `pyproject.toml` are looked for.

    Returns:
        What is stated; nothing where there is no such table.

    Raises:
        InputError: a file is not TOML, both have the table, or it has an unknown key or a bad value.
    """
    from trainfare_core.cost_assumptions import CostAssumptions

    files = [folder / name for name in (OWN_FILE, PROJECT_FILE)]
    tables = [
        (path, stated) for path in files if path.is_file() and (stated := _read_table(path)) is not None
    ]
    if not tables:
        return CostAssumptions()
    if len(tables) > 1:
        raise InputError(f"{tables[0][0]} and {tables[1][0]} both have the table run_cost: keep one")
    from pydantic import ValidationError

    from trainfare_providers.disk.toml_file import describe_invalid

    path, stated = tables[0]
    try:
        return CostAssumptions.model_validate_json(json.dumps(stated, default=str), strict=True)
    except ValidationError as error:
        problem = describe_invalid(error, CostAssumptions)
        raise InputError(f"{path}: table run_cost: {problem}") from error


def _read_table(path: Path) -> object:
    from trainfare_providers.disk.files import read_input
    from trainfare_providers.disk.toml_file import parse_toml

    content = read_input(path, _MAX_BYTES, label="settings ", kind="settings")
    table: object = parse_toml(content, where=str(path))
    inside = PROJECT_TABLE if path.name == PROJECT_FILE else ()
    for part in (*inside, "run_cost"):
        table = cast("dict[object, object]", table).get(part) if isinstance(table, dict) else None
    return table
