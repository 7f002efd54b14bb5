"""A TARGET and its traces: those that were kept, and a process for the others."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from types import TracebackType
from typing import final

from trainfare.job import REAL_LIMITS, with_steps
from trainfare.job.made_up_data import MadeUpData
from trainfare.methods.step_change import StepChange
from trainfare.user_process.copied_folder import CopiedFolder
from trainfare.user_process.environment import environment_of
from trainfare.user_process.kept_data import describe_written
from trainfare.user_process.limits import ProcessLimits
from trainfare.user_process.messages import JobFacts, Trace
from trainfare.user_process.process import UserProcess
from trainfare.user_process.trace_store import StoredTrace, TraceStore, key_of
from trainfare_core.job_profile import JobProfile
from trainfare_core.variants import with_precisions


@final
class TracedTarget:
    """
    A TARGET that is traced once for each change; a context manager that ends its process.

    Where no kept trace of the job can be used, the process starts at once: what the command does meanwhile costs no
    time.

    Args:
        target: see `load_job`, or a script, see `script_of`.
        limits: what the process may use.
        fit, optimizer_step: of a script; see `run_script`.
        steps: of a script that does not say how many it makes; see `with_steps`.
        made_up: of a script, what stands for its data; None reads them.
        copied: another copy of the TARGET's folder to load it from; None loads it where it is.
        times_loader: keep what the first batches took to load here, which another host would not give again.
        store: traces of earlier runs; None traces afresh and keeps nothing.
        say: told that a kept trace is used, or why none is kept; of a fresh one, that the process is not confined.
        wait: gives a context that shows what is waited for, while it is.
    """

    def __init__(
        self,
        target: str,
        limits: ProcessLimits,
        *,
        fit: int = 1,
        optimizer_step: int | None = None,
        steps: int | None = None,
        made_up: MadeUpData | None = None,
        copied: CopiedFolder | None = None,
        times_loader: bool = True,
        store: TraceStore | None = None,
        say: Callable[[str], None] = lambda _: None,
        wait: Callable[[str], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self._target, self._limits = target, limits
        self._say, self._wait = say, wait
        self._steps, self._times_loader = steps, times_loader
        self._open = partial(
            UserProcess,
            target,
            limits,
            fit=fit,
            optimizer_step=optimizer_step,
            made_up=made_up,
            copied=copied,
        )
        self._process: UserProcess | None = None
        self._store, self._key = store, None
        self._profiles: dict[str, JobProfile] = {}
        if store is not None:
            batch = None if made_up is None else made_up.batch
            options = (
                f"{fit} {optimizer_step}",
                "" if made_up is None else made_up.model_dump_json(),
                batch or "",
            )
            self._key = key_of(target, options, environment_of(os.environ, limits.pass_env))
            if self._key is None:
                say(f"this trace is not kept: the folder of {target} has too many files to compare")
        self._unchanged = self._find_stored(self._change_text(None, None))
        if self._unchanged is None:
            self._start()
        else:
            made = f"{self._unchanged.made:%Y-%m-%d %H:%M} UTC"
            say(f"kept trace of {target} of {made}; --no-cache traces afresh")

    def __enter__(self) -> TracedTarget:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.__exit__(kind, error, trace)

    @property
    def job(self) -> JobFacts:
        """Facts of the job; raises as `UserProcess.job`."""
        if self._unchanged is not None:
            return self._unchanged.job
        process = self._start()
        with self._wait(f"loading {self._target}"):
            return process.job

    def profile(self, change: StepChange | None = None, *, precision: str | None = None) -> JobProfile:
        """
        Return the profile of a step, as it is, with a change or in a precision.

        Raises:
            InputError: `steps` is given, and the script says how many it makes.
            TargetError, TraceError, MissingExtraError: see `UserProcess.profile`.
        """
        changed = self._change_text(change, precision)
        if changed not in self._profiles:
            profile = with_steps(self._trace(change, precision, changed), self._steps)
            if not self._times_loader:
                profile = profile.with_loader_time(None)
            self._profiles[changed] = profile
        return self._profiles[changed]

    def _trace(self, change: StepChange | None, precision: str | None, changed: str) -> JobProfile:
        # Traces of one command are of one moment: where the unchanged step is traced, so are the others.
        stored = None if self._unchanged is None else self._find_stored(changed)
        what = self._target if change is None else f"{self._target} with {change.strategy}"
        in_precision = precision if change is None else change.precision
        what = what if in_precision is None else f"{what} in {in_precision}"
        if stored is not None:
            if what != self._target:  # of the unchanged step it was said at the start
                self._say(f"kept trace of {what}")
            return JobProfile.from_json(stored.profile, where=self._target)
        process = self._start()
        with self._wait(f"tracing {what}"):
            profile = process.profile(change, precision=precision)
        if self._store is None and not process.alone and not self._profiles:
            self._say(
                f"nothing keeps the code of {self._target} from stopping this command: Linux 6.12 and later can"
            )
        if not self._profiles:
            for line in describe_written(process.written, process.kept, self._target.partition(" -- ")[0]):
                self._say(line)
        if self._store is not None and self._key is not None:
            self._store.keep(self._key, changed, process.job, profile.to_json().encode())
        return profile

    def _find_stored(self, change: str) -> StoredTrace | None:
        if self._store is None or self._key is None:
            return None
        return self._store.find(self._key, change)

    def in_precisions(self, precisions: Iterable[str] | None = None) -> JobProfile:
        """Return the profile of the step as it is, with its traces in other precisions; see `with_precisions`."""
        return with_precisions(
            self.profile(), lambda precision_name: self.profile(precision=precision_name), precisions
        )

    def _change_text(self, change: StepChange | None, precision: str | None) -> str:
        # A trace that was made stays right under other limits, but not one on real tensors where these are forbidden.
        real = None if self._limits.real is None else REAL_LIMITS
        return Trace(change=change, precision=precision, real=real).model_dump_json()

    def _start(self) -> UserProcess:
        if self._process is None:
            self._process = self._open()
        return self._process
