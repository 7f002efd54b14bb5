"""The runs of a job's project in a ledger, by which its next prediction is corrected."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from trainfare.ledger.place import LEDGER_VARIABLE, LedgerPlace, find_ledger
from trainfare.ledger.store import name_folder, read_records
from trainfare_core.errors import InputError
from trainfare_core.ledger.correction import choose_earlier_runs
from trainfare_core.ledger.run_record import identify_job

if TYPE_CHECKING:
    from trainfare_core.earlier_runs import EarlierRuns
    from trainfare_core.job_profile import JobProfile
    from trainfare_core.ledger.run_record import RunRecord

_MOST_FILES: Final = 500
"""The newest of a project that are read, in some 0.1 s: ten dies with as many runs as count. A chosen value."""
_SHOWN_RUNS: Final = 3
"""Chosen: what a glance takes in beside a prediction."""
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
    place = find_ledger(environ) if named is None else find_named_ledger(named)
    return () if place is None else choose_earlier_runs(profile, _read_newest(place))


def find_named_ledger(named: str | Path) -> LedgerPlace:
    """
    Return a ledger with the project of this working folder.

    Raises:
        InputError: there is no folder of that name, or the settings cannot be read.
    """
    place = find_ledger({LEDGER_VARIABLE: str(named)})
    if place is None or not place.folder.is_dir():
        raise InputError(f"ledger {named}: there is no such folder")
    return place


def list_last_runs(profiles: Iterable[JobProfile], place: LedgerPlace) -> tuple[RunRecord, ...]:
    """
    Return the last runs of a job that have ended, newest first: for the comment of a change and for the report's page.

    Args:
        profiles: the job, also as it was before a change: a run is of the job if its traced step is that of one.
        place: the ledger and the project.
    """
    jobs = set(map(identify_job, profiles))
    runs = [run for run in _read_newest(place) if run.job_fingerprint in jobs and run.ended_at is not None]
    return tuple(reversed(runs[-_SHOWN_RUNS:]))


def _read_newest(place: LedgerPlace) -> list[RunRecord]:
    """Return the newest runs of the project; a file that holds none, or is of another project, is left out."""
    paths = sorted((place.folder / name_folder(place.project)).glob("*.json"))[-_MOST_FILES:]
    return [record for record in read_records(paths) if record.project == place.project]
