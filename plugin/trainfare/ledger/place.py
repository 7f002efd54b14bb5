"""Where runs are recorded: `TRAINFARE_LEDGER`, else the table `ledger` of the settings, else the user's data folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trainfare.prices.run_cost_table import read_one_table
from trainfare_core.errors import InputError
from trainfare_core.ledger.run_record import OFF, LedgerSettings

LEDGER_VARIABLE: Final = "TRAINFARE_LEDGER"


@dataclass(frozen=True, slots=True)
class LedgerPlace:
    """Where the runs of this working folder are recorded."""

    folder: Path
    """Of the ledger; it may not exist."""
    project: str


def find_ledger(environ: Mapping[str, str] = os.environ, folder: Path = Path()) -> LedgerPlace | None:
    """
    Return where runs are recorded; None where that is off.

    Args:
        environ: variables of the process.
        folder: with the settings, of which relative names are.

    Raises:
        InputError: the settings cannot be read, or name no folder.
    """
    named = environ.get(LEDGER_VARIABLE)
    if named == OFF:
        return None
    settings = read_one_table("ledger", LedgerSettings, folder)
    named = named or settings.folder
    if named == OFF:
        return None
    project = settings.project or _name_project(folder.resolve())
    return LedgerPlace(folder / read_folder(named), project[:200])


def read_folder(named: str | None) -> Path:
    """
    Return the folder of a ledger by its name; None: that of the user.

    Raises:
        InputError: it is the address of a bucket.
    """
    if named is None:
        import platformdirs

        return platformdirs.user_data_path("trainfare", appauthor=False) / "ledger"
    if "://" in named:
        raise InputError(f"ledger {named}: a ledger is a folder; mount the bucket and name the folder")
    return Path(named).expanduser()


def _name_project(folder: Path) -> str:
    """Return the name of the git repository around a folder, else that of the folder."""
    root = next((part for part in (folder, *folder.parents) if (part / ".git").exists()), folder)
    return root.name
