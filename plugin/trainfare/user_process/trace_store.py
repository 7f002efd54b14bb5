"""
Traces on disk, one file each, that a command uses again for a day.

A trace is found by what can be known without running anything: the TARGET with its arguments, the environment, the
versions of Python, trainfare and the installed packages, and the content of the code and configuration files of the
TARGET's folder that were there when it was made. What else a job reads is not known, so a kept trace is always told,
and no verdict comes from one. A damaged file counts as absent; files are replaced by one rename.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Final

from pydantic import AwareDatetime, ValidationError

from trainfare.job import script_of
from trainfare.user_process.messages import JobFacts
from trainfare_core.documents import Record
from trainfare_core.errors import ProfileError
from trainfare_core.installation import __version__
from trainfare_core.job_profile import JobProfile
from trainfare_providers.disk import folder
from trainfare_providers.disk.files import FileRefusedError, read_own_file, replace_file

FOLDER_VARIABLE: Final = "TRAINFARE_TRACE_CACHE"
MAX_STORE_BYTES: Final = 256 * 2**20
"""Of all files together; a chosen limit: some 500 traces."""
LIFE: Final = timedelta(days=1)
"""Chosen: a day's work on one job; what a kept trace cannot know of is at most that old."""
_MOST_FILES: Final = 4000
"""Files of a TARGET's folder; a chosen limit: reading so many takes about a quarter of a second."""
_MOST_BYTES: Final = 64 * 2**20
"""Of these files together; a chosen limit, as above."""
_SUFFIXES: Final = (".py", ".ipynb", ".yaml", ".yml", ".toml", ".json", ".jsonnet", ".cfg", ".ini", ".env")
"""Code and configuration; data files are too large to read each time."""
_SKIPPED: Final = ("__pycache__", "node_modules", "site-packages", "dist-packages")
_OF_TERMINALS: Final = frozenset({"_", "COLUMNS", "LINES", "OLDPWD", "PWD", "SHLVL", "WINDOWID"})
"""Variables that a shell changes from command to command."""
_ENDING: Final = ".trace"
_FORMAT: Final = 2


class _Header(Record):
    """First line of a file."""

    format: int
    sha256: str
    made: AwareDatetime
    files: dict[str, str]
    job: JobFacts


@dataclass(frozen=True, slots=True)
class StoredTrace:
    """
    One trace.

    Attributes:
        job: facts of the job.
        profile: JSON of the job profile.
        made: when it was traced.
    """

    job: JobFacts
    profile: bytes
    made: datetime


@dataclass(frozen=True, slots=True)
class TraceKey:
    """
    What a trace is found by.

    Attributes:
        text: digest of all but the files.
        files: path and digest of each file of code and configuration.
    """

    text: str
    files: Mapping[str, str]


class TraceStore:
    """
    The traces of this user.

    Args:
        folder: made where it is missing.
        max_bytes: of all files together; the oldest are deleted beyond it.
        now: returns the time.
    """

    def __init__(
        self,
        folder: Path,
        *,
        max_bytes: int = MAX_STORE_BYTES,
        now: Callable[[], datetime] = lambda: datetime.now(tz=timezone.utc),
    ) -> None:
        self._folder, self._max_bytes, self._now = folder, max_bytes, now

    def find(self, key: TraceKey, change: str) -> StoredTrace | None:
        """
        Return a trace that was made with the same code, or None; files that are new since do not count.

        Args:
            key: see `key_of`.
            change: what is changed in the step, as JSON.
        """
        path = self._path(key, change)
        try:
            line, _, body = read_own_file(path, self._max_bytes).partition(b"\n")
            header = _Header.model_validate_json(line)
            is_whole = header.format == _FORMAT and hashlib.sha256(body).hexdigest() == header.sha256
            if is_whole and timedelta() <= self._now() - header.made < LIFE:
                JobProfile.from_json(body)
                is_same = header.files.items() <= key.files.items()
                return StoredTrace(header.job, body, header.made) if is_same else None
        except (OSError, FileRefusedError):
            return None
        except (ValidationError, ProfileError):
            pass
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        return None

    def keep(self, key: TraceKey, change: str, job: JobFacts, profile: bytes) -> None:
        """Store a trace; what the disk refuses is not stored, and nothing is raised."""
        digest = hashlib.sha256(profile).hexdigest()
        header = _Header(format=_FORMAT, sha256=digest, made=self._now(), files=dict(key.files), job=job)
        content = header.model_dump_json().encode() + b"\n" + profile
        if len(content) > self._max_bytes:
            return
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            # Without waiting for the disk: a file that a power cut damages is one trace more.
            replace_file(self._path(key, change), content, lambda _: None)
            self._make_room()

    def _path(self, key: TraceKey, change: str) -> Path:
        return self._folder / f"{_digest(f'{key.text} {change}'.encode())}{_ENDING}"

    def _make_room(self) -> None:
        """Delete the oldest files until the rest fits, and what killed processes left."""
        facts = [(path.lstat(), path) for path in self._folder.iterdir() if _ENDING in path.name]
        room = self._max_bytes
        for file, path in sorted(facts, key=lambda fact: -fact[0].st_mtime_ns):
            room -= file.st_size
            if room < 0 and stat.S_ISREG(file.st_mode):
                path.unlink(missing_ok=True)


def default_folder() -> Path:
    """Return the folder of the traces: `TRAINFARE_TRACE_CACHE`, or one in the user's cache folder."""
    return folder.default_folder(FOLDER_VARIABLE, "traces")


def key_of(target: str, options: Iterable[str], environment: Mapping[str, str]) -> TraceKey | None:
    """
    Return the key of the traces of a job; None where its folder has too many files to compare.

    Args:
        target: see `load_job`, or a script, see `script_of`.
        options: what the process is asked for besides; those that name a file count with its content.
        environment: variables of the process.
    """
    script, here = script_of(target), Path.cwd()
    name = target.rpartition(":")[0] if script is None and ".py:" in target else target
    path = here / (name if script is None else script.name)
    words = [*options, *(() if script is None else script.arguments)]
    with contextlib.suppress(OSError):  # a name that is too long
        files = _digest_files(
            _project(path.resolve().parent if path.is_file() else here), [str(path), *words]
        )
        facts = [
            f"{_FORMAT} {__version__} {sys.version} {sys.flags} {platform.machine()} {here}",
            target,
            *words,
            *sys.path,
            *(f"{name}={value}" for name, value in sorted(environment.items()) if name not in _OF_TERMINALS),
            *_list_packages(),
        ]
        text = _digest(json.dumps(facts).encode(errors="surrogateescape"))
        return None if files is None else TraceKey(text, files)
    return None


def _project(folder: Path) -> Path:
    """Return the repository that a folder is in, or the folder itself."""
    tried: Iterable[Path] = (folder, *folder.parents)
    return next((folder for folder in tried if (folder / ".git").exists()), folder)


def _digest_files(project: Path, named: Iterable[str]) -> dict[str, str] | None:
    """Return the digests of the files of a folder and of those that are named; None where they are too many."""
    paths = {
        str(path): path for path in map(Path, (word.rpartition("=")[2] for word in named)) if _is_file(path)
    }
    for path in list_code_files(project):
        paths[str(path)] = path
        if len(paths) > _MOST_FILES:
            return None
    if sum(path.stat().st_size for path in paths.values()) > _MOST_BYTES:
        return None
    return {name: _digest(path.read_bytes()) for name, path in paths.items()}


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def list_code_files(folder: Path) -> Iterator[Path]:
    """Yield the code and configuration files under a folder."""
    for above, folders, names in os.walk(folder):
        # Neither hidden folders nor environments, which may lie within a project.
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".")
            and name not in _SKIPPED
            and not Path(above, name, "pyvenv.cfg").exists()
        ]
        paths = (Path(above, name) for name in names if name.endswith(_SUFFIXES))
        yield from (path for path in paths if path.is_file())


def _list_packages() -> Iterator[str]:
    """Yield what tells the versions of the installed packages; an editable trainfare has its sources' times."""
    for entry in sys.path:
        with contextlib.suppress(OSError):
            names = sorted(os.listdir(entry or "."))  # noqa: PTH208 - names only
            yield from (
                name for name in names if name.endswith((".dist-info", ".egg-info", ".pth", ".egg-link"))
            )
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        yield f"{path} {path.stat().st_mtime_ns}"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
