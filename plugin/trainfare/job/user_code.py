"""Find the line of the user's own code where an exception was raised, and describe the exception in one line."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import sysconfig
import traceback
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, cast

import trainfare_core
import trainfare_providers
from trainfare_core.number_format import list_items, shorten_text

_PACKAGES = tuple({sysconfig.get_paths()[name] for name in ("purelib", "platlib", "stdlib", "platstdlib")})
_INSTALLED = frozenset({"site-packages", "dist-packages"})
"""Names of the folders of installed packages."""
_FOLDERS = (
    Path(__file__).parents[1],  # of the packages `job`, `trace` and `fake_step`
    *(Path(package.__path__[0]) for package in (trainfare_core, trainfare_providers)),
)
_OURS = tuple({str(path) for folder in _FOLDERS for path in (folder, folder.resolve())})
"""Files below these folders are of trainfare; an installer may have linked them (`uv` with `--link-mode symlink`)."""
_LONGEST_TEXT = 300
"""Characters of an exception's message that are kept: a chosen value, about four lines of a terminal."""
_CALLED_FROM = ", called from "
"""Between a line of a model library and the user's line that called it."""


def message_of(error: BaseException) -> str:
    """Return the message of an exception of the user's code, whatever its `__str__` does."""
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - the user's exception may have a `__str__` that fails
        return "its message cannot be read"


def describe(error: BaseException) -> str:
    """Return the exception's type and its message on one line, shortened."""
    first = shorten_text(" ".join(message_of(error).split()), _LONGEST_TEXT)
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def place_in_user_code(trace: TracebackType | None) -> str | None:
    """
    Find the innermost line that is neither of trainfare nor of an installed package.

    Returns:
        `file.py:12 in training_step`, after the innermost line of a model library that it called, if any; None
        where no frame is the user's or a model library's.
    """
    return _innermost(traceback.extract_tb(trace))


def place_of_caller() -> str | None:
    """Return the line of the user's code that is running, in the form of `place_in_user_code`."""
    return _innermost(traceback.extract_stack())


def list_places(code_places: Iterable[str]) -> str:
    """
    Return lines in the form of `place_in_user_code` as one text, which names a line that called several once.

    >>> list_places(["a.py:1 in f, called from t.py:9 in g", "a.py:2 in f, called from t.py:9 in g", "t.py:3 in g"])
    'a.py:1 in f and a.py:2 in f, called from t.py:9 in g; t.py:3 in g'
    """
    inner_by_caller: dict[str, list[str]] = {}
    for code_place in code_places:
        inner, called, caller = code_place.partition(_CALLED_FROM)
        inner_by_caller.setdefault(called + caller, []).append(inner)
    texts = [" and ".join(inner) + caller for caller, inner in inner_by_caller.items()]
    # Chosen: with the sentence around them they stay below the 500 characters that a profile allows.
    return list_items(texts, 380, separator="; ")


def put_user_first(code_place: str) -> str:
    """
    Return a line in the form of `place_in_user_code` that begins with the user's own.

    >>> put_user_first("lib.py:1 in load, called from t.py:9 in main"), put_user_first("t.py:9 in main")
    ('t.py:9 in main, through lib.py:1 in load', 't.py:9 in main')
    """
    library, called, user = code_place.partition(_CALLED_FROM)
    return f"{user}, through {library}" if called else library


def is_of_tracing(filename: str) -> bool:
    """Return whether a file is of trainfare or of torch."""
    return filename.startswith(("<", *_OURS)) or Path(filename).is_relative_to(_torch_folder())


@functools.cache
def _torch_folder() -> Path:
    spec = importlib.util.find_spec("torch")
    return Path((spec.submodule_search_locations or ["torch"])[0] if spec is not None else "torch")


def _innermost(frames: Sequence[traceback.FrameSummary]) -> str | None:
    user: traceback.FrameSummary | None = None
    library: traceback.FrameSummary | None = None
    for frame in frames:
        if frame.filename.startswith("<") or frame.filename.startswith(_OURS):
            continue
        if not _is_installed(frame.filename):
            user, library = frame, None
        elif not _is_plumbing(frame.filename):
            library = frame
    if user is None and library is None:
        return None
    if library is None:
        return _format_line(user) if user is not None else None
    return (
        f"{_format_line(library)}{_CALLED_FROM}{_format_line(user)}"
        if user is not None
        else _format_line(library)
    )


def is_of_user_code(trace: TracebackType | None) -> bool:
    """Return whether a line of the user's own code was being run where an exception was raised."""
    return any(is_users_file(frame.filename) for frame in traceback.extract_tb(trace))


def is_users_file(filename: str) -> bool:
    """Return whether a file is neither of trainfare nor of Python or an installed package."""
    return not filename.startswith(("<", *_OURS)) and not _is_installed(filename)


def is_of_loop(filename: str) -> bool:
    """Return whether a file may hold a training loop: the user's, or of a package other than torch and its like."""
    return is_users_file(filename) or (
        is_of_library(filename) and not _is_plumbing(filename) and "accelerate" not in Path(filename).parts
    )


def is_of_library(filename: str) -> bool:
    """Return whether a file is of Python or of an installed package other than trainfare."""
    return _is_installed(filename) and not filename.startswith(_OURS)


def _is_installed(filename: str) -> bool:
    """Return whether a file is of Python or of an installed package, also where that is in another prefix."""
    return filename.startswith(_PACKAGES) or not _INSTALLED.isdisjoint(Path(filename).parts)


def _is_plumbing(filename: str) -> bool:
    parts = Path(filename).parts
    folder = next((name for name in parts if name in _INSTALLED), None)
    if folder is None:
        return True
    home = parts[parts.index(folder) + 1]
    return home in (
        "torch",
        "lightning",
        "pytorch_lightning",
        "lightning_fabric",
        "lightning_utilities",
        "jsonargparse",
    )


def _format_line(frame: traceback.FrameSummary) -> str:
    return format_line(frame.filename, frame.lineno, frame.name)


def format_line(filename: str, line: int | None, name: str) -> str:
    """Return a line of a file in the form of `place_in_user_code`."""
    path = Path(filename)
    folder = next((number for number, part in enumerate(path.parts) if part in _INSTALLED), None)
    try:
        # Of a package from its name on: a profile does not tell where its writer's environment lies.
        shown = path.resolve().relative_to(Path.cwd()) if folder is None else Path(*path.parts[folder + 1 :])
    except ValueError:
        shown = path
    return f"{shown}:{line} in {name}"


def raise_error(error: BaseException) -> NoReturn:
    """Raise what was caught, or found, elsewhere."""
    raise error


def put_attribute(home: Any, name: str, value: object) -> Callable[[], None]:
    """Give an attribute another value, and return what undoes it; one that is inherited is then inherited again."""
    owned = cast("Mapping[str, object]", vars(home))
    is_own, before = name in owned, owned.get(name)
    setattr(home, name, value)

    def put_back() -> None:
        if owned.get(name) is not value:
            return  # the user has put another one around it
        if is_own:
            setattr(home, name, before)
        else:
            delattr(home, name)

    return put_back


@contextlib.contextmanager
def replace_attribute(home: Any, name: str, value: object) -> Generator[None, None, None]:
    """Give an attribute another value inside the block; see `put_attribute`."""
    put_back = put_attribute(home, name, value)
    try:
        yield
    finally:
        put_back()
