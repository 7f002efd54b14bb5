"""
The standard streams of the command, so that no answer fails for an encoding and no message for a full disk.

An answer that cannot be written is an `OutputError`; one that its reader stops reading (`| head -1`) is no error. A
message that cannot be written is lost.
"""

from __future__ import annotations

import codecs
import io
import os
import sys
from typing import TYPE_CHECKING, Final, TextIO

from trainfare_core.errors import OutputError

if TYPE_CHECKING:
    from typing_extensions import Buffer

ESCAPES: Final = "trainfare.escapes"
"""Name of the codec error handler: lines of boxes become ASCII, any other character that cannot be encoded is written
as JSON writes it, so that a document of JSON stays one."""
_LINES: Final = {"─": "-", "│": "|"}
_BOX_DRAWING: Final = range(0x2500, 0x2580)


def take_over() -> None:
    """Replace the standard streams of this process, which may be closed."""
    codecs.register_error(ESCAPES, _escape_error)
    # A file or pipe that is opened later must not become the standard stream of a descriptor that is closed. What
    # is written to a closed output fails; what is written to a closed standard error is lost.
    for descriptor, flags in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        if not _is_open(descriptor):
            os.open(os.devnull, flags)  # takes the lowest number that is free: this one
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - open as long as the process
    sys.stdout = _open_text(AnswerFile(1, "wb", closefd=False), sys.stdout, ESCAPES)
    sys.stderr = open_messages()


def open_messages() -> TextIO:
    """Return another standard error of this process, which may be closed without harm to the one that is."""
    return _open_text(_Messages(2, "wb", closefd=False), sys.stderr, "backslashreplace")


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _open_text(raw: io.FileIO, old: TextIO | None, errors: str) -> TextIO:
    encoding = "utf-8" if old is None else old.encoding
    lines = raw.isatty() or isinstance(raw, _Messages)
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding=encoding, errors=errors, line_buffering=lines)


class AnswerFile(io.FileIO):
    """Standard output: the first failure is our error, and what comes after it is dropped."""

    _failed = False

    def write(self, data: Buffer, /) -> int:
        """Write bytes, and return how many."""
        size = len(memoryview(data))
        if self._failed:
            return size
        try:
            return super().write(data)
        except BrokenPipeError:
            self._failed = True
            return size
        except OSError as error:
            self._failed = True
            msg = f"standard output: the answer cannot be written: {error.strerror}"
            raise OutputError(f"{msg}; send it somewhere else, or use --output FILE") from error


class _Messages(io.FileIO):
    """Standard error: a failure to write is ignored, since there is nowhere to say it."""

    def write(self, data: Buffer, /) -> int:
        try:
            return super().write(data)
        except OSError:
            return len(memoryview(data))


def _escape_error(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(_escape_char(char) for char in text), error.end


def _escape_char(char: str) -> str:
    if ord(char) in _BOX_DRAWING:
        return _LINES.get(char, "+")
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
