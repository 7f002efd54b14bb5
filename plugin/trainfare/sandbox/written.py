"""What the user's code writes before launch: its names, and a watch on the calls of Python that write."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

from trainfare_core.job_profile import MAX_TEXT_CHARACTERS
from trainfare_core.number_format import list_items

_WRITES: Final = os.O_WRONLY | os.O_RDWR
_PATHS: Final = {
    "open": 0, "os.mkdir": 0, "os.rename": 1, "os.symlink": 1, "os.link": 1, "os.remove": 0, "os.rmdir": 0,
}  # fmt: skip
"""Audit events of what changes a folder, and which of their arguments is the path."""
_UNTOLD: Final = ("/dev/", "/proc/", "/sys/")
OF_LIBRARIES: Final = ("~/.cache/", "~/.config/")
"""Where libraries keep what they can make again; writing there is not told."""
_MOST_NAMES: Final = 4
"""Names that a note lists: chosen, it is one line of a report."""
_SENTENCE_CHARACTERS: Final = 100
"""Room of a note for the words around the names, which are shorter."""


@dataclass(frozen=True, slots=True)
class Written:
    """
    A file or folder that the user's code has written, changed or removed.

    Attributes:
        path: as the code names it.
        bytes: of the file, or of all that is in a new folder.
        is_new: whether there was none before.
    """

    path: str
    bytes: int
    is_new: bool

    @property
    def name(self) -> str:
        """The path as it is shown: from the working folder, where it lies in that."""
        return self.path.removeprefix(f"{Path.cwd()}/")


@final
class WriteWatch:
    """
    Notes what Python code of this process writes from now on; compiled code that opens files itself is not seen.

    Args:
        covered: folders under an overlay, of which nothing is noted.
        temporary: folders of temporary files besides that of this process.
    """

    def __init__(self, covered: Sequence[Path] = (), *temporary: Path) -> None:
        self._covered = tuple(f"{folder}/" for folder in covered)
        self._here = f"{Path.cwd()}/"
        folders = {f"{folder}/" for folder in (tempfile.gettempdir(), *temporary)}
        self._untold = (*_UNTOLD, *folders, *map(os.path.expanduser, OF_LIBRARIES))
        self._before: dict[str, tuple[int, int, int] | None] = {}
        self._older: set[str] = set()
        """Names that were given to what was there before."""
        self._on = True
        sys.addaudithook(self._note)

    def end(self) -> tuple[list[str], list[str]]:
        """Delete what is new in the working folder; return the names of that, and of all else that has changed."""
        self._on = False
        gone: list[str] = []
        stays: list[str] = []
        for path, before in sorted(self._before.items(), reverse=True):  # what is in a folder first
            now = _state(path)
            if now == before:
                continue
            is_here = path.startswith(self._here)
            if before is None and now is not None and is_here and path not in self._older:
                with contextlib.suppress(OSError):  # a folder in which something else is by now
                    (os.rmdir if stat.S_ISDIR(now[0]) else os.unlink)(path)
                now = _state(path)
            (gone if now == before else stays).append(path.removeprefix(self._here) if is_here else path)
        return only_outer(gone), only_outer(stays)

    def _note(self, event: str, arguments: tuple[Any, ...]) -> None:
        place = _PATHS.get(event)
        if place is None or not self._on or (event == "open" and not arguments[2] & _WRITES):
            return
        with contextlib.suppress(Exception):  # one raised here would be the user's
            if isinstance(arguments[place], int) or (event != "open" and arguments[-1] != -1):
                return  # an open file, or a path in an open folder
            # Links stay as they were named.
            path = os.path.abspath(os.fsdecode(arguments[place]))  # noqa: PTH100
            if event == "os.rename":
                source = os.path.abspath(os.fsdecode(arguments[0]))  # noqa: PTH100
                if self._before.setdefault(source, _state(source)) is not None:
                    self._older.add(path)
            told = path.startswith(self._here) or not f"{path}/".startswith(self._untold)
            if told and "__pycache__" not in path and not path.startswith(self._covered):
                self._before.setdefault(path, _state(path))


def notes_of(gone: Sequence[str], stays: Sequence[str]) -> list[str]:
    """Return what a report says of what was written during a trace."""
    notes: list[str] = []
    if gone:
        notes.append(f"in the trace, hooks and step wrote {join_names(gone)}: thrown away")
    if stays:
        notes.append(f"in the trace, hooks and step wrote {join_names(stays)}: it could not be undone")
    return notes


def join_names(names: Sequence[str]) -> str:
    """Return the first of some names as one text of a note, and how many there are besides."""
    return list_items(names, MAX_TEXT_CHARACTERS - _SENTENCE_CHARACTERS, most_items=_MOST_NAMES)


def only_outer(paths: Sequence[str]) -> list[str]:
    """Return the paths that lie in none of the others."""
    ordered = sorted(paths)
    return [path for path in ordered if not any(path.startswith(f"{outer}/") for outer in ordered)]


def _state(path: str) -> tuple[int, int, int] | None:
    """Return what tells whether a file has changed, its mode first; None where there is none."""
    try:
        state = os.lstat(path)
    except OSError:
        return None
    if stat.S_ISDIR(state.st_mode):
        return state.st_mode, 0, 0
    return state.st_mode, state.st_mtime_ns, state.st_size
