"""
Walls round the user's code while it is traced: what it writes into a folder does not stay there.

On Linux the process cannot signal others (Landlock), and the folder is put under an overlay, in a mount namespace of
the process alone: the code reads and writes as in a run, and what it wrote vanishes with the process. Where the system
has none, new files are deleted again.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import stat
import struct
import sys
import tempfile
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any, Final, final

from trainfare_core.job_profile import MAX_TEXT_CHARACTERS
from trainfare_core.number_format import list_items

_NEW_MOUNTS, _NEW_USERS = 0x20000, 0x10000000
"""Flags of `unshare`."""
_PRIVATE = 0x40000 | 0x4000
"""Flags of `mount`: what is mounted here is not seen elsewhere, neither under any mount point."""
_CREATE_RULESET, _RESTRICT_SELF = 444, 446
"""Numbers of the system calls of Landlock, which are the same on every processor."""
_SCOPED_SIGNALS: Final = struct.pack("=QQQ", 0, 0, 2)
"""A ruleset that handles neither files nor the network, and keeps signals within."""
_SIGNALS_SINCE: Final = 6
"""Version of Landlock that can, in Linux 6.12."""
_NO_NEW_PRIVILEGES, _SET_DUMPABLE = 38, 4
"""Options of `prctl`."""
_LAYER_BYTES: Final = 2**30
"""Memory for what is written. Chosen: above what two steps write, below what a machine cannot spare."""
_WRITES: Final = os.O_WRONLY | os.O_RDWR
_PATHS: Final = {
    "open": 0, "os.mkdir": 0, "os.rename": 1, "os.symlink": 1, "os.link": 1, "os.remove": 0, "os.rmdir": 0,
}  # fmt: skip
"""Audit events of what changes a folder, and which of their arguments is the path."""
_UNTOLD: Final = ("/dev/", "/proc/", "/sys/")
_CACHES: Final = ("~/.cache/", "~/.config/")
"""Where libraries keep what they can make again; writing there is not told."""
_MOST_NAMES: Final = 4
"""Names that a note lists: chosen, it is one line of a report."""
_SENTENCE_CHARACTERS: Final = 100
"""Room of a note for the words around the names, which are shorter."""


@final
class Overlay:
    """
    Folders of this process alone: what it writes there is kept in memory until it ends. It needs a single thread.

    Args:
        folders: that exist, none within another one.
        mount_point: an empty folder, for the layer that takes what is written.

    Raises:
        OSError: the system has no overlay for this user, or for such a folder.
    """

    def __init__(self, folders: Sequence[Path], mount_point: Path) -> None:
        _refuse_mounts_below(folders)
        _separate_mounts()
        _mount(b"tmpfs", mount_point, b"size=%d,mode=700" % _LAYER_BYTES)
        here = Path.cwd()
        self._layers: list[tuple[Path, int, int]] = []
        for number, folder in enumerate(folders):
            upper, work = mount_point / f"{number}", mount_point / f"{number}.work"
            upper.mkdir(mode=folder.stat().st_mode & 0o7777)
            work.mkdir()
            # By their numbers, as a path in these options could need escapes; and they stay in reach under the overlay.
            layers = [os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in (folder, upper, work)]
            options = (
                b"lowerdir=/proc/self/fd/%d,upperdir=/proc/self/fd/%d,workdir=/proc/self/fd/%d,userxattr"
            )
            _mount(b"overlay", folder, options % tuple(layers))
            self._layers.append((folder, layers[0], layers[1]))
        os.chdir(here)

    def list_written(self) -> list[str]:
        """List what was written, a new folder without what is in it."""
        here = Path.cwd()
        return [
            name if folder == here else str(folder / name)
            for folder, lower, upper in self._layers
            for name in _list_new(lower, upper, "")
        ]


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
        self._untold = (*_UNTOLD, *folders, *map(os.path.expanduser, _CACHES))
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
        return _only_outer(gone), _only_outer(stays)

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


def keep_signals_inside() -> bool:
    """
    Let this process and its children signal only one another from now on; threads that run already are left out.

    Returns:
        whether the system can.
    """
    if sys.platform != "linux":
        return False
    try:
        call: Any = ctypes.CDLL(None, use_errno=True).syscall
        if call(_CREATE_RULESET, None, 0, 1) < _SIGNALS_SINCE:
            return False
        ruleset = call(_CREATE_RULESET, _SCOPED_SIGNALS, len(_SCOPED_SIGNALS), 0)
        _call("prctl", _NO_NEW_PRIVILEGES, 1, 0, 0, 0)
        _call("syscall", _RESTRICT_SELF, ruleset, 0)
        os.close(ruleset)
    except (OSError, AttributeError):
        return False
    return True


def hide_memory() -> None:
    """Let no other process of this user read the variables and the memory of this one; root can all the same."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            _call("prctl", _SET_DUMPABLE, 0, 0, 0, 0)


def notes_of(gone: Sequence[str], stays: Sequence[str]) -> list[str]:
    """Return what a report says of what was written during a trace."""
    notes: list[str] = []
    if gone:
        notes.append(f"in the trace, hooks and step wrote {_join_names(gone)}: thrown away")
    if stays:
        notes.append(f"in the trace, hooks and step wrote {_join_names(stays)}: it could not be undone")
    return notes


def _join_names(names: Sequence[str]) -> str:
    return list_items(names, MAX_TEXT_CHARACTERS - _SENTENCE_CHARACTERS, most_items=_MOST_NAMES)


def _only_outer(paths: Sequence[str]) -> list[str]:
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


def _list_new(lower: int, upper: int, above: str) -> Generator[str, None, None]:
    with os.scandir(upper) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.name == "__pycache__":
                continue
            with contextlib.suppress(OSError):
                is_folder = entry.is_dir(follow_symlinks=False)
                inner = os.open(entry.name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=lower) if is_folder else None
                if inner is not None:
                    layer = os.open(entry.name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=upper)
                    yield from _list_new(inner, layer, f"{above}{entry.name}/")
                    os.close(inner)
                    os.close(layer)
                    continue
            yield above + entry.name


def _refuse_mounts_below(folders: Sequence[Path]) -> None:
    """Refuse a folder with another file system in it, which an overlay would hide."""
    mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    points = [os.fsdecode(line.split()[4].encode().decode("unicode_escape")) for line in mounts]
    for folder in folders:
        if folder == Path("/") or any(point.startswith(f"{folder}/") for point in points):
            raise OSError(f"{folder} has a mount in it")


def _separate_mounts() -> None:
    """Give this process mounts of its own: as root at once, else as the same user in a user namespace."""
    user, group = os.geteuid(), os.getegid()
    try:
        _call("unshare", _NEW_MOUNTS)
    except OSError:
        _call("unshare", _NEW_MOUNTS | _NEW_USERS)
        own = Path("/proc/self")
        (own / "setgroups").write_text("deny", encoding="ascii")
        (own / "uid_map").write_text(f"{user} {user} 1", encoding="ascii")
        (own / "gid_map").write_text(f"{group} {group} 1", encoding="ascii")
    _call("mount", None, b"/", None, _PRIVATE, None)


def _mount(kind: bytes, folder: Path, options: bytes) -> None:
    _call("mount", kind, os.fsencode(folder), kind, 0, options)


def _call(name: str, *arguments: object) -> None:
    """Call a function of the C library; raise what it says."""
    library = ctypes.CDLL(None, use_errno=True)
    if getattr(library, name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
