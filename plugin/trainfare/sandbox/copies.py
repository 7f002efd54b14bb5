"""A copy of the user's folders where the system has no overlay: the same paths below another top."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, final

from trainfare.sandbox.written import Written

_CLONE: Final = 0x40049409
"""FICLONE of `ioctl`: a copy that shares its blocks, on Btrfs, XFS and others."""
_MOST_FILES: Final = 20_000
_MOST_BYTES: Final = 2 * 2**30
"""Chosen: what is copied in some ten seconds; what is beyond is read where it is."""
_MOST_IN_FOLDER: Final = 5_000
"""Entries of a folder above which it is taken for data. Chosen."""
_MOST_OF_HOME: Final = 2_000, 64 * 2**20
OF_TOOLS: Final = frozenset((".git", ".hg", ".tox", "node_modules", "__pycache__"))
"""Folders of tools, which no training writes to."""


@dataclass(slots=True)
class _Room:
    """How many files and bytes may still be copied."""

    files: int
    bytes: int


@final
@dataclass(slots=True)
class CopiedTree:
    """
    Folders with the same paths below another top; what is too much to copy is linked, and what is beside them.

    Attributes:
        top: the folder that stands for `/`.
        linked: folders and files that were not copied, as they lie too deep or are too large.
    """

    top: Path
    linked: list[Path] = field(default_factory=list[Path])
    _copied: list[Path] = field(default_factory=list[Path])

    def path_of(self, path: Path) -> Path:
        """Return where a path lies in the copy; one outside of every copied folder is the same."""
        inside = any(path.is_relative_to(folder) for folder in self._copied)
        return self.top / path.relative_to("/") if inside else path

    def add_small(self, folder: Path, caches: Sequence[Path] = (), *, most_depth: int = 3) -> None:
        """Copy the small files of a folder, such as a home, and link the rest; caches in it are linked."""
        self._add(folder, _Room(*_MOST_OF_HOME), most_depth=most_depth, skipped=caches)

    def add(self, folder: Path) -> None:
        """Copy a folder, as far as there is room."""
        free_bytes = shutil.disk_usage(self.top.parent).free // 2
        self._add(folder, _Room(_MOST_FILES, min(_MOST_BYTES, free_bytes)), most_depth=None)

    def list_written(self) -> list[Written]:
        """List what differs from the originals, a new folder without what is in it."""
        written = {
            item.path: item for folder in self._copied for item in _compare(self.path_of(folder), folder)
        }
        return sorted(written.values(), key=lambda item: item.path)

    def _add(
        self, folder: Path, room: _Room, *, most_depth: int | None, skipped: Sequence[Path] = ()
    ) -> None:
        waiting = deque([(folder, self._make_way(folder), 0)])
        while waiting:
            source, copy, depth = waiting.popleft()
            try:
                with os.scandir(source) as found:
                    entries = sorted(found, key=_size_of)
            except OSError:
                continue
            for entry in entries:
                path, there = Path(entry.path), copy / entry.name
                if not entry.is_dir(follow_symlinks=False):
                    is_copied = self._copy_file(entry, there, room)
                elif path in skipped or entry.name in OF_TOOLS or path == self.top:
                    there.symlink_to(path)
                    continue
                else:
                    is_copied = (most_depth is None or depth < most_depth) and self._has_room(path, room)
                    if is_copied:
                        there.mkdir(mode=0o700)
                        waiting.append((path, there, depth + 1))
                if not is_copied:
                    there.symlink_to(path)
                    self.linked.append(path)
        self._copied.append(folder)

    def _make_way(self, folder: Path) -> Path:
        """Make the folders above a copy, and link what else is in them, so that `../data` is found."""
        target = self.top / folder.relative_to("/")
        for above in reversed(folder.parents):
            there = self.top / above.relative_to("/")
            if there.is_symlink():  # else what follows would be done in the user's own folder
                there.unlink()
            there.mkdir(mode=0o700, exist_ok=True)
            inner = there / target.relative_to(there).parts[0]
            for name in _list_names(above):
                path = there / name
                if path != inner and not path.is_symlink() and not path.exists():
                    path.symlink_to(above / name)
        if target.is_symlink():
            target.unlink()
        elif target.exists():  # copied as a part of a folder above it, which had less room
            shutil.rmtree(target)
        target.mkdir(mode=0o700)
        return target

    def _has_room(self, folder: Path, room: _Room) -> bool:
        names = _list_names(folder)
        if "pyvenv.cfg" in names or len(names) > min(_MOST_IN_FOLDER, room.files):
            return False
        room.files -= len(names)
        return True

    def _copy_file(self, entry: os.DirEntry[str], there: Path, room: _Room) -> bool:
        """Copy a file or link as it is; return False for what is too large or cannot be read."""
        if entry.is_symlink():
            there.symlink_to(Path(entry.path).readlink())
            return True
        if not entry.is_file(follow_symlinks=False):
            return not entry.is_dir(follow_symlinks=False)  # a pipe or socket has no copy
        size = entry.stat(follow_symlinks=False).st_size
        try:
            if _clone(entry.path, there):
                return True
            if size > room.bytes:
                return False
            shutil.copy2(entry.path, there)
        except OSError:
            there.unlink(missing_ok=True)
            return False
        room.bytes -= size
        return True


def _clone(source: str, target: Path) -> bool:
    """Copy a file so that both share their blocks; return whether the file system can."""
    try:
        import fcntl

        with Path(source).open("rb") as read, target.open("wb") as written:
            fcntl.ioctl(written.fileno(), _CLONE, read.fileno())
        shutil.copystat(source, target)
    except (OSError, ImportError):
        return False
    return True


def _size_of(entry: os.DirEntry[str]) -> int:
    """Return the bytes of a file, so that small ones are copied first."""
    with contextlib.suppress(OSError):
        return 0 if entry.is_dir(follow_symlinks=False) else entry.stat(follow_symlinks=False).st_size
    return 0


def _list_names(folder: Path) -> list[str]:
    try:
        return [path.name for path in folder.iterdir()]
    except OSError:
        return []


def _compare(copy: Path, original: Path) -> Iterator[Written]:
    names = _list_names(copy)
    for name in sorted({*names, *_list_names(original)} - {"__pycache__"}):
        ours, theirs = copy / name, original / name
        now, before = _state(ours), _state(theirs)
        if ours.is_symlink():
            continue
        if now == before:
            if now is not None and stat.S_ISDIR(now[0]):
                yield from _compare(ours, theirs)
        elif now is not None or (before is not None and not _is_special(before[0])):
            yield Written(str(theirs), 0 if now is None else _count_bytes(ours), is_new=before is None)


def _is_special(mode: int) -> bool:
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode))


def _state(path: Path) -> tuple[int, int, int] | None:
    try:
        state = path.lstat()
    except OSError:
        return None
    if stat.S_ISDIR(state.st_mode):
        return stat.S_IFDIR, 0, 0
    return stat.S_IFMT(state.st_mode), state.st_mtime_ns, state.st_size


def _count_bytes(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else (path,)
    return sum(file.lstat().st_size for file in files if file.is_file() and not file.is_symlink())
