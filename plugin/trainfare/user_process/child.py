"""
The process of the user's code: reads requests from standard input, loads the TARGET, traces it, and replies.

Its own pipes are taken off the standard streams before the user's code runs: standard input is empty, and what is
printed to standard output goes where standard error goes. It ends with the command that started it.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import importlib.util
import logging
import math
import os
import queue
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, NoReturn

from trainfare.job import LiveJob, RealLimits, TrainingJob, describe, place_in_user_code, script_of
from trainfare.job.user_code import is_of_user_code
from trainfare.sandbox import Sandbox, SandboxRequest, enter_sandbox, keep_signals_inside
from trainfare.user_process.copied_folder import refuse_modules_of
from trainfare.user_process.environment import note_lookups
from trainfare.user_process.limits import lower_limit
from trainfare.user_process.messages import MOST_WRITTEN, JobFacts, Reply, Start, Trace, WrittenFile, reply_of
from trainfare.user_process.output import mark_library_messages
from trainfare.user_process.passes import TracePasses
from trainfare_core.errors import InternalError, MissingExtraError, TargetError, TraceError, TrainfareError
from trainfare_core.job_profile import JobProfile
from trainfare_core.variants import find_compute_type, of_narrow_type

if TYPE_CHECKING:  # it loads torch
    from trainfare.fake_step.job_trace import RunPass
    from trainfare.methods.step_change import Tracer

_ALLOCATIONS_PER_COLLECTION: Final = 200_000
"""As for a command: what is imported stays, and collecting it again and again costs time."""
_LAST_CPU_S: Final = 5
"""Chosen: enough to end in order, too little to matter."""


def main() -> None:
    """Answer requests until there are no more, and end the process."""
    gc.set_threshold(_ALLOCATIONS_PER_COLLECTION)
    requests, replies = _own_pipes()
    start = Start.model_validate_json(requests.readline())
    # Before any thread, which would stay outside.
    alone = keep_signals_inside()
    try:
        sandbox = enter_sandbox(_request_of(start))
    except TargetError as error:
        _send(replies, reply_of(error))
        return
    note_lookups(start.withheld)
    if not start.debug:
        mark_library_messages()
    waiting: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(requests, waiting), daemon=True).start()
    _limit(start)
    _send(replies, Reply(kind="ready", alone=alone))
    start = start.model_copy(update={"target": _target_in(sandbox, start.target)})
    sys.argv = [start.target]
    # Not by the environment, which processes of the user's code inherit: this one ends without exit handlers.
    tempfile.tempdir = tempfile.mkdtemp(prefix="tmp-", dir=start.scratch)
    pipes = (requests.fileno(), replies.fileno())
    passes = TracePasses(start, sandbox, pipes, lambda error: _ours(error, start, sandbox))

    def serve(load: Callable[[], TrainingJob]) -> NoReturn:
        """Answer for a job until there are no more requests; nothing of the user's code runs after that."""
        try:
            job = load()
            from trainfare.fake_step import with_tokens

            job = with_tokens(job)
            facts = JobFacts(
                precision=job.precision,
                train_samples=job.train_samples,
                tokens_per_sample=job.tokens_per_sample,
            )
            _send(replies, Reply(kind="job", job=facts, written=_list_written(sandbox)))
            run_pass = partial(passes.run, job)

            @cache
            def tracer(real: RealLimits | None) -> Tracer:
                from trainfare.methods.module_changes import tracer_of

                return tracer_of(job, real, run_pass)

            while True:
                trace = Trace.model_validate_json(waiting.get())
                _answer(job, trace, run_pass, tracer, start, sandbox, replies)
        except BaseException as error:  # noqa: BLE001 - the user's code may raise anything
            _send(replies, reply_of(_ours(error, start, sandbox)))
        finally:
            # Without the exit handlers and threads that the user's code left.
            os._exit(0)

    serve(lambda: _load_job(start, serve))


def _load_job(start: Start, serve: Callable[[Callable[[], TrainingJob]], NoReturn]) -> TrainingJob:
    """Return the job of a TARGET; a script is served inside its call of `Trainer.fit` and never returns."""
    if importlib.util.find_spec("torch") is None:
        raise MissingExtraError("torch", "lightning")
    try:
        torch: Any = importlib.import_module("torch")
    except (ImportError, OSError, MemoryError) as error:
        msg = f"torch cannot be loaded: {describe(error)}"
        raise TargetError(
            f"{msg}; where memory is too little, allow more with --target-memory-gib"
        ) from error
    from trainfare.fake_step.fake_tensors import seed_random
    from trainfare.script import run_callable, run_script
    from trainfare.script.loop_scripts import find_script_of_config

    torch.manual_seed(0)  # of devices, too
    seed_random()
    script = script_of(start.target) or find_script_of_config(start.target)
    return (
        run_callable(start.target, serve)
        if script is None
        else run_script(
            script, serve, fit=start.fit, optimizer_step=start.optimizer_step, made_up=start.made_up
        )
    )


def _answer(
    job: TrainingJob,
    trace: Trace,
    run_pass: RunPass,
    tracer: Callable[[RealLimits | None], Tracer],
    start: Start,
    sandbox: Sandbox,
    replies: IO[bytes],
) -> None:
    try:
        profile = _trace_job_as_told(job, trace, run_pass, tracer)
        if start.not_from is not None:
            refuse_modules_of(start.not_from)
        body = profile.to_json().encode()
    except TrainfareError as error:
        reply, replaced = (
            reply_of(_ours(error, start, sandbox)),
            job.live.replaced if isinstance(job, LiveJob) else "",
        )
        if isinstance(error, TraceError):
            reply = reply.model_copy(update={"message": reply.message + replaced})
        _send(replies, reply)
    else:
        _send(replies, Reply(kind="profile", body_bytes=len(body), written=_list_written(sandbox)), body)


def _own_pipes() -> tuple[IO[bytes], IO[bytes]]:
    """Return the pipes of requests and replies, and leave the standard streams to the user's code."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    for stream in (sys.stdout, sys.stderr):
        # Whatever the locale, what the code prints can be encoded; line by line, it comes in order.
        stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)  # type: ignore[union-attr]
    return requests, replies


def _read(requests: IO[bytes], waiting: queue.SimpleQueue[bytes]) -> None:
    """Queue the requests; when they end, so does this process with all that it started."""
    for line in requests:
        waiting.put(line)
    if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os._exit(0)


def _limit(start: Start) -> None:
    try:
        import resource
    except ImportError:  # not on Windows: there, time alone is limited
        return
    # At the first limit comes a signal, which the code may catch; at the second the system ends it.
    limit_s = math.ceil(time.process_time()) + start.cpu_s
    lower_limit(resource.RLIMIT_CPU, limit_s, limit_s + _LAST_CPU_S)
    if start.memory_bytes is not None:
        # Not the address space: CUDA and allocators reserve many times what they use.
        lower_limit(resource.RLIMIT_DATA, start.memory_bytes, start.memory_bytes)


def _trace_job_as_told(
    job: TrainingJob, trace: Trace, run_pass: RunPass, tracer: Callable[[RealLimits | None], Tracer]
) -> JobProfile:
    from trainfare.fake_step import trace_changed

    # Torch logs the traceback of an operation that fails on fake tensors; the error's one line says it all.
    logging.getLogger("torch._subclasses.fake_tensor").setLevel(logging.CRITICAL)
    if trace.change is None:
        chosen = job if trace.precision is None else replace(job, precision=trace.precision)
        profile = trace_changed(chosen, None, real=trace.real, run_pass=run_pass)
    else:
        profile = tracer(trace.real)(trace.change)
    if (
        isinstance(job, LiveJob)
        and job.live.narrow != "fp8"
        and find_compute_type(profile.precision) == "fp8"
    ):
        return of_narrow_type(profile, job.live.narrow)
    return profile


def _request_of(start: Start) -> SandboxRequest:
    script = script_of(start.target)
    path = Path(start.target.rpartition(":")[0] if script is None else script.name)
    folders = () if script is not None and script.is_module else (path.parent,)
    return SandboxRequest(
        scratch=Path(start.scratch).resolve(),
        spare=None if start.spare is None else Path(start.spare),
        kinds=start.sandbox,
        folders=[folder for folder in folders if folder.is_dir()],
        walled=start.walled,
    )


def _target_in(sandbox: Sandbox, target: str) -> str:
    """Return a TARGET whose absolute path, if it has one, is that of the sandbox."""
    path, separator, rest = target.partition(".py")
    return f"{sandbox.path_of(Path(path))}{separator}{rest}" if path.startswith("/") else target


def _list_written(sandbox: Sandbox) -> tuple[WrittenFile, ...]:
    return tuple(
        WrittenFile(
            path=item.path, view=str(sandbox.path_of(Path(item.path))), bytes=item.bytes, is_new=item.is_new
        )
        for item in sandbox.list_written()[:MOST_WRITTEN]
    )


def _ours(error: BaseException, start: Start, sandbox: Sandbox) -> TrainfareError:
    """Return the error to report, with what the sandbox has to do with it."""
    ours = _translate(error, start)
    because = sandbox.explain(error) if type(ours) in (TargetError, TraceError) else ""
    return type(ours)(f"{ours}{because}") if because else ours


def _translate(error: BaseException, start: Start) -> TrainfareError:
    """Return the error of ours: the user's code may raise anything, also what is no `Exception`."""
    if isinstance(error, TrainfareError):
        return error
    if start.debug:
        traceback.print_exception(error)
    if isinstance(error, Exception) and not is_of_user_code(error.__traceback__):
        return InternalError(describe(error))
    code_place = place_in_user_code(error.__traceback__)
    where = f" at {code_place}" if code_place else ""
    return TargetError(f"{start.target} raised {describe(error)}{where}: it must load without training")


def _send(replies: IO[bytes], reply: Reply, body: bytes = b"") -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(BaseException):  # the user's code may have put anything there
            stream.flush()
    replies.write(reply.model_dump_json().encode() + b"\n" + body)
    replies.flush()
