"""
Ctrl-C ends any command soon, also one whose main thread cannot see it.

Python runs the handler of a signal in the main thread, when that next runs Python. It does not while it computes in a
library, or where the system gave the signal to one of a library's threads and so did not wake it. So a thread of ours
waits for the signal too, wakes the main thread, and ends the process where that has not ended in a second.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

INTERRUPTED_EXIT: Final = 128 + signal.SIGINT
"""130, as shells say it."""
_TIME_TO_END_S: Final = 1.0
"""Chosen: half of the two seconds that are promised; an orderly end takes some milliseconds."""
_TIME_TO_SEE_S: Final = 0.1
"""Chosen: after it, the main thread is woken."""
_BY_DEFAULT: Final = ("SIGTERM", "SIGHUP", "SIGQUIT", "SIGCHLD")
"""Signals that end the command, or tell of its own processes."""

_state = {"interrupted": False, "let_pass": False}  # a handler may not wait for a lock, as that of an event


def end_soon_on_interrupt() -> None:
    """Let Ctrl-C raise KeyboardInterrupt as ever, and end the process where that has not done so in a second."""
    # A shell that starts a command in the background has it ignore Ctrl-C: then it stays so.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        return
    seen, sent = socket.socketpair()  # not a pipe, which Windows does not take
    sent.setblocking(False)
    signal.set_wakeup_fd(sent.detach(), warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(seen,), daemon=True).start()
    signal.signal(signal.SIGINT, _interrupt)


def was_interrupted() -> bool:
    """Return whether Ctrl-C was pressed, also where other code has caught the exception."""
    return _state["interrupted"]


def take_signals_back() -> None:
    """Undo what a script has done to signals: Ctrl-C ends the command, and no alarm disturbs it."""
    if threading.current_thread() is not threading.main_thread():
        return
    for number in signal.valid_signals():
        handler, name = signal.getsignal(number), getattr(number, "name", "")
        if name == "SIGINT" and handler is not signal.SIG_IGN:
            signal.signal(number, _interrupt)
        elif callable(handler):
            signal.signal(number, signal.SIG_DFL if name in _BY_DEFAULT else signal.SIG_IGN)


def noting_interrupts(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return `signal.signal` for a script: Ctrl-C has interrupted the command where its handler ends the script."""

    @functools.wraps(original)
    def install(number: int, handler: Any) -> Any:
        def handle(*args: Any) -> None:
            _state["interrupted"] = True
            handler(*args)
            _state.update(interrupted=False, let_pass=True)

        return original(number, handle if number == signal.SIGINT and callable(handler) else handler)

    return install


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    _state["interrupted"] = True
    raise KeyboardInterrupt


def _watch(seen: socket.socket) -> None:
    """Wait for the signal, which Python's own C handler tells whatever the main thread does."""
    with contextlib.suppress(OSError):  # a script may close what it does not know
        while got := seen.recv(64):
            if signal.SIGINT in got:
                end_in_time()


def _wake() -> None:
    main = threading.main_thread().ident
    if not any(_state.values()) and main is not None and hasattr(signal, "pthread_kill"):
        signal.pthread_kill(main, signal.SIGINT)


def say_interrupted() -> None:
    """Write the word past `sys.stderr`, whose lock a thread that hangs may hold."""
    cursor = "\x1b[?25h" if os.isatty(2) else ""  # a progress bar hides it
    with contextlib.suppress(OSError):
        os.write(2, f"{cursor}interrupted\n".encode())


def _end() -> None:
    if not _state["let_pass"]:
        say_interrupted()
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
