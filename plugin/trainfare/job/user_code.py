"""Find the line of the user's own code where an exception was raised, and describe the exception in one line."""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path
from types import TracebackType

__all__ = ["describe", "place_in_user_code"]

_PACKAGES = tuple({sysconfig.get_paths()[name] for name in ("purelib", "platlib", "stdlib", "platstdlib")})
# Files below this folder are of trainfare: the folder that holds the packages `job`, `trace` and `prelaunch`.
_OURS = str(Path(__file__).resolve().parents[1])
_LONGEST_TEXT = 300
"""Characters of an exception's message that are kept: a chosen value, about four lines of a terminal."""


def describe(error: BaseException) -> str:
    """Return the exception's type and its message on one line, shortened."""
    first = " ".join(str(error).split())
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
