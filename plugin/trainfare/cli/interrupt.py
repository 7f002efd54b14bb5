"""
Ctrl-C ends any command soon, also one whose main thread cannot see it.

Python runs the handler of a signal in the main thread, when that next runs Python. It does not while it computes in a
library, or where the system gave the signal to one of a library's threads and so did not wake it. So a thread of ours
waits for the signal too, wakes the main thread, and ends the process where that has not ended in a second.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Final

INTERRUPTED_EXIT: Final = 128 + signal.SIGINT
"""130, as shells say it."""
_TIME_TO_END_S: Final = 1.0
"""Chosen: half of the two seconds that are promised; an orderly end takes some milliseconds."""
_TIME_TO_SEE_S: Final = 0.1
"""Chosen: after it, the main thread is woken."""

_state = {"interrupted": False}  # a handler may not wait for a lock, as that of an event


def end_soon_on_interrupt() -> None:
    """Let Ctrl-C raise KeyboardInterrupt as ever, and end the process where that has not done so in a second."""
    # A shell that starts a command in the background has it ignore Ctrl-C: then it stays so.
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return
    seen, sent = socket.socketpair()  # not a pipe, which Windows does not take
    sent.setblocking(False)
    signal.set_wakeup_fd(sent.detach(), warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(seen,), daemon=True).start()
    signal.signal(signal.SIGINT, _interrupt)


def was_interrupted() -> bool:
    """Return whether Ctrl-C was pressed, also where other code has caught the exception."""
    return _state["interrupted"]


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    _state["interrupted"] = True
    raise KeyboardInterrupt


def _watch(seen: socket.socket) -> None:
    """Wait for the signal, which Python's own C handler tells whatever the main thread does."""
    while signal.SIGINT not in seen.recv(64):
        pass
    end_in_time()


def _wake() -> None:
    main = threading.main_thread().ident
    if not _state["interrupted"] and main is not None and hasattr(signal, "pthread_kill"):
        signal.pthread_kill(main, signal.SIGINT)


def _end() -> None:
    # Past `sys.stderr`, whose lock the thread that hangs may hold.
    cursor = "\x1b[?25h" if os.isatty(2) else ""  # a progress bar hides it
    with contextlib.suppress(OSError):
        os.write(2, f"{cursor}interrupted\n".encode())
    os._exit(INTERRUPTED_EXIT)


def end_in_time(
    sleep: Callable[[float], None] = time.sleep,
    wake: Callable[[], None] = _wake,
    end: Callable[[], None] = _end,
) -> None:
    """
    End the process where an orderly end does not come in its time.

    Args:
        sleep: waits for some seconds.
        wake: lets the main thread see the signal, where it has not.
        end: ends the process.
    """
    for _ in range(round(_TIME_TO_END_S / _TIME_TO_SEE_S)):
        sleep(_TIME_TO_SEE_S)
        wake()
    end()
