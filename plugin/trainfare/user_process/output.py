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

    What is shown ends with an end of line, so that an error that follows begins a line.

    Args:
        output: an unbuffered or buffered pipe; any bytes.
        limit_bytes: how many are shown.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    left, dropped, last = limit_bytes, 0, "\n"
    with output:
        while chunk := os.read(output.fileno(), _AT_ONCE_BYTES):
            text = decoder.decode(chunk[:left])
            last = text[-1:] or last
            _show(text)
            dropped += max(0, len(chunk) - left)
            left = max(0, left - len(chunk))
    text = decoder.decode(b"", final=True)
    _show(text if (text or last).endswith(("\n", "\r")) else f"{text}\n")
    if dropped:
        _show(f"warning: {dropped:,} bytes more that the TARGET printed are not shown\n")


def _show(text: str) -> None:
    if text:
        sys.stderr.write("\n".join(terminal_text(line) for line in text.replace("\r", "\n").split("\n")))
        sys.stderr.flush()
