"""
Traces on disk: one file each, with what the trace depended on. What is damaged, old or another user's counts as absent.

The name of a file begins with a key of what must be the same before any file is looked at: the TARGET, the versions of
Python, trainfare and all installed packages, and settings of the machine (`target_key`). Files are replaced by one
rename, so that processes can write at the same time; a damaged one is deleted.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import stat
import sys
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import Field, ValidationError

from trainfare.user_process.messages import JobFacts
from trainfare.user_process.places import OURS, Places
from trainfare.user_process.trace_inputs import States, TraceInputs
from trainfare_core._version import __version__
from trainfare_core.documents import Record
from trainfare_core.errors import ProfileError
from trainfare_core.job_profile import JobProfile
from trainfare_providers.disk.files import FileRefusedError, read_own_file, replace_file

FOLDER_VARIABLE: Final = "TRAINFARE_TRACE_CACHE"
MAX_STORE_BYTES: Final = 256 * 2**20
"""Of all files together; a chosen limit: some 500 traces."""
_MAX_INPUTS_BYTES: Final = 64 * 2**20
"""Of the inputs of a trace, unpacked; a chosen limit: a hundred times those of a job that imports Transformers."""
_MOST_VARIANTS: Final = 32
"""Files of one key that are compared, newest first; a chosen value: branches and commits that alternate."""
_ENDING: Final = ".trace"
_FORMAT: Final = 1
_PREFIXES: Final = (
    "ATEN_", "CUDA", "FSSPEC_", "HF_", "KMP_", "LANG", "LC_", "LD_", "LIGHTNING", "MKL_", "NVIDIA_", "OMP_",
    "OPENBLAS_", "PL_", "PYTHON", "PYTORCH", "TORCH", "TQDM_", "TRANSFORMERS_",
)  # fmt: skip
"""Environment variables that compiled code may read, which does not say so."""
_DRIVER: Final = Path("/proc/driver/nvidia/version")
"""Code may ask whether there is a GPU."""


class _Header(Record):
    """First line of a file."""

    format: int
    sha256: str
    inputs_bytes: int = Field(ge=0)
    job: JobFacts


@dataclass(frozen=True, slots=True)
class StoredTrace:
    """
    One trace.

    Attributes:
        job: facts of the job.
        inputs: what the trace depended on.
        profile: JSON of the job profile.
    """

    job: JobFacts
    inputs: TraceInputs
    profile: bytes


class TraceStore:
    """
    The traces of this user.

    Args:
        folder: made where it is missing.
        max_bytes: of all files together; the least recently used are deleted beyond it.
    """

    def __init__(self, folder: Path, *, max_bytes: int = MAX_STORE_BYTES) -> None:
        self._folder, self._max_bytes = folder, max_bytes

    def find(
        self, key: str, change: str, places: Places, states: States, environment: Mapping[str, str]
    ) -> StoredTrace | None:
        """
        Return a trace that a process would give now, or None.

        Args:
            key: see `target_key`.
            change: what is changed in the step, as JSON; "*" for any trace of the job.
            places: where the folders are now.
            states: reads files.
            environment: the variables.
        """
        for path in self._variants(key, change)[:_MOST_VARIANTS]:
            stored = self._read(path)
            if stored is not None and stored.inputs.are_unchanged(places, states, environment):
                with contextlib.suppress(OSError):
                    os.utime(path)  # marks the file as used
                return stored
        return None

    def keep(self, key: str, change: str, trace: StoredTrace) -> None:
        """Store a trace; what the disk refuses is not stored, and nothing is raised."""
        unpacked = trace.inputs.model_dump_json().encode()
        inputs = zlib.compress(unpacked, 1)
        body = inputs + trace.profile
        header = _Header(
            format=_FORMAT,
            sha256=hashlib.sha256(body).hexdigest(),
            inputs_bytes=len(inputs),
            job=trace.job,
        )
        content = header.model_dump_json().encode() + b"\n" + body
        if len(content) > self._max_bytes or len(unpacked) > _MAX_INPUTS_BYTES:
            return
        path = self._folder / f"{_stem(key, change)}-{hashlib.sha256(inputs).hexdigest()[:16]}{_ENDING}"
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            # Without waiting for the disk: a file that a power cut damages is one trace more.
            replace_file(path, content, lambda _: None)
            self._make_room(path)

    def _variants(self, key: str, change: str) -> list[Path]:
        """Return the files of a key and change, newest first."""
        stem = _stem(key, change)
        files: list[tuple[int, Path]] = []
        with contextlib.suppress(OSError):
            for path in self._folder.iterdir():
                if path.name.startswith(stem) and path.name.endswith(_ENDING):
                    files += [(path.lstat().st_mtime_ns, path)]
        return [path for _, path in sorted(files, reverse=True)]

    def _read(self, path: Path) -> StoredTrace | None:
        try:
            line, _, body = read_own_file(path, self._max_bytes).partition(b"\n")
            header = _Header.model_validate_json(line)
            if header.format == _FORMAT and hashlib.sha256(body).hexdigest() == header.sha256:
                inputs = TraceInputs.model_validate_json(_unpack_text(body[: header.inputs_bytes]))
                profile = body[header.inputs_bytes :]
                JobProfile.from_json(profile)
                return StoredTrace(header.job, inputs, profile)
        except (OSError, FileRefusedError):
            return None
        except (ValidationError, ProfileError, zlib.error):
            pass
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        return None

    def _make_room(self, keep: Path) -> None:
        """Delete the least recently used files until the rest fits, and what killed processes left."""
        sizes: list[tuple[int, int, Path]] = []
        for path in self._folder.iterdir():
            facts = path.lstat()
            if path != keep and stat.S_ISREG(facts.st_mode) and _ENDING in path.name:
                sizes.append((facts.st_mtime_ns, facts.st_size, path))
        room = self._max_bytes - keep.lstat().st_size - sum(size for _, size, _ in sizes)
        for _, size, path in sorted(sizes):
            if room >= 0:
                return
            path.unlink(missing_ok=True)
            room += size


def _unpack_text(data: bytes) -> bytes:
    """
    Return the text of a compressed stream.

    Raises:
        zlib.error: it is damaged, or its text is longer than any that is stored.
    """
    unpacker = zlib.decompressobj()
    text = unpacker.decompress(data, _MAX_INPUTS_BYTES)
    if not unpacker.eof:
        raise zlib.error("cut, or too long")
    return text


def default_folder() -> Path:
    """Return the folder of the traces: `TRAINFARE_TRACE_CACHE`, or one in the user's cache folder."""
    folder_text = os.environ.get(FOLDER_VARIABLE)
    if folder_text:
        return Path(folder_text)
    import platformdirs

    return platformdirs.user_cache_path("trainfare", appauthor=False) / "traces"


def target_key(
    request: str, directory: str, search_path: Iterator[str], places: Places, environment: Mapping[str, str]
) -> str:
    """
    Return the key of the traces of a job.

    Args:
        request: what the process is asked for, as JSON, without paths and limits.
        directory: its working directory, absolute.
        search_path: its `sys.path`, absolute.
        places: the folders that have names.
        environment: its variables.
    """
    # The folders of trainfare's own packages, which the digests of their sources stand for.
    beside = {str(Path(folder.path).parent) for folder in places.folders if folder.folder.startswith(OURS)}
    facts = [
        f"{_FORMAT} {__version__} {sys.version} {sys.flags} {platform.machine()} {platform.system()} {os.cpu_count()}",
        request,
        places.place(directory).model_dump_json(),
        *(places.place(entry).model_dump_json() for entry in search_path if entry not in beside),
        *(f"{name}={environment[name]}" for name in sorted(environment) if _is_read_natively(name)),
        *_packages(places),
        *_sources(places),
    ]
    with contextlib.suppress(OSError):
        facts.append(_DRIVER.read_text(encoding="utf-8"))
    return hashlib.sha256(json.dumps(facts).encode(errors="surrogateescape")).hexdigest()


def _is_read_natively(name: str) -> bool:
    # PYTHONPATH is in the search path, as places.
    return name.startswith(_PREFIXES) and name != "PYTHONPATH"


def _packages(places: Places) -> Iterator[str]:
    """Yield the installed distributions, each with the digest of its list of files and their hashes."""
    for folder in places.list_installed_folders():
        names: list[str] = []
        with contextlib.suppress(OSError):
            names = sorted(os.listdir(folder))  # noqa: PTH208 - names only
        for name in names:
            if name.endswith((".dist-info", ".egg-info", ".pth", ".egg-link")):
                inner = "RECORD" if name.endswith(".dist-info") else ""
                yield f"{name} {_digest(Path(folder, name, inner))}"


def _sources(places: Places) -> Iterator[str]:
    """Yield the digests of trainfare's own sources: an editable install has no list of them."""
    for folder in sorted(places.folders, key=lambda folder: folder.folder):
        if folder.folder.startswith(OURS):
            for path in sorted(Path(folder.path).rglob("*.py")):
                yield f"{folder.folder} {path.relative_to(folder.path)} {_digest(path)}"


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:  # a folder, or none
        return ""


def _stem(key: str, change: str) -> str:
    begin = f"{key[:32]}-"
    return begin if change == "*" else begin + hashlib.sha256(change.encode()).hexdigest()[:16]
