"""Ctrl-C ends any command soon, also one whose threads are waiting for a network."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType
from typing import Final

__all__ = ["INTERRUPTED_EXIT", "end_soon_on_interrupt", "was_interrupted"]

INTERRUPTED_EXIT: Final = 128 + signal.SIGINT
"""130, as shells say it."""
_TIME_TO_END_S: Final = 1.0
"""Chosen: half of the two seconds that are promised; an orderly end takes some milliseconds."""

_interrupted = threading.Event()


def end_soon_on_interrupt() -> None:
    """Let Ctrl-C raise KeyboardInterrupt as ever, and end the process where that has not done so in a second."""
    # A shell that starts a command in the background has it ignore Ctrl-C: then it stays so.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)


def was_interrupted() -> bool:
    """Return whether Ctrl-C was pressed, also where other code has caught the exception."""
    return _interrupted.is_set()


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    _interrupted.set()
    last = threading.Timer(_TIME_TO_END_S, _end)
    last.daemon = True
    last.start()
    raise KeyboardInterrupt


def _end() -> None:
    if sys.stderr.isatty():
        sys.stderr.write("\x1b[?25h\n")  # a progress bar hides the cursor
        sys.stderr.flush()
    os._exit(INTERRUPTED_EXIT)
