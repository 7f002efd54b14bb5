"""An overlay on folders, or on every folder of the system: what this process writes there is gone when it ends."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import tempfile
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from trainfare.sandbox.kernel import bind, make_read_only, mount, separate_mounts
from trainfare.sandbox.written import Written

_OF_KERNEL: Final = frozenset(
    (
        "autofs", "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devpts", "devtmpfs", "efivarfs",
        "fusectl", "hugetlbfs", "mqueue", "nsfs", "proc", "pstore", "rpc_pipefs", "securityfs", "sysfs", "tracefs",
    )
)  # fmt: skip
"""File systems that hold no files."""
_LEFT: Final = frozenset(("proc", "sys", "dev", "run"))
"""Folders of the top in which there are devices and sockets: an overlay would cut them off."""
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_LOWER: Final = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC if sys.platform == "linux" else _FOLDER
"""Of a folder that this user may enter and not list, such as the one above their home."""


@dataclass(frozen=True, slots=True)
class _Mount:
    """A mount point as this process sees it."""

    path: Path
    kind: str
    writable: bool


@final
class Layers:
    """
    Makes layers for what is written: on a disk where one can hold it, else in half of the memory.

    Args:
        folders: on disks, tried in this order; a layer cannot lie in the folder that it is put over.
        as_root: with overlays in which a folder that was there before can be renamed; others say EXDEV.
    """

    def __init__(self, folders: Sequence[Path], *, as_root: bool) -> None:
        self._options = b"redirect_dir=on" if as_root else b"userxattr"
        self._mount_point, self._memory = folders[0], -1
        self._disks = [os.open(folder, _FOLDER) for folder in folders]
        self._count = 0

    def cover(self, folder: Path, lower: int) -> int:
        """
        Put an overlay on a folder, and return its upper layer.

        Args:
            folder: where the overlay is seen.
            lower: the open folder, which it shows.

        Raises:
            OSError: the system has no overlay for this user, or for such a folder.
        """
        problem: OSError | None = None
        for base in self._bases():
            try:
                return self._mount(folder, lower, base)
            except OSError as error:  # noqa: PERF203 - the next disk may take it
                problem = error
        raise problem or OSError("no layer")

    def _bases(self) -> Iterator[int]:
        yield from self._disks
        if self._memory < 0:
            place = self._mount_point / "memory"
            place.mkdir(exist_ok=True)
            mount(b"tmpfs", place, b"size=50%,mode=700")
            self._memory = os.open(place, _FOLDER)
        yield self._memory

    def _mount(self, folder: Path, lower: int, base: int) -> int:
        self._count += 1
        name, state = f"layer-{os.getpid()}-{self._count}", os.fstat(lower)
        descriptors = [lower]
        for path in (name, f"{name}.work"):
            os.mkdir(path, dir_fd=base)
            descriptors.append(os.open(path, _FOLDER, dir_fd=base))
        os.fchmod(descriptors[1], stat.S_IMODE(state.st_mode))
        if not os.geteuid():
            os.fchown(descriptors[1], state.st_uid, state.st_gid)
        # By their numbers, as a path in these options could need escapes; and they stay in reach under the overlay.
        layers = b"lowerdir=/proc/self/fd/%d,upperdir=/proc/self/fd/%d,workdir=/proc/self/fd/%d," % tuple(
            descriptors
        )
        mount(b"overlay", folder, layers + self._options)
        return descriptors[1]


@final
class Overlay:
    """
    Folders of this process alone: what it writes there is gone when it ends. It needs a single thread.

    Args:
        folders: that exist, none within another one.
        layers: folders on disks for the layers that take what is written.

    Raises:
        OSError: the system has no overlay for this user, or for such a folder.
    """

    def __init__(self, folders: Sequence[Path], layers: Sequence[Path]) -> None:
        points = {point.path for point in _list_mounts()}
        for folder in folders:
            if any(folder in point.parents for point in points):
                raise OSError(f"{folder} has a mount in it")
        made, here = Layers(layers, as_root=separate_mounts()), Path.cwd()
        self._layers: list[tuple[Path, int, int]] = []
        for folder in folders:
            lower = os.open(folder, _LOWER)
            self._layers.append((folder, lower, made.cover(folder, lower)))
        os.chdir(here)

    def list_written(self) -> list[Written]:
        """List what was written, a new folder without what is in it."""
        return [
            item for folder, lower, upper in self._layers for item in _list_new(lower, upper, f"{folder}/")
        ]


@final
class SystemOverlay:
    """
    Every folder of the system under an overlay of this process alone; it needs a single thread.

    Where a file system takes no overlay, nothing can be written.

    Args:
        layers: folders on disks for the layers that take what is written.
        kept: folders that are written to for real, as far as they are there.

    Raises:
        OSError: the system has no overlay for this user, or for the working folder.
    """

    def __init__(self, layers: Sequence[Path], kept: Sequence[Path]) -> None:
        here, mounts = Path.cwd(), {point.path: point for point in _list_mounts()}
        self._made = Layers(layers, as_root=separate_mounts())
        self._layers: list[tuple[Path, int, int]] = []
        self._points: dict[Path, tuple[_Mount, int]] = {}
        for path, point in mounts.items():
            if path != Path("/") and path.parts[1] not in _LEFT:
                with contextlib.suppress(OSError):  # in a folder that this user may not enter
                    self._points[path] = point, os.open(path, os.O_PATH | os.O_CLOEXEC)
        kept_open = [(path, os.open(path, _LOWER)) for path in kept if path.is_dir()]
        with os.scandir("/") as entries:
            tops = [Path(e.path) for e in entries if e.is_dir(follow_symlinks=False) and e.name not in _LEFT]
        for path in sorted(tops):
            if path in self._points:
                self._cover_point(path)
            elif path not in mounts:
                self._cover(path)
        for path, descriptor in kept_open:
            bind(descriptor, path)
        shared = Path("/dev/shm")  # noqa: S108 - what processes share is theirs alone
        if shared.is_dir():
            mount(b"tmpfs", shared, b"mode=1777")
        make_read_only(Path("/"))
        os.chdir(here)
        if os.access(here, os.W_OK):
            with tempfile.TemporaryFile(dir=here):  # another user's folder can refuse it
                pass

    def _cover(self, folder: Path) -> None:
        """Put an overlay on a folder, and what is mounted in it on that; else let nothing be written there."""
        inner = [path for path in self._points if folder in path.parents]
        lower = os.open(folder, _LOWER)
        try:
            self._layers.append((folder, lower, self._made.cover(folder, lower)))
        except OSError:
            bind(lower, folder)
            make_read_only(folder)
        for path in inner:
            if not any(other in path.parents for other in inner):
                bind(self._points[path][1], path)
                self._cover_point(path)

    def _cover_point(self, path: Path) -> None:
        point, _ = self._points[path]
        if not point.writable or point.kind in _OF_KERNEL:
            return
        if path.is_dir():
            self._cover(path)
        else:
            make_read_only(path)

    def list_written(self) -> list[Written]:
        """List what was written, a new folder without what is in it."""
        return [
            item for folder, lower, upper in self._layers for item in _list_new(lower, upper, f"{folder}/")
        ]


def _list_mounts() -> list[_Mount]:
    lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    points: list[_Mount] = []
    for line in lines:
        fields = line.split()
        path = os.fsdecode(
            fields[4].encode("utf-8", "surrogateescape").decode("unicode_escape").encode("latin-1")
        )
        kind = fields[fields.index("-", 6) + 1]
        points.append(_Mount(Path(path), kind, "rw" in fields[5].split(",")))
    return points


def _list_new(lower: int, upper: int, above: str) -> Generator[Written, None, None]:
    with os.scandir(upper) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.name == "__pycache__":
                continue
            try:
                is_folder = entry.is_dir(follow_symlinks=False)
                before = _stat(entry.name, lower)
                if is_folder and before is not None and stat.S_ISDIR(before.st_mode):
                    inner = os.open(entry.name, _FOLDER, dir_fd=lower)
                    layer = os.open(entry.name, _FOLDER, dir_fd=upper)
                    yield from _list_new(inner, layer, f"{above}{entry.name}/")
                    os.close(inner)
                    os.close(layer)
                    continue
                size = _count_bytes(entry.name, upper)
            except OSError:
                continue
            yield Written(above + entry.name, size, is_new=before is None)


def _stat(name: str, folder: int) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _count_bytes(name: str, folder: int) -> int:
    """Return the bytes of a file, or of all that are in a folder."""
    state = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if not stat.S_ISDIR(state.st_mode):
        return state.st_size
    inner = os.open(name, _FOLDER, dir_fd=folder)
    try:
        with os.scandir(inner) as entries:
            return sum(_count_bytes(entry.name, inner) for entry in entries)
    finally:
        os.close(inner)
