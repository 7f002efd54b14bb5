"""The runs of a job's project in a ledger, by which its next prediction is corrected."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from trainfare.ledger.place import LEDGER_VARIABLE, find_ledger
from trainfare.ledger.store import name_folder, read_records
from trainfare_core.errors import InputError
from trainfare_core.ledger.correction import choose_earlier_runs

if TYPE_CHECKING:
    from trainfare_core.earlier_runs import EarlierRuns
    from trainfare_core.job_profile import JobProfile

_MOST_FILES: Final = 500
"""The newest of a project that are read, in some 0.1 s: ten dies with as many runs as count. A chosen value."""
_NOT_SET: Final = ("", "0", "false")


def read_earlier_runs(
    profile: JobProfile,
    named: str | Path | None = None,
    environ: Mapping[str, str] = os.environ,
    *,
    locked: bool = False,
) -> tuple[EarlierRuns, ...]:
    """
    Return what the runs of this working folder's project in a ledger say of a job.

    Args:
        profile: the job.
        named: folder of the ledger; None: the user's, but none in CI or with locked prices, which give the same bytes
            everywhere.
        environ: variables of the process.
        locked: the prices are those of a lock.

    Raises:
        InputError: there is no folder of that name, or the settings cannot be read.
    """
    if named is None and (locked or environ.get("CI", "").lower() not in _NOT_SET):
        return ()
    place = find_ledger(environ if named is None else {**environ, LEDGER_VARIABLE: str(named)})
    if named is not None and (place is None or not place.folder.is_dir()):
        raise InputError(f"ledger {named}: there is no such folder")
    if place is None:
        return ()
    paths = sorted((place.folder / name_folder(place.project)).glob("*.json"))[-_MOST_FILES:]
    records = (record for record in read_records(paths) if record.project == place.project)
    return choose_earlier_runs(profile, records)
