"""A TARGET and its traces: those of earlier runs that are still right, and a process for the others."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import final

from trainfare.job import REAL_LIMITS, script_of
from trainfare.job.made_up_data import MadeUpData
from trainfare.methods.step_change import StepChange
from trainfare.user_process.copied_folder import CopiedFolder
from trainfare.user_process.limits import ProcessLimits
from trainfare.user_process.messages import JobFacts, Trace
from trainfare.user_process.places import Places, places_of
from trainfare.user_process.process import UserProcess
from trainfare.user_process.trace_inputs import States
from trainfare.user_process.trace_store import StoredTrace, TraceStore, target_key
from trainfare_core.job_profile import JobProfile
from trainfare_core.variants import with_precisions


@final
class TracedTarget:
    """
    A TARGET that is traced where no earlier trace can be used; a context manager that ends its process.

    Where no earlier trace of the job can be used, the process starts at once: what the command does meanwhile costs no
    time.

    Args:
        target: see `load_job`, or a script, see `script_of`.
        limits: what the process may use.
        fit: of a script, the call of `Trainer.fit` that is wanted.
        made_up: of a script, what stands for its data; None reads them.
        copied: another copy of the TARGET's folder to load it from; None loads it where it is.
        store: traces of earlier runs; None traces afresh and keeps nothing.
    """

    def __init__(
        self,
        target: str,
        limits: ProcessLimits,
        *,
        fit: int = 1,
        made_up: MadeUpData | None = None,
        copied: CopiedFolder | None = None,
        store: TraceStore | None = None,
    ) -> None:
        self._target, self._limits, self._copied, self._store = target, limits, copied, store
        self._fit, self._made_up = fit, made_up
        self._process: UserProcess | None = None
        self._states = States()
        self._places: Places | None = None
        self._key = ""
        self._unchanged: StoredTrace | None = None
        self._any: StoredTrace | None = None
        if store is not None:
            self._places, self._key = _identify_target(
                target, (fit, *(() if made_up is None else (made_up.model_dump_json(),))), copied
            )
            self._unchanged = self._find_stored(self._change_text(None, None))
            self._any = self._unchanged or self._find_stored("*")
        if self._any is None:
            self._start()

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
        return self._start().job if self._any is None else self._any.job

    def profile(self, change: StepChange | None = None, *, precision: str | None = None) -> JobProfile:
        """Return the profile of a step, as it is, with a change or in a precision; raises as `UserProcess.profile`."""
        changed = self._change_text(change, precision)
        stored = self._unchanged if change is None and precision is None else self._find_stored(changed)
        if stored is not None:
            return JobProfile.from_json(stored.profile, where=self._target)
        process = self._start()
        profile = process.profile(change, precision=precision)
        inputs = process.inputs
        if self._store is not None and inputs is not None:
            body = profile.to_json().encode()
            self._store.keep(self._key, changed, StoredTrace(process.job, inputs, body))
        return profile

    def _find_stored(self, change: str) -> StoredTrace | None:
        if self._store is None or self._places is None:
            return None
        return self._store.find(self._key, change, self._places, self._states, os.environ)

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
            self._process = UserProcess(
                self._target,
                self._limits,
                fit=self._fit,
                made_up=self._made_up,
                copied=self._copied,
                places=self._places,
            )
        return self._process


def _identify_target(
    target: str, options: tuple[object, ...], copied: CopiedFolder | None
) -> tuple[Places, str]:
    """Return the folders that have names for a TARGET, and the key of its traces."""
    directory = Path.cwd() if copied is None else copied.directory
    script = script_of(target)
    if script is None:
        file, colon, name = target.rpartition(".py:")
        path_text, rest = f"{file}.py" if colon else target, colon + name
    else:
        path_text, rest = script.name, repr((script.is_module, script.arguments, *options))
    path = Path(directory, path_text)
    in_file = False
    with contextlib.suppress(OSError):  # a name that is too long
        in_file = path.is_file()
    above = path.resolve().parent if in_file else directory.resolve()
    project = _project(above) if copied is None else copied.copy
    search_path = list(sys.path) if copied is None else copied.search_path(sys.path)
    places = places_of(search_path, project)
    identity = places.place(str(path.resolve())).model_dump_json() if in_file else path_text
    entries = (os.path.abspath(Path(directory, entry)) for entry in search_path)  # noqa: PTH100 - links stay
    return places, target_key(identity + rest, str(directory.resolve()), entries, places, os.environ)


def _project(folder: Path) -> Path:
    """Return the repository that a folder is in, or the folder itself."""
    tried: Iterable[Path] = (folder, *folder.parents)
    return next((folder for folder in tried if (folder / ".git").exists()), folder)
