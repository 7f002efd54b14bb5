"""Show what the user's code prints: on standard error, without what controls a terminal, and not without end."""

from __future__ import annotations

import codecs
import os
import sys
from typing import IO, Final

from trainfare.report.escape import terminal_text

_AT_ONCE_BYTES: Final = 2**16
"""As much as a pipe holds on Linux."""


def forward(output: IO[bytes], limit_bytes: int) -> None:
    """
    Copy output to standard error until it ends; what exceeds the limit is read and dropped.

    Args:
        output: an unbuffered or buffered pipe; any bytes.
        limit_bytes: how many are shown.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    left, dropped = limit_bytes, 0
    with output:
        while chunk := os.read(output.fileno(), _AT_ONCE_BYTES):
            _show(decoder.decode(chunk[:left]))
            dropped += max(0, len(chunk) - left)
            left = max(0, left - len(chunk))
    _show(decoder.decode(b"", final=True))
    if dropped:
        _show(f"\nwarning: {dropped:,} bytes more that the TARGET printed are not shown\n")


def _show(text: str) -> None:
    if text:
        sys.stderr.write("\n".join(terminal_text(line) for line in text.replace("\r", "\n").split("\n")))
        sys.stderr.flush()
