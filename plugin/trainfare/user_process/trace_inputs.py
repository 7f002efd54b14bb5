"""
What a trace depended on, and whether all of it is still the same.

The process of the user's code notes what it reads (`observer.py`). A trace may be used again where every file has the
same content, every folder that was listed the same names, every import that was tried finds the same files, and every
environment variable that was read the same value.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterable, Mapping
from typing import Final

from trainfare.user_process.places import INSTALLED, Place, Places
from trainfare_core.documents import Record

LARGEST_FILE_BYTES: Final = 16 * 2**20
"""Of a file whose content is compared; a chosen value: far above code and configuration, below data sets."""
MOST_BYTES: Final = 64 * 2**20
"""Of all files of the user that one trace reads: hashing so much takes about a tenth of a second."""
EVERY: Final = "*"
"""Stands for all variables where code looks through them."""
_FOLDER: Final = "folder"
_ABSENT: Final = "absent"


class TooLargeError(Exception):
    """A file is so large that comparing it would cost as much as a trace."""


class FileState(Record):
    """
    A path and what is there.

    Attributes:
        place: of the path.
        content: SHA-256 of a file; "folder", "absent", or "" for a large file of an installed package.
        size_bytes: of a file.
        changed_ns: time of the last change of a file, in ns since 1970.
    """

    place: Place
    content: str
    size_bytes: int = 0
    changed_ns: int = 0


class Listing(Record):
    """A folder that was listed, and the digest of the names in it."""

    place: Place
    names: str


class Imports(Record):
    """
    A folder in which modules were looked for.

    Attributes:
        place: of the folder.
        names: of the modules, without what is before the last dot.
        found: the entries of the folder with one of these names.
    """

    place: Place
    names: tuple[str, ...]
    found: tuple[str, ...]


class TraceInputs(Record):
    """All that a trace depended on, besides the versions of Python, the installed packages and trainfare."""

    files: tuple[FileState, ...]
    listings: tuple[Listing, ...]
    imports: tuple[Imports, ...]
    variables: tuple[str, ...]
    variables_digest: str

    def are_unchanged(self, places: Places, states: States, environment: Mapping[str, str]) -> bool:
        """
        Return whether a trace made now would read the same.

        Args:
            places: where the folders are now.
            states: reads files.
            environment: the variables.
        """
        if variables_digest(self.variables, environment) != self.variables_digest:
            return False
        return (
            all(states.is_same(file, places.path(file.place)) for file in self.files)
            and all(states.names(places.path(listing.place)) == listing.names for listing in self.listings)
            and all(
                states.find_entries(places.path(imports.place), imports.names) == imports.found
                for imports in self.imports
            )
        )


class States:
    """Reads what is at a path, each path once."""

    def __init__(self) -> None:
        self._contents: dict[str, str] = {}
        self._entries: dict[str, tuple[str, ...]] = {}

    def state(self, place: Place, path: str) -> FileState:
        """
        Return what is at a path now.

        Raises:
            TooLargeError: a large file that belongs to no installed package.
        """
        facts = _read_stat(path)
        if facts is None or not stat.S_ISREG(facts.st_mode):
            return FileState(place=place, content=_ABSENT if facts is None else _FOLDER)
        content = ""
        if facts.st_size <= LARGEST_FILE_BYTES:
            content = self._content(path)
        elif not place.folder.startswith(INSTALLED):
            raise TooLargeError(path)
        return FileState(place=place, content=content, size_bytes=facts.st_size, changed_ns=facts.st_mtime_ns)

    def is_same(self, before: FileState, path: str | None) -> bool:
        """
        Return whether a path has the content it had.

        A file of an installed package that has its size and its time of change is not read again.
        """
        if path is None:
            return False
        facts = _read_stat(path)
        if facts is None or not stat.S_ISREG(facts.st_mode):
            return before.content == (_ABSENT if facts is None else _FOLDER)
        if before.content in (_ABSENT, _FOLDER) or facts.st_size != before.size_bytes:
            return False
        if before.place.folder.startswith(INSTALLED) and (
            facts.st_mtime_ns == before.changed_ns or not before.content
        ):
            return True
        return self._content(path) == before.content

    def get_touched_ns(self, path: str) -> int:
        """Return when a file, or what the system knows of it, was last changed, in ns since 1970; 0 for no file."""
        facts = _read_stat(path)
        if facts is None or not stat.S_ISREG(facts.st_mode):
            return 0
        return max(facts.st_mtime_ns, facts.st_ctime_ns)

    def names(self, path: str | None) -> str:
        """Return the digest of the names in a folder; "" where there is none."""
        entries = self._list_folder(path)
        return (
            hashlib.sha256("\0".join(entries).encode(errors="surrogateescape")).hexdigest() if entries else ""
        )

    def find_entries(self, path: str | None, modules: Iterable[str]) -> tuple[str, ...]:
        """Return the entries of a folder that an import of one of these modules would look at."""
        names_wanted = {*modules, "__init__"}
        return tuple(
            name
            for name in self._list_folder(path)
            if name.partition(".")[0] in names_wanted or name.endswith((".dist-info", ".egg-info"))
        )

    def _content(self, path: str) -> str:
        if path not in self._contents:
            digest = ""
            with contextlib.suppress(OSError), open(path, "rb") as file:  # noqa: PTH123 - speed: thousands of files
                digest = hashlib.sha256(file.read()).hexdigest()
            self._contents[path] = digest
        return self._contents[path]

    def _list_folder(self, path: str | None) -> tuple[str, ...]:
        if path is None:
            return ()
        if path not in self._entries:
            names: list[str] = []
            with contextlib.suppress(OSError):
                names = os.listdir(path)  # noqa: PTH208 - names only
            self._entries[path] = tuple(sorted(name for name in names if name != "__pycache__"))
        return self._entries[path]


def variables_digest(names: Iterable[str], environment: Mapping[str, str]) -> str:
    """Return one digest of the values of some variables, so that none of them can be told from it."""
    names_wanted = {*names}
    if EVERY in names_wanted:
        names_wanted |= environment.keys()
    values = [f"{name}={environment[name]}" if name in environment else name for name in sorted(names_wanted)]
    return hashlib.sha256("\0".join(values).encode(errors="surrogateescape")).hexdigest()


def _read_stat(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)  # noqa: PTH116 - speed
    except (OSError, ValueError):
        return None
