"""Start, watch and end the process of the user's code."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Final, final

from trainfare.job.made_up_data import MadeUpData
from trainfare.methods.step_change import StepChange
from trainfare.sandbox import list_caches
from trainfare.sandbox.macos import PROGRAM, wall_command
from trainfare.user_process.copied_folder import CopiedFolder
from trainfare.user_process.environment import environment_of, list_withheld
from trainfare.user_process.folders import ProcessFolders
from trainfare.user_process.kept_data import keep_new
from trainfare.user_process.limits import ProcessLimits, machine_memory_gib
from trainfare.user_process.messages import (
    Answer,
    JobFacts,
    Start,
    Trace,
    WrittenFile,
    error_of,
    read_replies,
)
from trainfare.user_process.output import forward
from trainfare_core.documents import Record
from trainfare_core.errors import InternalError, ProfileError, TargetError
from trainfare_core.job_profile import JobProfile

_BOOT: Final = "import sys; sys.path[:] = sys.argv[1:]; from trainfare.user_process.child import main; main()"
"""The process imports from where this one does, and nothing of the working folder before that is so."""
_LOOK_S: Final = 0.1
"""Chosen: how often an end of the process is looked for; an answer and a closed pipe are seen at once."""
_LAST_WORDS_S: Final = 2.0
"""Chosen: seconds that output may take to arrive after the process has ended."""


@final
class UserProcess:
    """
    A TARGET that is loaded and traced in a process of its own; a context manager that ends it with all it started.

    `alone` tells, once the job is loaded, whether the process cannot signal others; see `keep_signals_inside`. `kept`
    has the new files that were kept then; see `ProcessLimits`.

    The process starts at once: what the command does meanwhile costs no time.

    Args:
        target: see `load_job`, or a script, see `script_of`.
        fit, optimizer_step: of a script; see `run_script`.
        made_up: of a script, what stands for its data; None reads them.
        limits: what the process may use.
        copied: another copy of the TARGET's folder to load it from; None loads it where it is.
        command: how the process is started; None is this interpreter with the child's module.
        clock: seconds; the time limit counts them.
    """

    def __init__(
        self,
        target: str,
        limits: ProcessLimits,
        *,
        fit: int = 1,
        optimizer_step: int | None = None,
        made_up: MadeUpData | None = None,
        copied: CopiedFolder | None = None,
        command: list[str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._target, self._limits, self._clock = target, limits, clock
        self._job: JobFacts | None = None
        self._ready = self.alone = False
        self.kept: tuple[WrittenFile, ...] = ()
        self._cpu_before_s = _children_cpu_s()
        self._over: TargetError | InternalError | None = None
        self._replies: queue.SimpleQueue[Answer | str] = queue.SimpleQueue()
        self._folders = ProcessFolders(caches=limits.sandbox != ("none",))
        self._written: tuple[WrittenFile, ...] = ()
        walled = sys.platform == "darwin" and limits.sandbox != ("none",) and PROGRAM.exists()
        wall = (
            wall_command([Path(self._folders.scratch).resolve(), *list_caches(os.environ)]) if walled else []
        )
        memory_gib = limits.memory_gib or machine_memory_gib()
        search_path = list_search_path(sys.path, os.environ, isolated=bool(sys.flags.ignore_environment))
        if copied:
            search_path = copied.search_path(search_path)
        # In a session of its own, Ctrl-C reaches the command alone, which then ends the whole group.
        self._process = subprocess.Popen(  # noqa: S603 - this interpreter, without a shell
            command or [*wall, sys.executable, "-c", _BOOT, *search_path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env=environment_of(os.environ, limits.pass_env),
            cwd=copied.directory if copied else None,
        )
        self._threads = [
            threading.Thread(target=work, args=arguments, daemon=True)
            for work, arguments in (
                (self._listen, (_pipe(self._process.stdout),)),
                (forward, (_pipe(self._process.stderr), limits.output_kib * 1024)),
            )
        ]
        for thread in self._threads:
            thread.start()
        self._ask(
            Start(
                target=target,
                fit=fit,
                optimizer_step=optimizer_step,
                made_up=made_up,
                cpu_s=limits.cpu_s,
                memory_bytes=None if memory_gib is None else int(memory_gib * 2**30),
                debug=bool(os.environ.get("TRAINFARE_DEBUG")),
                not_from=str(copied.original) if copied else None,
                withheld=list_withheld(os.environ, limits.pass_env),
                scratch=self._folders.scratch,
                spare=self._folders.spare,
                sandbox=limits.sandbox,
                walled=walled,
            )
        )

    def __enter__(self) -> UserProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    @property
    def job(self) -> JobFacts:
        """
        Facts of the job; waits until it is loaded.

        Raises:
            TargetError: it cannot be loaded, ended its process, or exceeded a limit.
            MissingExtraError: torch or Lightning is not installed.
        """
        if self._job is None:
            self.alone = self._answer("ready").header.alone
            self._ready = True
            header = self._answer("job").header
            if header.job is None:
                raise self._explain_forged()
            self._job, self._written = header.job, header.written
            if self._limits.keep_data:
                self.kept = keep_new(header.written, self._process.pid)
        return self._job

    @property
    def written(self) -> tuple[WrittenFile, ...]:
        """What the code has written into its sandbox, until the last answer."""
        return self._written

    def profile(self, change: StepChange | None = None, *, precision: str | None = None) -> JobProfile:
        """
        Trace a step of the job, as it is, with a change, or in another precision.

        Raises:
            TargetError, MissingExtraError: see `job`.
            TraceError: the step cannot be traced without hardware; the next one may.
        """
        self._ask(Trace(change=change, precision=precision, real=self._limits.real))
        _ = self.job
        answer = self._answer("profile")
        self._written = answer.header.written
        try:
            return JobProfile.from_json(answer.body, where=self._target)
        except ProfileError as error:
            raise self._explain_forged() from error

    def _ask(self, request: Record) -> None:
        if self._over is not None:
            return
        pipe = _pipe(self._process.stdin)
        with contextlib.suppress(OSError):  # The process has ended: waiting for its answer says so.
            pipe.write(request.model_dump_json().encode() + b"\n")
            pipe.flush()

    def _answer(self, kind: str) -> Answer:
        """Return the next reply, which must be of this kind."""
        if self._over is not None:
            raise self._over
        try:
            answer = self._next()
        except (TargetError, InternalError) as error:
            self._over = error
            self._end()
            raise
        if answer.header.kind == "error":
            raise error_of(answer.header)
        if answer.header.kind != kind:
            raise self._explain_forged()
        return answer

    def _next(self) -> Answer:
        limit_s = self._limits.answer_s
        until = self._clock() + limit_s
        while True:
            try:
                reply = self._replies.get(timeout=_LOOK_S)
            except queue.Empty:
                if self._process.poll() is not None:
                    # What it wrote before it ended may still be on its way.
                    try:
                        reply = self._replies.get(timeout=_LAST_WORDS_S)
                    except queue.Empty:
                        reply = ""
                elif self._clock() > until:
                    msg = f"{self._target} gave no answer within {limit_s:g} s and was stopped"
                    raise TargetError(
                        f"{msg}: an endless loop? Else allow more with --target-seconds; a loop of its own is "
                        "measured where it trains by `trainfare probe`"
                    ) from None
                else:
                    continue
            if isinstance(reply, str):
                raise self._explain_forged(reply) if reply else self._explain_end()
            return reply

    def _listen(self, replies: IO[bytes]) -> None:
        """Queue the replies, a sentence on one that is none, and an empty text when there are no more."""
        with replies:
            for reply in read_replies(replies):
                self._replies.put(reply)
        self._replies.put("")

    def _explain_end(self) -> TargetError | InternalError:
        """Return why there is no answer: the process has ended, or closed its pipe."""
        try:
            code = self._process.wait(timeout=_LAST_WORDS_S)
        except subprocess.TimeoutExpired:
            return self._explain_forged("it closed the pipe to the command")
        if not self._ready:
            msg = f"the process that loads {self._target} ended with exit code {code} before it had started"
            return InternalError(msg)
        if code >= 0:
            how = f"it ended its process with exit code {code}"
        else:
            name = _signal_name(-code)
            why = f" after {self._limits.cpu_s:,} s of CPU; allow more with --target-cpu-seconds"
            # One that ignores SIGXCPU is killed a few seconds later.
            if name == "SIGKILL" and _children_cpu_s() - self._cpu_before_s < self._limits.cpu_s:
                why = ", as the system does where memory runs out"
            elif name not in ("SIGKILL", "SIGXCPU"):
                why = ""
            how = f"its process was ended by {name}{why}"
        return self._explain_forged(how)

    def _explain_forged(self, how: str = "its process gave a result that is none") -> TargetError:
        return TargetError(f"{self._target} gave no job: {how}")

    def _end(self) -> None:
        """End the process and all that it started, and show the last of its output."""
        process = self._process
        if hasattr(os, "killpg"):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                # The group outlives its leader while a process of it runs.
                os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.wait()
        for thread in self._threads:
            thread.join(_LAST_WORDS_S)
        with contextlib.suppress(OSError):
            _pipe(process.stdin).close()
        self._folders.remove()


def list_search_path(entries: Iterable[str], environ: Mapping[str, str], *, isolated: bool) -> list[str]:
    """
    Return the `sys.path` of the process.

    Args:
        entries: `sys.path` of this process.
        environ: with the user's PYTHONPATH.
        isolated: this process was started as `python -I`, so its entries lack those of PYTHONPATH.
    """
    added = environ.get("PYTHONPATH", "").split(os.pathsep) if isolated else []
    return [*(entry for entry in added if entry), *entries]


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise InternalError("a process was started without pipes")
    return stream


def _children_cpu_s() -> float:
    return sum(os.times()[2:4])


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
