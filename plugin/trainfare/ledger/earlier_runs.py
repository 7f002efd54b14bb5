"""What a ledger holds that corrects the next prediction: runs of the job's project, and figures of devices."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from trainfare.ledger.bucket import DEVICES, fetch_folder, write_object
from trainfare.ledger.place import LEDGER_VARIABLE, LedgerFolder, LedgerPlace, find_ledger
from trainfare.ledger.store import name_folder, read_records
from trainfare_core.errors import InputError
from trainfare_core.ledger.correction import choose_earlier_runs
from trainfare_core.ledger.device_figures import DeviceMeasurement, choose_figures
from trainfare_core.ledger.noise_scale import choose_noise_scale
from trainfare_core.ledger.run_record import identify_job, keep_last_sessions
from trainfare_providers.disk.files import make_folder, read_input, write_text

if TYPE_CHECKING:
    from trainfare_core.hardware.earlier_runs import Evidence
    from trainfare_core.job_profile import JobProfile
    from trainfare_core.ledger.run_record import RunRecord

_MOST_FILES: Final = 500
"""The newest of a project that are read, in some 0.1 s: ten dies with as many runs as count. A chosen value."""
_SHOWN_RUNS: Final = 3
"""Chosen: what a glance takes in beside a prediction."""
_NOT_SET: Final = ("", "0", "false")
_MAX_BYTES: Final = 2**20
"""Largest measurement that is read. Chosen: one has some 10 KB."""


def read_earlier_runs(
    profile: JobProfile, named: str | Path | None = None, *, locked: bool = False
) -> tuple[Evidence, ...]:
    """
    Return what the runs of this working folder's project and the measured devices in a ledger say of a job.

    Args:
        profile: the job.
        named: folder of the ledger; None: the user's, but none in CI or with locked prices, which give the same bytes
            everywhere.
        locked: the prices are those of a lock.

    Raises:
        InputError: there is no folder of that name, or the settings cannot be read.
        CannotTellError: its bucket does not answer.
    """
    if named is None and (locked or os.environ.get("CI", "").lower() not in _NOT_SET):
        return ()
    place = find_ledger() if named is None else find_named_ledger(named)
    if place is None:
        return ()
    folder = fetch_folder(place.folder)
    records = _read_newest(folder, place.project)
    runs = choose_earlier_runs(profile, records)
    figures = choose_figures(profile, _read_devices(folder), runs)
    return (*runs, *figures, *choose_noise_scale(profile, records))


def keep_measurement(measured: DeviceMeasurement, folder: LedgerFolder) -> str:
    """
    Write what was measured of a device into a ledger, in place of what was with the same software; return where it is.

    Raises:
        InputError, CannotTellError: it cannot be written; what was there still is.
    """
    name = name_folder(f"{measured.device_name} torch {measured.torch} {measured.driver}")
    key = f"{DEVICES}/{name}.json"
    if not isinstance(folder, Path):
        return write_object(key, measured.to_json(), folder)
    make_folder(folder / DEVICES)
    write_text(folder / key, measured.to_json())
    return str(folder / key)


def _read_devices(folder: Path) -> list[DeviceMeasurement]:
    """Return the measured devices of a ledger; a file that holds none is left out."""
    measurements: list[DeviceMeasurement] = []
    for path in sorted((folder / DEVICES).glob("*.json")):
        with contextlib.suppress(InputError):
            content = read_input(path, _MAX_BYTES, kind="a measured device")
            measurements.append(DeviceMeasurement.from_json(content, where=str(path)))
    return measurements


def find_named_ledger(named: str | Path) -> LedgerPlace:
    """
    Return a ledger with the project of this working folder; of one in a bucket what is new is fetched.

    Raises:
        InputError: there is no folder of that name, or the settings cannot be read.
        CannotTellError: its bucket does not answer.
    """
    place = find_ledger({**os.environ, LEDGER_VARIABLE: str(named)})
    folder = None if place is None else fetch_folder(place.folder)
    if place is None or folder is None or not folder.is_dir():
        raise InputError(f"ledger {named}: there is no such folder")
    return replace(place, folder=folder)


def list_last_runs(profiles: Iterable[JobProfile], place: LedgerPlace) -> tuple[RunRecord, ...]:
    """
    Return the last runs of a job that have ended, newest first: for the comment of a change and for the report's page.

    Args:
        profiles: the job, also as it was before a change: a run is of the job if its traced step is that of one.
        place: the ledger and the project.
    """
    jobs = set(map(identify_job, profiles))
    runs = keep_last_sessions(_read_newest(fetch_folder(place.folder), place.project))
    ended = [run for run in runs if run.job_fingerprint in jobs and run.ended_at is not None]
    # They are shown to others, whom a path of the user's does not concern.
    return tuple(run.model_copy(update={"folder": ""}) for run in reversed(ended[-_SHOWN_RUNS:]))


def _read_newest(folder: Path, project: str) -> list[RunRecord]:
    """Return the newest runs of the project; a file that holds none, or is of another project, is left out."""
    paths = sorted((folder / name_folder(project)).glob("*.json"))[-_MOST_FILES:]
    return [record for record in read_records(paths) if record.project == project]
