"""Read one table of `trainfare.toml` or of `[tool.trainfare]`, such as `run_cost`, the user's own figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar, cast

from trainfare_core.errors import InputError

if TYPE_CHECKING:
    from pydantic import BaseModel

    from trainfare_core.limits.cost_assumptions import CostAssumptions

_Model = TypeVar("_Model", bound="BaseModel")

OWN_FILE: Final = "trainfare.toml"
PROJECT_FILE: Final = "pyproject.toml"
PROJECT_TABLE: Final = ("tool", "trainfare")
"""The table of `PROJECT_FILE` that has what `OWN_FILE` has at its top."""

_MAX_BYTES: Final = 2**20
"""Largest file that is read. A chosen value, against reading a wrong file."""


def read_run_cost(folder: Path = Path()) -> CostAssumptions:
    """
    Read the table `run_cost`; see `read_one_table`.

    Args:
        folder: where `trainfare.toml` and `pyproject.toml` are looked for.

    Raises:
        InputError: see `read_one_table`.
    """
    from trainfare_core.limits.cost_assumptions import CostAssumptions

    return read_one_table("run_cost", CostAssumptions, folder)


def read_one_table(name: str, model: type[_Model], folder: Path = Path()) -> _Model:
    """
    Read one table of the user's settings; the rest of the file is not looked at.

    Args:
        name: of the table.
        model: of its keys.
        folder: where `trainfare.toml` and `pyproject.toml` are looked for.

    Returns:
        What is stated; the defaults where there is no such table.

    Raises:
        InputError: a file is not TOML, both have the table, or it has an unknown key or a bad value.
    """
    files = [folder / file for file in (OWN_FILE, PROJECT_FILE)]
    tables = [
        (path, stated) for path in files if path.is_file() and (stated := _read_table(path, name)) is not None
    ]
    if not tables:
        return model()
    if len(tables) > 1:
        raise InputError(f"{tables[0][0]} and {tables[1][0]} both have the table {name}: keep one")
    from pydantic import ValidationError

    from trainfare_providers.disk.toml_file import describe_invalid

    path, stated = tables[0]
    try:
        return model.model_validate_json(json.dumps(stated, default=str), strict=True)
    except ValidationError as error:
        raise InputError(f"{path}: table {name}: {describe_invalid(error, model)}") from error


def _read_table(path: Path, name: str) -> object:
    from trainfare_providers.disk.files import read_input
    from trainfare_providers.disk.toml_file import parse_toml

    content = read_input(path, _MAX_BYTES, label="settings ", kind="settings")
    table: object = parse_toml(content, where=str(path))
    inside = PROJECT_TABLE if path.name == PROJECT_FILE else ()
    for part in (*inside, name):
        table = cast("dict[object, object]", table).get(part) if isinstance(table, dict) else None
    return table
