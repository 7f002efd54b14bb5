"""
A process that waits for the one that runs a script, and ends with the exit code of the command.

A library or a signal can end the process of a script with any code, 0 and 1 among them. So that is a fork, which tells
the command's own code in shared memory: a descriptor could be closed by the script. On Linux alone: frameworks of
macOS do not bear a fork.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import sys
from contextlib import suppress
from typing import Any, Final, NoReturn

from trainfare.cli.interrupt import INTERRUPTED_EXIT, say_interrupted
from trainfare_core.errors import TargetError

_PASSED_ON: Final = (
    "SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGTSTP", "SIGCONT",
)  # fmt: skip
_PARENT_DEATH_SIGNAL: Final = 1
"""An option of `prctl`."""
_told: list[mmap.mmap] = []


def run_in_fork() -> None:
    """Go on in a fork; this process waits for it and ends as it says, or with 2 where it ended without a word."""
    if sys.platform != "linux":
        return
    told, parent = mmap.mmap(-1, 1), os.getpid()
    # From now on signals wait for the one who asks for them; without a handler, that of a child may be lost.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, *map(_number, _PASSED_ON)})
    of_child = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    child = os.fork()
    if child:
        _wait_for(child, told)
    _told.append(told)
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(TargetError.exit_code)  # it was killed already
    signal.signal(signal.SIGCHLD, of_child)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def tell_exit_code(code: int) -> None:
    """Settle the exit code of the command, whatever ends this process; the first one counts."""
    for told in _told:
        told[0] = told[0] or code + 1


def _number(name: str) -> signal.Signals:
    return signal.Signals[name]


def _wait_for(child: int, told: mmap.mmap) -> NoReturn:
    """Pass signals on until a process ends, and end as it has said, or by the reason for its end."""
    passed, status = set[int](), None
    while status is None:
        got: Any = signal.sigwaitinfo({signal.SIGCHLD, *map(_number, _PASSED_ON)})
        if got.si_signo != signal.SIGCHLD:
            passed.add(got.si_signo)
            if got.si_code <= 0:  # of a process; what a terminal sends goes to the whole group
                os.kill(child, got.si_signo)
            continue
        ended, state = os.waitpid(child, os.WNOHANG | os.WUNTRACED)
        if ended and os.WIFSTOPPED(state):
            os.kill(os.getpid(), signal.SIGSTOP)  # a shell waits for this one
            os.kill(child, signal.SIGCONT)
        elif ended:
            status = os.waitstatus_to_exitcode(state)
    if not told[0]:
        _explain(status, passed)
    os._exit(told[0] - 1)


def _explain(status: int, passed: set[int]) -> NoReturn:
    """End this process where the script has ended its own without a word of ours."""
    if signal.SIGINT in passed or status == -signal.SIGINT:
        if status != INTERRUPTED_EXIT:  # else ours has said it
            say_interrupted()
        os._exit(INTERRUPTED_EXIT)
    if -status in passed:
        signal.signal(-status, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {-status})
        os.kill(os.getpid(), -status)
    why = ", as the system does where memory runs out" if status == -signal.SIGKILL else ""
    how = (
        f"by signal {-status} ({signal.strsignal(-status)}){why}"
        if status < 0
        else f"with exit code {status}"
    )
    with suppress(OSError):
        os.write(
            2, f"error: the process of the script was ended {how}, before there was an answer\n".encode()
        )
    os._exit(TargetError.exit_code)
