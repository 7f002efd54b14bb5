"""
The files of a ledger: `FOLDER/PROJECT/STARTED-RUN.json`, one a run, each written whole by its own process.

An index beside the projects keeps the records of runs that ended some time ago, which are not written again. Every
reader may write or delete it: what it lacks is read from the records.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Final

from trainfare.ledger.run_status import FILE_NAME, has_ended, read_status
from trainfare_core.errors import InputError
from trainfare_core.ledger.run_record import RunRecord
from trainfare_core.limits.constraints import DEFAULT_MAX_RUN_HOURS
from trainfare_providers.disk.files import read_input, replace_file

if TYPE_CHECKING:
    import polars as pl

LONGEST_RUN: Final = timedelta(hours=DEFAULT_MAX_RUN_HOURS)
"""A run that began earlier, on another host, and has not ended is dead: the longest that a ranking plans by default."""
INDEX: Final = ".index-1.parquet"
_MOST_INDEX_BYTES: Final = 2**30
"""Largest index that is read. Chosen: one of 100,000 runs has 2 MiB."""
_SETTLED: Final = timedelta(hours=1)
"""After its end a record is not written again: its process adds the job to it within minutes. A chosen value."""
MAX_BYTES: Final = 2**20
"""Largest file that is read. Chosen: a record has some 2 KB."""
_NOT_OF_A_NAME: Final = re.compile(r"[^A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class LedgerRuns:
    """What a ledger holds."""

    table: pl.DataFrame
    """As `tabulate_runs` has it, oldest run first."""
    problems: tuple[str, ...]
    """Files that hold no run, and why."""


def write_run(record: RunRecord, folder: Path) -> Path:
    """
    Write the record of a run, or replace it by a newer one, and return its path; does not wait for the disk.

    Its owner alone reads it, and the group of a folder that the group may write into.

    Raises:
        OSError: it cannot be written; an older record of the run is still there.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / name_folder(record.project) / record.file_name
    with contextlib.suppress(FileExistsError):
        path.parent.mkdir(mode=0o700)
        path.parent.chmod(stat.S_IMODE(path.parent.stat().st_mode) | _group_bits(folder))
    replace_file(path, record.to_json().encode(), lambda _: None, _file_mode(folder))
    return path


def _group_bits(folder: Path) -> int:
    group = folder.stat().st_mode & stat.S_IRWXG
    return group if group & stat.S_IWGRP else 0


def _file_mode(folder: Path) -> int:
    return stat.S_IRUSR | stat.S_IWUSR | (_group_bits(folder) & ~stat.S_IXGRP)


def replace_run(record: RunRecord, folder: Path) -> Path:
    """
    Write a run that ended some time ago, which the index may hold as it was, and return its path.

    Raises:
        InputError: it cannot be written.
    """
    try:
        path = write_run(record, folder)
        (folder / INDEX).unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"ledger {folder}: cannot be written ({error.strerror or error})") from error
    return path


def name_folder(project: str) -> str:
    """Return the name of a project's folder: its letters, digits, - and _."""
    return _NOT_OF_A_NAME.sub("-", project)[:100].strip("-") or "unnamed"


def mark_death(record: RunRecord, now: datetime) -> RunRecord:
    """
    Return a record; of a run that has not ended, with how far its status file says it came, and as died where known.

    On the host of the run: its process is gone. On another one: it began more than `LONGEST_RUN` ago.
    """
    if record.state not in ("running", "died"):
        return record
    gone = record.state == "died" or has_ended(record.process)
    if gone is None:
        gone = now - record.started_at > LONGEST_RUN
    update: dict[str, object] = {"state": "died" if gone else record.state, "steps_done": None}
    with contextlib.suppress(InputError):
        status = read_status(Path(record.folder) / FILE_NAME)
        if (status.run_id, status.process) == (record.sessions_id, record.process):
            update |= {"steps_done": status.steps_done, "run_s": record.run_s.measure(status.elapsed_s)}
            if record.cloud_job is None:  # else its dollars are what was billed
                update["usd"] = record.usd.measure(status.usd_so_far)
    return record.model_copy(update=update)


def read_runs(
    folder: Path, now: Callable[[], datetime] = lambda: datetime.now(tz=timezone.utc)
) -> LedgerRuns:
    """
    Read a ledger by its index, and bring the index up to date where that is possible.

    Args:
        folder: of the ledger; one that is missing holds no run.
        now: the time.

    Raises:
        InputError: the folder cannot be read.
    """
    import polars as pl

    from trainfare_core.ledger.run_table import drop_started_plans, tabulate_runs

    names, at = list_names(folder), now()
    index = _read_index(folder / INDEX)
    if index is not None:
        index = index.filter(pl.col("file").is_in(names))
    indexed: set[str] = set() if index is None else set(index["file"].to_list())
    records: dict[str, RunRecord] = {}
    problems: list[str] = []
    for name in names:
        if name in indexed:
            continue
        try:
            records[name] = mark_death(read_record(folder / name), at)
        except InputError as error:
            problems.append(str(error))
    new = tabulate_runs(records.values()).with_columns(pl.Series("file", list(records), pl.String))
    table = new if index is None else pl.concat([index, new])
    settled = [name for name, run in records.items() if _is_settled(run, at)]
    if settled:
        _write_index(table.filter(pl.col("file").is_in([*indexed, *settled])), folder / INDEX)
    table = drop_started_plans(table.sort("started_at", "run_id").drop("file"))
    return LedgerRuns(table, tuple(sorted(problems)))


def forget_runs(folder: Path, names: Collection[str]) -> None:
    """Take runs out of the index, since their files, PROJECT/NAME, are others now."""
    import polars as pl

    index = _read_index(folder / INDEX) if names else None
    if index is not None:
        _write_index(index.filter(~pl.col("file").is_in(list(names))), folder / INDEX)


def _is_settled(run: RunRecord, at: datetime) -> bool:
    gone = run.state == "died" and at - run.started_at > LONGEST_RUN
    ended_at = run.started_at if run.state == "planned" else run.ended_at
    return gone or (ended_at is not None and at - ended_at > _SETTLED)


def read_record(path: Path) -> RunRecord:
    """
    Read the file of a run.

    Raises:
        InputError: it cannot be read, or holds no run.
    """
    content = read_input(path, MAX_BYTES, label="ledger ", kind="a run")
    return RunRecord.from_json(content, where=f"ledger {path}")


def read_records(paths: Iterable[Path]) -> list[RunRecord]:
    """Return the runs of files; one that holds none is left out."""
    records: list[RunRecord] = []
    for path in paths:
        with contextlib.suppress(InputError):
            records.append(read_record(path))
    return records


def find_run(folder: Path, run_id: str) -> RunRecord:
    """
    Return the run whose id begins like this.

    Raises:
        InputError: no run has such an id, or several have, or its file cannot be read.
    """
    names = [name for name in list_names(folder) if run_id and name.rpartition("-")[2].startswith(run_id)]
    if len(names) != 1:
        what = f"{len(names)} runs have such an id" if names else "no run has this id"
        raise InputError(f"run {run_id!r}: {what} in {folder}; `trainfare ledger list` has the ids")
    return mark_death(read_record(folder / names[0]), datetime.now(tz=timezone.utc))


def find_sessions(folder: Path, run_id: str) -> list[RunRecord]:
    """
    Return the sessions of the run of which one has an id that begins like this, oldest first.

    Raises:
        InputError: as `find_run`.
    """
    import polars as pl

    record = find_run(folder, run_id)
    if not record.sessions_id:
        return [record]
    table = read_runs(folder).table.filter(pl.col("sessions_id") == record.sessions_id)
    return [find_run(folder, session_id) for session_id in table["run_id"]]


def list_names(folder: Path) -> list[str]:
    """
    Return the records of a ledger as PROJECT/NAME.

    Raises:
        InputError: it is no folder, or cannot be read.
    """
    names: list[str] = []
    try:
        with os.scandir(folder) as projects:
            for project in projects:
                if not project.name.startswith(".") and project.is_dir():
                    with os.scandir(project.path) as files:
                        names += [
                            f"{project.name}/{file.name}" for file in files if file.name.endswith(".json")
                        ]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InputError(f"ledger {error.filename}: cannot be read ({error.strerror or error})") from error
    return [name for name in names if "/." not in name]


def _read_index(path: Path) -> pl.DataFrame | None:
    """Return the index; None where there is none that this version reads."""
    import polars as pl

    from trainfare_core.ledger.run_table import COLUMNS

    try:  # not by its name: where others write a pipe may stand there, which never ends
        table = pl.read_parquet(read_input(path, _MOST_INDEX_BYTES, kind="an index"))
    except (InputError, OSError, pl.exceptions.PolarsError):
        return None
    return table if dict(table.schema) == {**COLUMNS, "file": pl.String()} else None


def _write_index(table: pl.DataFrame, path: Path) -> None:
    import io

    content = io.BytesIO()
    table.write_parquet(content, compression="zstd", compression_level=1)
    with contextlib.suppress(OSError):  # a folder of the team's that only others may write
        replace_file(path, content.getvalue(), lambda _: None, _file_mode(path.parent))
