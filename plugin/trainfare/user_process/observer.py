"""
Note what the user's code reads while it is loaded and traced.

Python reports every file that is opened, every folder that is listed and every connection to an audit hook (PEP 578),
and asks a finder for every module. Two things that it does not report are noted by replacements that do the same:
`os.stat`, by which code asks whether a file is there and how large it is, and the look-up of environment variables.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import sys
import time
from collections.abc import Callable, ItemsView, Iterable, Iterator
from importlib.util import source_from_cache
from types import FrameType
from typing import Any, ClassVar, Final

from trainfare.user_process.messages import Noted
from trainfare.user_process.places import INSTALLED, OURS, Places
from trainfare.user_process.trace_inputs import (
    EVERY,
    MOST_BYTES,
    FileState,
    Imports,
    Listing,
    States,
    TooLargeError,
    TraceInputs,
    variables_digest,
)

_UNSEEN_WORK: Final = (
    "socket.connect", "socket.getaddrinfo", "socket.sendto", "urllib.Request", "subprocess.Popen", "os.system",
    "os.posix_spawn", "os.exec", "os.fork", "os.forkpty", "os.spawn", "os.startfile", "sqlite3.connect",
)  # fmt: skip
"""Audit events of work whose result may differ from run to run, and of which nothing is seen."""
_NATIVE_READERS: Final = frozenset({
    "av", "cv2", "decord", "duckdb", "h5py", "lmdb", "netCDF4", "polars", "pyarrow.csv", "pyarrow.dataset",
    "pyarrow.feather", "pyarrow.json", "pyarrow.orc", "pyarrow.parquet", "rasterio", "tables", "torchcodec",
})  # fmt: skip
"""Modules whose compiled code opens data files itself, so that Python does not report them."""
_SYSTEM: Final = ("/proc/", "/sys/", "/dev/")
"""What the operating system says about itself: it changes all the time."""
_LIBRARIES_CACHE: Final = "/etc/ld.so.cache"
"""What `ldconfig -p` prints: `ctypes.util.find_library` runs it, also where torch for CUDA is imported."""
_PREFIXED: Final = ("tqdm", "fsspec")
"""Packages that look through all variables for those with a prefix of theirs, which every key of a trace has anyway."""
_MOST_PATHS: Final = 20_000
"""Paths of one trace; a chosen value: four times what torch, Lightning and scikit-learn read together."""
_WRITES: Final = os.O_WRONLY | os.O_RDWR
_FINDERS: Final = (
    "_frozen_importlib_external", "importlib._bootstrap", "importlib.metadata", "importlib_metadata", "trainfare.job.",
    "trainfare.user_process.",
)  # fmt: skip
"""Modules that list folders to find modules; the imports that they are asked for are noted one by one."""
_OUR_FORKS: Final = "trainfare.user_process."
"""Of their work all is seen."""
_LATE_NS: Final = 20_000_000
"""File systems take the time of a change from a clock that ticks every 1 to 10 ms; twice that."""
_FRAMES: Final = 4
"""How many callers are looked at to tell who lists a folder: `pathlib` has up to three functions in between."""


class _Variables(os._Environ[str]):  # noqa: SLF001 - the class of `os.environ` # pyright: ignore[reportPrivateUsage]
    """`os.environ`, with the names that were looked up; `EVERY` after a look through all of them."""

    read: ClassVar[set[str]] = set()

    def __getitem__(self, key: str) -> str:
        self.read.add(key)
        return super().__getitem__(key)

    def __iter__(self) -> Iterator[str]:
        self.read.add(EVERY)
        return super().__iter__()

    def items(self) -> ItemsView[str, str]:
        if _module(_caller(1)).partition(".")[0] not in _PREFIXED:
            return super().items()
        inner: dict[Any, Any] = vars(self)["_data"]
        return {self.decodekey(key): self.decodevalue(value) for key, value in inner.items()}.items()


class Observer:
    """
    Notes what is read in this process from now on. It cannot be taken away again.

    Args:
        places: the folders that have names.
        clock_ns: ns since 1970; a file that changes after this moment has an unknown content.
    """

    def __init__(self, places: Places, *, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._places = places
        self._since_ns = clock_ns() - _LATE_NS
        self._paths: dict[str, None] = {}
        self._written: set[str] = set()
        self._listed: dict[str, None] = {}
        self._tried: dict[str, set[str]] = {}
        self._environment = dict(os.environ)
        self._obstacle = ""

    def start(self) -> None:
        """Begin to note."""
        handlers: dict[str, Callable[[tuple[Any, ...]], None]] = {
            "open": self._note_open,
            "import": self._note_import,
            "os.listdir": self._listing,
            "os.scandir": self._listing,
            **{event: self._watch_unseen(event) for event in _UNSEEN_WORK},
        }

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            handler = handlers.get(event)
            if handler is not None:
                try:
                    handler(arguments)
                except Exception as error:  # noqa: BLE001 - an exception here would be the user's
                    self._obstacle = f"noting it failed: {type(error).__name__}"

        sys.addaudithook(hook)
        sys.meta_path.insert(0, self)  # a finder that finds nothing
        self._replace_stat()
        os.environ.__class__ = (
            _Variables  # another class of the same object, which other modules hold already
        )

    def forget(self) -> None:
        """Begin anew in a fork, which tells what it noted to the process that made it."""
        for notes in (self._paths, self._written, self._listed, self._tried, _Variables.read):
            notes.clear()

    def noted(self) -> Noted:
        """Return what was read since `forget`."""
        return Noted(
            paths=tuple(self._paths),
            written=tuple(self._written),
            listed=tuple(self._listed),
            tried={entry: tuple(names) for entry, names in self._tried.items()},
            variables=tuple(_Variables.read),
            obstacle=self._find_obstacle(),
        )

    def add(self, noted: Noted) -> None:
        """Add what a fork of this process has read."""
        self._paths.update(dict.fromkeys(noted.paths))
        self._written.update(noted.written)
        self._listed.update(dict.fromkeys(noted.listed))
        for entry, names in noted.tried.items():
            self._tried.setdefault(entry, set()).update(names)
        _Variables.read.update(noted.variables)
        self._obstacle = self._obstacle or noted.obstacle

    def _find_obstacle(self) -> str:
        return self._obstacle or next(iter(_NATIVE_READERS.intersection(sys.modules)), "")

    def inputs(self) -> TraceInputs | None:
        """Return what was read up to now; None where it cannot be known, or is too much to compare."""
        if self._find_obstacle():
            return None
        states = States()
        try:
            files = tuple(self._list_files(states))
        except (TooLargeError, _ChangedError):
            return None
        return TraceInputs(
            files=files,
            listings=tuple(self._listings(states)),
            imports=tuple(self._imports(states)),
            variables=tuple(sorted(_Variables.read)),
            variables_digest=variables_digest(_Variables.read, self._environment),
        )

    def find_spec(self, name: str, path: Iterable[str] | None = None, target: object = None) -> None:  # noqa: ARG002
        """Note in which folders a module is looked for; the next finder finds it."""
        last = name.rpartition(".")[2]
        for entry in sys.path if path is None else path:
            self._tried.setdefault(entry, set()).add(last)

    # ---- what is noted

    def _note_open(self, arguments: tuple[Any, ...]) -> None:
        path, _, flags = arguments
        name = _absolute(path)
        if not name:
            return
        self._paths[name] = None
        if flags & _WRITES:
            self._written.add(name)

    def _note_import(self, arguments: tuple[Any, ...]) -> None:
        file = arguments[1]
        if isinstance(file, str):  # compiled code, which the system opens
            self._paths[_absolute(file)] = None

    def _listing(self, arguments: tuple[Any, ...]) -> None:
        if _is_import(_caller(2)):  # beyond the hook
            return
        path = _absolute(arguments[0] if arguments[0] is not None else ".")
        if path:
            self._listed[path] = None
        else:
            self._obstacle = "a folder is listed by its number"

    def _watch_unseen(self, event: str) -> Callable[[tuple[Any, ...]], None]:
        def note_obstacle(arguments: tuple[Any, ...]) -> None:
            if event in ("subprocess.Popen", "os.posix_spawn") and _prints_libraries(arguments):
                self._paths[_LIBRARIES_CACHE] = None
            elif event != "os.fork" or not _module(_caller(2)).startswith(_OUR_FORKS):
                self._obstacle = event

        return note_obstacle

    def _replace_stat(self) -> None:
        original: Callable[..., os.stat_result] = os.stat

        def note_and_stat(path: Any, *arguments: Any, **options: Any) -> os.stat_result:
            if not options.get("dir_fd"):
                name = _absolute(path)
                if name:
                    self._paths[name] = None
            return original(path, *arguments, **options)

        note_and_stat.__name__, note_and_stat.__doc__ = original.__name__, original.__doc__
        for supported in (os.supports_dir_fd, os.supports_fd, os.supports_follow_symlinks):
            if original in supported:
                supported.add(note_and_stat)
        os.stat = note_and_stat

    # ---- what is told

    def _list_files(self, states: States) -> list[FileState]:
        if len(self._paths) > _MOST_PATHS:
            raise TooLargeError
        files: list[FileState] = []
        left_bytes = MOST_BYTES
        for path in sorted({*map(_source, self._paths)}):
            place_of_file = self._places.place(path)
            if place_of_file.folder.startswith(OURS) or path.startswith(_SYSTEM):
                continue
            state = states.state(place_of_file, path)
            if not place_of_file.folder.startswith(INSTALLED):
                left_bytes -= state.size_bytes
            if left_bytes < 0:
                raise TooLargeError
            if path not in self._written and states.get_touched_ns(path) >= self._since_ns:
                raise _ChangedError
            files.append(state)
        return sorted(files, key=lambda state: state.place.folder.startswith(INSTALLED))

    def _listings(self, states: States) -> list[Listing]:
        places = [
            (path, self._places.place(path)) for path in sorted(self._listed) if not path.startswith(_SYSTEM)
        ]
        return [
            Listing(place=folder_place, names=states.names(path))
            for path, folder_place in places
            if not folder_place.folder.startswith((INSTALLED, OURS))
        ]

    def _imports(self, states: States) -> list[Imports]:
        imports: list[Imports] = []
        for entry, names in sorted(self._tried.items()):
            folder = _absolute(entry or ".")
            folder_place = self._places.place(folder)
            if not folder_place.folder.startswith((INSTALLED, OURS)):
                names_wanted = tuple(sorted(names))
                imports.append(
                    Imports(
                        place=folder_place,
                        names=names_wanted,
                        found=states.find_entries(folder, names_wanted),
                    )
                )
        return imports


class _ChangedError(Exception):
    """A file changed while it was read."""


def _absolute(path: Any) -> str:
    """Return a path from the root; "" for the number of an open file."""
    if isinstance(path, int):
        return ""
    with contextlib.suppress(TypeError, ValueError, OSError):
        return os.path.abspath(os.fsdecode(path))  # noqa: PTH100 - speed, and links stay as they were named
    return ""


def _prints_libraries(arguments: tuple[Any, ...]) -> bool:
    """Return whether a program that is started is `ldconfig -p`, which reads one file."""
    program, words = arguments[:2]
    return os.path.basename(_absolute(program)) == "ldconfig" and list(words)[1:] == ["-p"]  # noqa: PTH119


def _source(path: str) -> str:
    """Return the source of a compiled module, which Python reads in its place, or the path itself."""
    if path.endswith(".pyc") and "__pycache__" in path:
        with contextlib.suppress(ValueError):
            return source_from_cache(path)
    return path


def _caller(above: int) -> FrameType | None:
    """Return the frame so many callers above the function that calls this one."""
    frame = inspect.currentframe()
    for _ in range(above + 1):
        frame = frame and frame.f_back
    return frame


def _module(frame: FrameType | None) -> str:
    return "" if frame is None else str(frame.f_globals.get("__name__", ""))


def _is_import(frame: FrameType | None) -> bool:
    """Return whether Python or trainfare lists a folder to find modules, packages or what was read."""
    for _ in range(_FRAMES):
        if frame is None:
            return False
        if _module(frame).startswith(_FINDERS):
            return True
        frame = frame.f_back
    return False
