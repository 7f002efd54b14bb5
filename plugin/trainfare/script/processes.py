"""
Processes that a script starts: one that would train is called in this process, as the first of them.

`torch.multiprocessing.spawn` starts nothing. A `multiprocessing.Process` with a function of the script is started, and
stopped in its first backward pass or call of `init_process_group`, before it has made a step; it tells the script's
process by a signal, which a script that waits in `join` or for a queue is woken by. Processes of libraries, such as the
workers of a DataLoader, a pool or a manager, go on as they are.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import CodeType
from typing import Any, Final, NoReturn, cast, final

from trainfare.job import place_of_caller
from trainfare.job.loop import do_nothing
from trainfare.job.on_import import on_import
from trainfare.job.user_code import is_users_file, replace_attribute
from trainfare.script.device_count import DeviceCount

_WAKES: Final[Any] = signal.SIGRTMIN + 7 if hasattr(signal, "SIGRTMIN") else getattr(signal, "SIGUSR2", None)
"""The signal of a process that would train; None on Windows. Chosen: a real-time one, which libraries leave free."""
_SPAWNS: Final = ("spawn", "start_processes")
_told: Connection | None = None
"""In a process that was started: what its parent hears of it by."""


class Processes:
    """
    Sees the processes that a script starts.

    Args:
        refuse: called where one would train, with words of it, and ends the process; None: it is called here instead.
        on_call: told how many processes there would be, None where that is not known, and words of it.
        fail: ends the process, with words of what was called here and made no step.
    """

    def __init__(
        self,
        refuse: Callable[[str], NoReturn] | None,
        on_call: Callable[[int | None, str], None] = do_nothing,
        fail: Callable[[str], object] = do_nothing,
    ) -> None:
        self._refuse, self._on_call, self._fail = refuse, on_call, fail
        self._pid = os.getpid()
        self._started: list[_Started] = []
        self._has_called = self._starts = self._has_told = False

    def watch_processes(self, stack: ExitStack) -> None:
        """Watch `multiprocessing` until the stack is closed; not on Windows, which has no such signal."""
        if _WAKES is None:
            return
        start = self._watch_start(BaseProcess.start)
        stack.enter_context(replace_attribute(BaseProcess, "start", start))
        self._stack = stack

    def watch_torch(self, stack: ExitStack) -> None:
        """Replace `torch.multiprocessing.spawn`; called once torch is imported."""
        homes = [sys.modules[name] for name in ("torch.multiprocessing", "torch.multiprocessing.spawn")]
        for name in _SPAWNS:
            spawn = self._replace_spawn(getattr(homes[0], name), name)
            for home in homes:
                stack.enter_context(replace_attribute(home, name, spawn))

    def _replace_spawn(self, original: Callable[..., Any], name: str) -> Callable[..., Any]:
        @functools.wraps(original)
        def spawn(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            given = inspect.signature(original).bind(fn, *args, **kwargs)
            given.apply_defaults()
            named = given.arguments
            nprocs: int = named["nprocs"]
            what = f"torch.multiprocessing.{name} at {place_of_caller()}"
            if self._refuse is not None and nprocs > 1:
                self._refuse(f"{what} starts {nprocs} processes")
            self._on_call(max(1, nprocs), what)
            fn(0, *(named["args"] if nprocs else _count_one(named["args"])))
            return None if named["join"] else _Ended()

        return spawn

    def _watch_start(self, original: Callable[[BaseProcess], None]) -> Callable[[BaseProcess], None]:
        @functools.wraps(original)
        def start(process: Any) -> None:
            name, run = _find_users_code(process)
            if run is None or os.getpid() != self._pid:
                original(process)
                return
            if not self._started:
                before = signal.signal(_WAKES, self._take_over)
                self._stack.callback(signal.signal, _WAKES, before or signal.SIG_DFL)
            receive, send = multiprocessing.Pipe(duplex=False)
            call: Callable[[], object] = process.run
            if name == "_target":
                call = functools.partial(run, *process._args, **process._kwargs)  # noqa: SLF001
            what = f"{type(process).__name__} at {place_of_caller()}"
            self._started.append(_Started(process, receive, call, what))
            setattr(process, name, _Watched(run, send))
            self._starts, self._has_told = True, False
            try:
                original(process)
            finally:
                self._starts = False
            send.close()
            if self._has_told:  # before `start` had its process
                self._take_over()

        return start

    def _take_over(self, *_: object) -> None:
        """Call what a process would do, in the signal's handler, wherever the script waits for it."""
        if self._starts:
            self._has_told = True
            return
        told = [started for started in self._started if started.has_told()]
        for started in self._started if self._refuse is not None else told:
            started.process.kill()  # else the exit handlers of this process would wait for it
        if not told or self._has_called:
            return
        first, self._has_called = told[0], True
        if self._refuse is not None:
            self._refuse(f"{first.what} starts a process that trains")
        self._on_call(None, first.what)
        first.call()
        self._fail(first.what)


@dataclass(frozen=True, slots=True)
class _Started:
    """A process with the user's code, what tells of it, what it does, and words of it."""

    process: BaseProcess
    receive: Connection
    call: Callable[[], object]
    what: str

    def has_told(self) -> bool:
        """Return whether the process waits where it would train."""
        try:
            return self.receive.poll() and bool(self.receive.recv_bytes())
        except (EOFError, OSError):
            return False


def stop_in_child(pid: int) -> None:
    """In another process than that of the script, stop before a step, and tell that one."""
    if os.getpid() != pid and _told is not None:
        _stop_here()


@final
class _Watched:
    """What a process runs that is stopped before it trains; it is pickled where processes are spawned."""

    def __init__(self, run: Callable[..., Any], told: Connection) -> None:
        self._run, self._told_by = run, told

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        global _told
        _told = self._told_by
        with ExitStack() as stack, on_import("torch", lambda: _watch_torch_here(stack)):
            return self._run(*args, **kwargs)


@final
class _Ended:
    """Stands for processes that have ended."""

    processes: tuple[object, ...] = ()

    def join(self, *_: object, **__: object) -> bool:
        """Return that all have ended."""
        return True


def _watch_torch_here(stack: ExitStack) -> None:
    import torch

    from trainfare.trace.torch_private import RUN_BACKWARD

    stack.enter_context(replace_attribute(torch.autograd, RUN_BACKWARD, _stop_here))
    stack.enter_context(replace_attribute(torch.distributed, "init_process_group", _stop_here))


def _stop_here(*_: object, **__: object) -> NoReturn:
    """Tell the script's process, and wait for its end: one that waits for this must not go on as if it had trained."""
    parent: Any = multiprocessing.parent_process()
    with contextlib.suppress(OSError):  # another one has told it first
        cast("Connection", _told).send_bytes(b"trains")
        os.kill(parent.pid, _WAKES)
    parent.join()
    os._exit(0)


def _find_users_code(process: Any) -> tuple[str, Callable[..., Any] | None]:
    """Return the attribute of a process that is called, and what it calls where that is the user's code, else None."""
    run: Callable[..., Any] = process.__class__.run
    if run is BaseProcess.run:
        target = process._target  # noqa: SLF001
        return "_target", target if _is_users(target) else None
    return "run", functools.partial(run, process) if _is_users(run) else None


def _is_users(function: Any) -> bool:
    while isinstance(function, functools.partial):
        function = function.func
    function = getattr(function, "__func__", function)
    code = getattr(function, "__code__", None) or getattr(type(function).__call__, "__code__", None)
    return isinstance(code, CodeType) and is_users_file(code.co_filename)


def _count_one(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the arguments with the first 0 as 1: the number of GPUs, of which there are none here."""
    place = next(
        (index for index, value in enumerate(args) if type(value) in (int, DeviceCount) and not value), None
    )
    if place is None:
        return args
    none = args[place]
    one = DeviceCount.of(1, none.quotients) if isinstance(none, DeviceCount) else 1
    return (*args[:place], one, *args[place + 1 :])
