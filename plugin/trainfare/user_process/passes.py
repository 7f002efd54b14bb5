"""Run each pass of a trace in a fork of the process of the user's code, which stays as it was before any pass."""

from __future__ import annotations

import contextlib
import errno
import gc
import importlib
import math
import os
import signal
import sys
import sysconfig
import tempfile
import time
import warnings
from collections.abc import Callable, Collection, Generator, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn, final

from trainfare.job import LiveJob, TrainingJob
from trainfare.sandbox import Overlay, Sandbox, WriteWatch, list_caches, notes_of
from trainfare.user_process.copied_folder import refuse_modules_of
from trainfare.user_process.limits import lower_limit
from trainfare.user_process.messages import PassEnd, Start, error_of, reply_of
from trainfare_core.errors import TargetError, TrainfareError
from trainfare_core.job_profile import JobProfile

_OF_OVERLAY: Final = (errno.ENOSPC, errno.EOVERFLOW, errno.EXDEV)
"""What an overlay may raise where the folder itself would not: it is full, a file is of a user that it does not know, a
folder is renamed."""


@final
class TracePasses:
    """
    Runs the passes of a job's traces, each in a fork of this process where the system can, with walls round it.

    Args:
        start: what the command said.
        sandbox: of this process.
        pipes: numbers of this process's own pipes, which a fork closes.
        explain: turns what a pass raised into an error of ours.
    """

    def __init__(
        self,
        start: Start,
        sandbox: Sandbox,
        pipes: Sequence[int],
        explain: Callable[[BaseException], TrainfareError],
    ) -> None:
        self._start, self._sandbox, self._pipes, self._explain = start, sandbox, pipes, explain
        # macOS has `fork`, and frameworks that end a process which uses them after it.
        self._forks = self._overlay = sys.platform == "linux"
        self._overlay &= start.sandbox != ("copy",)
        self._modules: tuple[str, ...] = ()

    def run(self, job: TrainingJob, work: Callable[[], JobProfile]) -> JobProfile:
        """
        Run one pass of a job, and return its profile, with notes on what was written.

        Raises:
            TrainfareError: what the pass raised.
            NotRepeatedError: see `trace_changed`.
        """
        import torch

        if not _has_working_folder():
            raise TargetError(f"{self._start.target} gave no job: its code has removed the working folder")
        # Neither CUDA nor the threads of a backward that has run beside CUDA live on in a fork.
        cuda: Any = torch.cuda
        while self._forks and not cuda.is_initialized():
            end = self._fork(job, work)
            if not end.impossible:
                return _result_of(end)
            self._overlay = False
            self._forks = end.impossible != "fork"
        return self._run_walled(job, work, ())

    def _fork(self, job: TrainingJob, work: Callable[[], JobProfile]) -> PassEnd:
        for name in self._modules:  # once here, not in every fork
            with contextlib.suppress(BaseException):  # one that is only imported in a certain state
                importlib.import_module(name)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(BaseException):  # the user's code may have put anything there
                stream.flush()
        if signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN:
            with contextlib.suppress(ValueError):  # not in the main thread
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        # In memory: a pipe would stay open as long as any process that the user's code starts.
        answer = os.memfd_create("pass")
        used_s = math.ceil(time.process_time() + sum(os.times()[2:4]))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on threads: they only read requests
            process = os.fork()
        if process == 0:
            self._end_fork(job, work, answer, used_s)
        try:
            _, status = os.waitpid(process, 0)
        except ChildProcessError:  # somebody else has waited for it
            status = 0
        with os.fdopen(answer, "rb") as file:
            file.seek(0)
            text = file.read()
        if status or not text:
            _end_alike(os.waitstatus_to_exitcode(status))
        end = PassEnd.model_validate_json(text)
        self._modules = end.modules
        return end

    def _end_fork(
        self, job: TrainingJob, work: Callable[[], JobProfile], answer: int, used_s: int
    ) -> NoReturn:
        known = set(sys.modules)
        try:
            gc.freeze()  # a look at all objects would copy their memory
            for pipe in self._pipes:
                os.close(pipe)
            _lower_cpu_limit(used_s)
            end = self._run_to_end(job, work)
            end = end.model_copy(update={"modules": tuple(_list_installed(known))})
            with os.fdopen(answer, "wb") as file:
                file.write(end.model_dump_json().encode())
        finally:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(BaseException):
                    stream.flush()
            os._exit(0)

    def _run_to_end(self, job: TrainingJob, work: Callable[[], JobProfile]) -> PassEnd:
        """Run a pass in a fork, and return how it ended."""
        import torch

        from trainfare.fake_step.user_errors import FakeTraceError
        from trainfare.trace.repetition import NotRepeatedError

        torch.set_num_threads(1)  # those of the process that was forked are not here
        try:
            with torch.enable_grad():
                torch.autograd.backward(torch.ones(1, device="cpu", requires_grad=True))
        except RuntimeError:
            return PassEnd(impossible="fork")
        folders = _writable_folders(job) if self._overlay else ()
        overlay = None
        try:
            if folders:
                overlay = Overlay(folders, [self._make_folder()])
        except (OSError, AttributeError):
            return PassEnd(impossible="overlay")
        try:
            profile = self._run_walled(job, work, folders, overlay)
            if self._start.not_from is not None:
                refuse_modules_of(self._start.not_from)
            return PassEnd(profile=profile.to_json())
        except NotRepeatedError:
            return PassEnd(error=NotRepeatedError.__name__)
        except BaseException as error:  # noqa: BLE001 - the user's code may raise anything
            if overlay is not None and _is_of_overlay(error):
                return PassEnd(impossible="overlay")
            reply = reply_of(self._explain(error))
            end = PassEnd(error=reply.error, message=reply.message)
            if not isinstance(error, FakeTraceError):
                return end
            return end.model_copy(
                update={
                    "because": error.because,
                    "needs_value": error.needs_value,
                    "parameters": tuple(error.parameters),
                }
            )

    def _run_walled(
        self,
        job: TrainingJob,
        work: Callable[[], JobProfile],
        folders: Sequence[Path],
        overlay: Overlay | None = None,
    ) -> JobProfile:
        if overlay is None and isinstance(job, LiveJob) and job.live.root is not None:
            setattr(*job.live.root, str(self._make_folder()))
        scratch = Path(self._start.scratch)
        covered = folders if Path.cwd().is_relative_to(scratch) else (*folders, scratch)
        watch = WriteWatch(covered, scratch.parent, *list_caches(os.environ))
        try:
            profile = work()
        except BaseException:
            _, stays = watch.end()
            for note in notes_of((), stays if self._sandbox.kind == "none" else ()):
                with contextlib.suppress(BaseException):
                    sys.stderr.write(f"note: {note}\n")
            raise
        gone, stays = watch.end()
        if self._sandbox.kind != "none":
            gone, stays = [*gone, *stays], []
        notes = notes_of([*gone, *(item.name for item in overlay.list_written())] if overlay else gone, stays)
        return profile.model_copy(update={"notes": (*profile.notes, *notes)}) if notes else profile

    def _make_folder(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self._start.scratch))


def _has_working_folder() -> bool:
    try:
        return Path.cwd().is_dir()
    except FileNotFoundError:
        return False


def _writable_folders(job: TrainingJob) -> tuple[Path, ...]:
    """Return the working folder, and that of the Trainer where it is another one."""
    here = Path.cwd()
    owner = job.live.root if isinstance(job, LiveJob) else None
    root = here if owner is None else Path(getattr(*owner)).resolve()
    return (
        (here,)
        if root.is_relative_to(here) or here.is_relative_to(root) or not root.is_dir()
        else (here, root)
    )


def _list_installed(known: Collection[str]) -> Generator[str, None, None]:
    """List the modules of installed packages that were imported since."""
    paths = sysconfig.get_paths()
    installed = tuple(paths[name] for name in ("stdlib", "purelib", "platlib"))
    for name, module in sys.modules.items():
        where = str(getattr(module, "__file__", ""))
        if name not in known and (where.startswith(installed) or name.startswith("trainfare.")):
            yield name


def _lower_cpu_limit(used_s: int) -> None:
    """Leave this fork what is left of the CPU time of the process that made it."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_CPU)
    if resource.RLIM_INFINITY not in (soft, hard):
        lower_limit(resource.RLIMIT_CPU, max(1, soft - used_s), max(1, hard - used_s))


def _end_alike(code: int) -> NoReturn:
    """End this process as its fork has ended: with its exit code, or by its signal."""
    if code < 0:
        with contextlib.suppress(OSError, ValueError):
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def _is_of_overlay(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, OSError) and error.errno in _OF_OVERLAY:
            return True
        error = error.__cause__ or error.__context__
    return False


def _result_of(end: PassEnd) -> JobProfile:
    """Return the profile of a pass, or raise what it raised."""
    from trainfare.fake_step.user_errors import FakeTraceError
    from trainfare.trace.repetition import NotRepeatedError

    if end.profile:
        return JobProfile.from_json(end.profile, where="a pass of the trace")
    if end.error == NotRepeatedError.__name__:
        raise NotRepeatedError
    if end.error != FakeTraceError.__name__:
        raise error_of(end)
    error = FakeTraceError(end.message, end.because, needs_value=end.needs_value)
    error.parameters = list(end.parameters)
    raise error
