"""
Beginnings of large downloads that were cut off, kept for the next `prices update`.

`NAME.part` has the bytes as they came; `NAME.part.json` says of what they are the beginning, how many can be
trusted and their SHA-256. It is written last: without it, or with another hash, the bytes count for nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

from pydantic import Field, ValidationError

from trainfare_core.documents import Record
from trainfare_providers.disk.files import FileRefusedError, open_own_file, read_own_file, replace_file

PART_ENDING: Final = ".part"
_FACTS_ENDING: Final = ".part.json"
_MAX_FACTS_BYTES: Final = 4096
_PIECE_BYTES: Final = 256 * 1024
_MAX_AGE_S: Final = 3 * 86400.0
"""AWS replaces its files about once a day; the address of an older version is not asked for again. A chosen value."""

_ROOM_BYTES: Final = 2**30
"""Left free on the disk: a download that is only kept in case must not fill it."""


class PartFacts(Record):
    """
    What the bytes of a part are.

    Attributes:
        validator: the `ETag` or `Last-Modified` of the whole file.
        total_bytes: of the whole file.
        encoding: `Content-Encoding`.
        size_bytes: of the beginning that is kept.
        sha256: of that.
    """

    validator: str
    total_bytes: int = Field(gt=0)
    encoding: str
    size_bytes: int = Field(gt=0)
    sha256: str


class PartFile:
    """
    The beginning of one file on disk; whatever the disk refuses, nothing is kept and nothing is raised.

    Args:
        path: of the bytes.
        clock: seconds since 1970, to delete old parts.
        free_bytes: returns what is free on the disk of a folder.
    """

    def __init__(
        self,
        path: Path,
        *,
        clock: Callable[[], float] = time.time,
        free_bytes: Callable[[Path], int] = lambda folder: shutil.disk_usage(folder).free,
    ) -> None:
        self._path, self._facts_path = path, path.with_name(path.name + ".json")
        self._clock, self._free_bytes = clock, free_bytes
        self._file: BinaryIO | None = None
        self._hasher = hashlib.sha256()
        self._facts: PartFacts | None = None

    def read_kept(self) -> PartFacts | None:
        """Return what is kept, after checking every byte of it, or None."""
        try:
            facts = PartFacts.model_validate_json(read_own_file(self._facts_path, _MAX_FACTS_BYTES))
            hasher = hashlib.sha256()
            for piece in self._pieces(facts.size_bytes):
                hasher.update(piece)
        except (OSError, FileRefusedError, ValidationError):
            return None
        if hasher.hexdigest() != facts.sha256 or facts.size_bytes >= facts.total_bytes:
            return None
        self._facts, self._hasher = facts, hasher
        return facts

    def chunks(self) -> Iterator[bytes]:
        """
        Yield what is kept, and go on behind it with `append`.

        Raises:
            OSError: the file that was sound a moment ago cannot be read.
        """
        if self._facts is None:
            return
        yield from self._pieces(self._facts.size_bytes)
        with contextlib.suppress(OSError, FileRefusedError):
            self._file = open_own_file(self._path, write=True)
            self._file.truncate(self._facts.size_bytes)
            self._file.seek(self._facts.size_bytes)

    def begin(self, validator: str, total_bytes: int, encoding: str) -> None:
        """
        Keep nothing but what is appended from now on.

        Args:
            validator: the version of the whole file.
            total_bytes: of the whole file; where the disk has no room for it, nothing is kept.
            encoding: `Content-Encoding`.
        """
        self.discard()
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._delete_old()
            if self._free_bytes(self._path.parent) < total_bytes + _ROOM_BYTES:
                return
            self._file = self._path.open("xb")
            self._hasher = hashlib.sha256()
            self._facts = PartFacts.model_construct(
                validator=validator, total_bytes=total_bytes, encoding=encoding, size_bytes=0, sha256=""
            )

    def append(self, chunk: bytes) -> None:
        """Add bytes; a full disk ends the keeping."""
        if self._file is None or self._facts is None:
            return
        try:
            self._file.write(chunk)
        except OSError:
            self.discard()
            return
        self._hasher.update(chunk)
        size_bytes = self._facts.size_bytes + len(chunk)
        self._facts = self._facts.model_copy(update={"size_bytes": size_bytes})

    def keep(self) -> None:
        """Leave what was appended for the next attempt."""
        facts, file = self._facts, self._file
        self._file = None
        if facts is None or file is None:
            return
        if not facts.size_bytes:
            file.close()
            self.discard()
            return
        facts = facts.model_copy(update={"sha256": self._hasher.hexdigest()})
        with contextlib.suppress(OSError):
            file.close()
            replace_file(self._facts_path, facts.model_dump_json().encode())

    def discard(self) -> None:
        """Delete it."""
        self._facts = None
        with contextlib.suppress(OSError):
            if self._file is not None:
                self._file.close()
        self._file = None
        for path in (self._facts_path, self._path):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

    def _pieces(self, size_bytes: int) -> Iterator[bytes]:
        with open_own_file(self._path) as file:
            while size_bytes:
                piece = file.read(min(_PIECE_BYTES, size_bytes))
                if not piece:
                    raise OSError("the part is shorter than its facts say")
                size_bytes -= len(piece)
                yield piece

    def _delete_old(self) -> None:
        for path in self._path.parent.iterdir():
            ours = path.name.endswith((PART_ENDING, _FACTS_ENDING))
            if ours and self._clock() - path.lstat().st_mtime > _MAX_AGE_S:
                path.unlink(missing_ok=True)


def part_file(folder: Path, url: str) -> PartFile:
    """Return the part of the file at a URL; its name has nothing of the URL in it."""
    return PartFile(folder / f"{hashlib.sha256(url.encode()).hexdigest()[:24]}{PART_ENDING}")
