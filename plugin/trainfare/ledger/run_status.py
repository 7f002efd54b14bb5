"""How far a run is: the file that a running meter replaces, which `trainfare watch` reads."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AwareDatetime, Field, ValidationError

from trainfare_core.documents import Count, Document, Finite, Interval, first_problem
from trainfare_core.errors import InputError
from trainfare_core.ledger.run_record import RunProcess
from trainfare_core.number_format import duration, percent
from trainfare_providers.disk.files import make_folder, read_input, replace_file

FILE_NAME: Final = "trainfare-status.json"
_MAX_BYTES: Final = 2**16
"""Largest file that is read. Chosen: one has less than 2 KB."""
_SILENT_S: Final = 60.0
"""After it a reader says since when there is no news. Chosen: the meter writes every few seconds, but in no step."""
_NEWEST: Final = 20
"""Sibling folders that are searched for the file of an earlier session. Chosen: a resumed run is among the newest."""

_Text = Annotated[str, Field(max_length=500)]


class RunStatus(Document):
    """How far a run is, and what is expected of the rest; None where that is not known."""

    schema_version: Literal[1] = 1
    run_id: _Text = Field(description="the same in all sessions of a resumed run")
    state: Literal["running", "finished", "failed"] = "running"
    ended_by: _Text = ""
    process: RunProcess = RunProcess()
    written_at: AwareDatetime | None = None
    job: _Text = ""
    machine: _Text = ""
    steps_done: Count = 0
    steps_total: Count | None = None
    elapsed_s: Finite = Field(default=0.0, description="trained and paid, earlier sessions included")
    left_s: Interval | None = None
    usd_so_far: Finite | None = None
    usd_total: Interval | None = None
    mfu: Finite | None = Field(
        default=None, description="of the measured steps: model FLOPs over the dense peak"
    )
    budget_usd: Finite | None = None

    def format_short(self) -> str:
        """Return dollars, time left and MFU for a progress bar, which may take ASCII alone; "" where none is known."""
        parts: list[str] = []
        if self.usd_so_far is not None:
            total = self.usd_total
            of = f"/{total.mid:,.2f} [{total.low_80:,.2f}-{total.high_80:,.2f}]" if total else ""
            parts.append(f"${self.usd_so_far:,.2f}{of}")
        if self.left_s is not None:
            parts.append(f"{duration(self.left_s.mid, 2)} left")
        if self.mfu is not None:
            parts.append(f"MFU {percent(self.mfu)}")
        return ", ".join(parts)

    def list_rows(self, now: datetime) -> list[tuple[str, str]]:
        """Return what is known, each with its name; `now` is the reader's time."""
        steps = f"{self.steps_done:,}"
        if self.steps_total:
            steps += f" of {self.steps_total:,} ({percent(self.steps_done / self.steps_total)})"
        rows = [("run", self._describe_state(now)), ("machine", self.machine), ("steps", steps)]
        total = None if self.is_over() else self.usd_total  # what has ended costs no more than it has
        if self.usd_so_far is not None:
            rows.append(("paid", f"${self.usd_so_far:,.2f} in {duration(self.elapsed_s)}"))
        if total is not None:
            low, mid, high = total.low_80, total.mid, total.high_80
            rows.append(("total", f"about ${mid:,.2f} [${low:,.2f} – ${high:,.2f}]"))
        if self.budget_usd is not None:
            over = (total.mid if total else self.usd_so_far or 0.0) > self.budget_usd
            rows.append(("budget", f"${self.budget_usd:,.2f}{', and the run is over it' if over else ''}"))
        if self.left_s is not None and not self.is_over():
            rows.append(("left", f"about {duration(self.left_s.mid)}"))
        if self.mfu is not None:
            rows.append(("MFU", percent(self.mfu)))
        return [(name, text) for name, text in rows if text]

    def format_html(self, now: datetime) -> str:
        """Return the rows as a table for a notebook's cell, without a script."""
        rows = ((escape(name), escape(text)) for name, text in self.list_rows(now))
        return f"<table>{''.join(f'<tr><th>{name}</th><td>{text}</td></tr>' for name, text in rows)}</table>"

    def is_over(self) -> bool:
        """Return whether the run has ended, or its process is known to be gone."""
        return self.state != "running" or has_ended(self.process) is True

    def _describe_state(self, now: datetime) -> str:
        if self.state != "running":
            return f"{self.job} {self.state}{f' ({self.ended_by})' if self.ended_by else ''}"
        at = self.written_at or now
        if self.is_over():
            return f"{self.job} died: its process is gone; last news at {at:%Y-%m-%d %H:%M:%S} UTC"
        silent = (now - at).total_seconds() > _SILENT_S
        return f"{self.job} {f'has sent no news since {at:%Y-%m-%d %H:%M:%S} UTC' if silent else 'runs'}"


def write_status(status: RunStatus | None, folder: Path) -> None:
    """
    Replace the file of a run, None: remove it; does not wait for the disk.

    Raises:
        OSError, InputError: it cannot be written.
    """
    if status is None:
        (folder / FILE_NAME).unlink(missing_ok=True)
        return
    make_folder(folder)
    replace_file(folder / FILE_NAME, status.to_json().encode(), lambda _: None)


def read_status(path: Path) -> RunStatus:
    """
    Read the file of a run.

    Raises:
        InputError: it cannot be read, or holds no run.
    """
    try:
        return RunStatus.model_validate_json(read_input(path, _MAX_BYTES, label="", kind="a run"))
    except ValidationError as error:
        raise InputError(f"{path}: not a run of schema 1: {first_problem(error)}") from error


def find_status_files(folder: Path) -> list[Path]:
    """Return the files of runs in a folder and in those directly below it, newest first."""
    files = [*folder.glob(FILE_NAME), *folder.glob(f"*/{FILE_NAME}")]
    return sorted(files, key=lambda file: file.stat().st_mtime, reverse=True)


def find_earlier_session(folder: Path, run_id: str, steps_done: int) -> RunStatus | None:
    """
    Return what the session before has written of a resumed run, which may have gone on after its last checkpoint.

    Args:
        folder: of the new session; loggers make one beside that of the session before.
        run_id: of the run; "": not known, so that only a run in the same folder that has come as far is taken.
        steps_done: at the checkpoint.
    """
    try:
        paths = find_status_files(folder.parent)[:_NEWEST] if run_id else [folder / FILE_NAME]
    except OSError:  # a disk that fails, or another run has just removed its file
        return None
    for path in paths:
        try:
            status = read_status(path)
        except (InputError, OSError):
            continue
        if status.run_id == run_id or (not run_id and status.steps_done >= steps_done):
            return status
    return None


def describe_process() -> RunProcess:
    """Return this process as its records name it."""
    return RunProcess(host=_digest_host(), pid=os.getpid())


def has_ended(process: RunProcess) -> bool | None:
    """Return whether a process is gone; None where that is not known, as on another host."""
    here = process.host == _digest_host() and os.name == "posix"
    return not _is_alive(process.pid) if here else None


def _digest_host() -> str:
    """Return a digest of what makes process ids comparable: the host, its boot and the namespace of processes."""
    boot = namespace = ""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
        namespace = str(Path("/proc/self/ns/pid").readlink())
    return hashlib.sha256(f"{platform.node()}\n{boot}\n{namespace}".encode()).hexdigest()[:12]


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError as error:  # or another user's
        return not isinstance(error, ProcessLookupError)
    return True
