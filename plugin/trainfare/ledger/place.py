"""
Where runs are recorded: `TRAINFARE_LEDGER`, else the table `ledger` of the settings, else the user's data folder.

The place is a local folder, or a folder in a bucket, which is still there when the machine is gone.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from trainfare.prices.run_cost_table import read_one_table
from trainfare_core.ledger.run_record import OFF, LedgerSettings
from trainfare_providers.buckets import check_address, is_address

LEDGER_VARIABLE: Final = "TRAINFARE_LEDGER"
PROJECT_VARIABLE: Final = "TRAINFARE_PROJECT"
"""Name of the project where the settings state none: a rented machine has no repository whose name it could take."""
FILL_IN: Final = "FILL_IN_LEDGER"
"""What a launch file says where no bucket is known; a run that finds it unchanged takes it for nothing."""


@dataclass(frozen=True, slots=True)
class BucketAddress:
    """A ledger in a bucket; a `Path` would make `s3:/b` of `s3://b`."""

    address: str
    """As `trainfare_providers.buckets.check_address` returns it."""

    def __str__(self) -> str:
        return self.address


LedgerFolder: TypeAlias = "Path | BucketAddress"


@dataclass(frozen=True, slots=True)
class LedgerPlace:
    """Where the runs of this working folder are recorded."""

    folder: LedgerFolder
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
    named = None if named == FILL_IN else named
    if named == OFF:
        return None
    settings = read_one_table("ledger", LedgerSettings, folder)
    named = named or settings.folder
    if named == OFF:
        return None
    project = settings.project or environ.get(PROJECT_VARIABLE) or _name_project(folder.resolve())
    place = read_folder(named)
    return LedgerPlace(folder / place if isinstance(place, Path) else place, project[:200])


def read_folder(named: str | None) -> LedgerFolder:
    """
    Return the folder of a ledger by its name, or the address of its bucket; None: the folder of the user.

    Raises:
        InputError: an address that is none of a bucket.
    """
    if named is None:
        import platformdirs

        return platformdirs.user_data_path("trainfare", appauthor=False) / "ledger"
    if is_address(named):
        return BucketAddress(check_address(named))
    return Path(named).expanduser()


def _name_project(folder: Path) -> str:
    """Return the name of the git repository around a folder, else that of the folder."""
    root = next((part for part in (folder, *folder.parents) if (part / ".git").exists()), folder)
    return root.name
