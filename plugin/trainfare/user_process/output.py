"""Show what the user's code prints: on standard error, without what controls a terminal, and not without end."""

from __future__ import annotations

import codecs
import logging
import os
import sys
import warnings
from typing import IO, Any, Final

from trainfare.job.user_code import is_of_library
from trainfare.report.escape import terminal_text

_AT_ONCE_BYTES: Final = 2**16
"""As much as a pipe holds on Linux."""


_MARK: Final = "\x1e"
"""Stands before a line of the script's libraries; a separator of records, which no text has."""


def mark_library_messages() -> None:
    """Let warnings and log records of installed packages come as marked lines, which `forward` counts."""
    show, make = warnings.showwarning, logging.getLogRecordFactory()

    def show_warning(message: Warning | str, category: type[Warning], filename: str, *rest: Any) -> None:
        if is_of_library(filename):
            _write_marked(f"{category.__name__}: {message}")
        else:
            show(message, category, filename, *rest)

    def make_record(name: str, level: int, path: str, *rest: Any, **others: Any) -> logging.LogRecord:
        record = make(name, level, path, *rest, **others)
        if is_of_library(path):
            _write_marked(record.getMessage())
            record.levelno = -1  # below that of any handler
        return record

    warnings.showwarning = show_warning  # type: ignore[assignment]  # its last arguments are passed on
    logging.setLogRecordFactory(make_record)


def _write_marked(text: str) -> None:
    sys.__stderr__.write(f"{_MARK}{' '.join(text.split())}\n")  # type: ignore[union-attr]


def forward(output: IO[bytes], limit_bytes: int) -> None:
    """
    Copy output to standard error until it ends; what exceeds the limit is read and dropped.

    What is shown ends with an end of line, so that an error that follows begins a line. Marked lines are only counted.

    Args:
        output: an unbuffered or buffered pipe; any bytes.
        limit_bytes: how many are shown.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    left, dropped, last, begun, count = limit_bytes, 0, "\n", "", 0
    with output:
        while chunk := os.read(output.fileno(), _AT_ONCE_BYTES):
            text, *lines = (begun + decoder.decode(chunk[:left])).split(_MARK)
            begun = ""
            for line in lines:
                _, end, rest = line.partition("\n")
                text, count, begun = text + rest, count + len(end), "" if end else _MARK + line
            last = text[-1:] or last
            _show(text)
            dropped += max(0, len(chunk) - left)
            left = max(0, left - len(chunk))
    text = decoder.decode(b"", final=True)
    _show(text if (text or last).endswith(("\n", "\r")) else f"{text}\n")
    if count:
        libraries = f"{count} message{'s' if count > 1 else ''} of the script's libraries"
        _show(f"note: {libraries}, not shown: TRAINFARE_DEBUG=1 shows {'them' if count > 1 else 'it'}\n")
    if dropped:
        _show(f"warning: {dropped:,} bytes more that the TARGET printed are not shown\n")


def _show(text: str) -> None:
    if text:
        sys.stderr.write("\n".join(terminal_text(line) for line in text.replace("\r", "\n").split("\n")))
        sys.stderr.flush()
