"""Find the line of the user's own code where an exception was raised, and describe the exception in one line."""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path
from types import TracebackType

import trainfare_core
import trainfare_providers

__all__ = ["describe", "is_of_user_code", "place_in_user_code"]

_PACKAGES = tuple({sysconfig.get_paths()[name] for name in ("purelib", "platlib", "stdlib", "platstdlib")})
_OURS = (
    # The folder of the packages `job`, `trace` and `prelaunch`, and those of the two other roots.
    str(Path(__file__).resolve().parents[1]),
    *(str(Path(package.__path__[0]).resolve()) for package in (trainfare_core, trainfare_providers)),
)
"""Files below these folders are of trainfare."""
_LONGEST_TEXT = 300
"""Characters of an exception's message that are kept: a chosen value, about four lines of a terminal."""


def describe(error: BaseException) -> str:
    """Return the exception's type and its message on one line, shortened."""
    try:
        first = " ".join(str(error).split())
    except Exception:  # noqa: BLE001 - the user's exception may have a `__str__` that fails
        first = "its message cannot be read"
    if len(first) > _LONGEST_TEXT:
        first = first[:_LONGEST_TEXT] + "..."
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def place_in_user_code(trace: TracebackType | None) -> str | None:
    """
    Find the innermost line that is neither of trainfare nor of an installed package.

    Returns:
        `file.py:12 in training_step`, after the innermost line of a model library that it called, if any; None
        where no frame is the user's or a model library's.
    """
    user: traceback.FrameSummary | None = None
    library: traceback.FrameSummary | None = None
    for frame in traceback.extract_tb(trace):
        if frame.filename.startswith("<") or frame.filename.startswith(_OURS):
            continue
        if not frame.filename.startswith(_PACKAGES):
            user, library = frame, None
        elif not _is_plumbing(frame.filename):
            library = frame
    if user is None and library is None:
        return None
    if library is None:
        return _line(user) if user is not None else None
    return f"{_line(library)}, called from {_line(user)}" if user is not None else _line(library)


def is_of_user_code(trace: TracebackType | None) -> bool:
    """Return whether a line of the user's own code was being run where an exception was raised."""
    return any(
        not frame.filename.startswith(("<", *_OURS, *_PACKAGES)) for frame in traceback.extract_tb(trace)
    )


def _is_plumbing(filename: str) -> bool:
    parts = Path(filename).parts
    if "site-packages" not in parts:
        return True
    home = parts[parts.index("site-packages") + 1]
    return home in (
        "torch",
        "lightning",
        "pytorch_lightning",
        "lightning_fabric",
        "lightning_utilities",
        "jsonargparse",
    )


def _line(frame: traceback.FrameSummary) -> str:
    path = Path(frame.filename)
    try:
        shown = path.resolve().relative_to(Path.cwd())
    except ValueError:
        shown = path
    return f"{shown}:{frame.lineno} in {frame.name}"
