"""The job of a command: read from a profile file, or from a TARGET that is traced in a process of its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from trainfare.user_process import ProcessLimits
from trainfare.user_process.limits import ANSWER_LIMIT_S, CPU_LIMIT_S, OUTPUT_LIMIT_KIB
from trainfare_core.errors import InputError

if TYPE_CHECKING:
    from trainfare.user_process import CopiedFolder, TracedTarget
    from trainfare_core.job_profile import JobProfile

__all__ = ["TargetOptions", "profile_of"]

_PANEL = "Limits of the code of a TARGET"


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetOptions:
    """What the code of a TARGET may use."""

    target_seconds: Annotated[
        float,
        typer.Option(
            min=0.001,
            max=1e7,
            envvar="TRAINFARE_TARGET_SECONDS",
            rich_help_panel=_PANEL,
            help="seconds to load it, and for each trace",
        ),
    ] = ANSWER_LIMIT_S
    target_cpu_seconds: Annotated[
        int,
        typer.Option(
            min=1,
            max=10**7,
            envvar="TRAINFARE_TARGET_CPU_SECONDS",
            rich_help_panel=_PANEL,
            help="CPU seconds in all",
        ),
    ] = CPU_LIMIT_S
    target_memory_gib: Annotated[
        float | None,
        typer.Option(
            min=0.001,
            max=1e6,
            envvar="TRAINFARE_TARGET_MEMORY_GIB",
            rich_help_panel=_PANEL,
            help="GiB of memory, on Linux; default: the memory of this machine",
        ),
    ] = None
    target_output_kib: Annotated[
        int,
        typer.Option(
            min=0,
            max=10**6,
            envvar="TRAINFARE_TARGET_OUTPUT_KIB",
            rich_help_panel=_PANEL,
            help="KiB of what it prints that are shown",
        ),
    ] = OUTPUT_LIMIT_KIB
    no_cache: Annotated[
        bool,
        typer.Option(
            "--no-cache",
            rich_help_panel=_PANEL,
            help="trace it afresh, also where its code, configuration and packages are those of an earlier trace",
        ),
    ] = False

    def traced(self, target: str, copied: CopiedFolder | None = None) -> TracedTarget:
        """
        Return a TARGET with its traces.

        Args:
            target: see `load_job`.
            copied: another copy of its folder; None reads it where it is.

        Raises:
            InputError: see `limits`.
        """
        from trainfare.user_process import TracedTarget, TraceStore
        from trainfare.user_process.trace_store import default_folder

        store = None if self.no_cache else TraceStore(default_folder())
        return TracedTarget(target, self.limits(), copied=copied, store=store)

    def limits(self) -> ProcessLimits:
        """
        Return them as the process takes them.

        Raises:
            InputError: not a number; typer lets NaN pass any range.
        """
        for name, value in (("seconds", self.target_seconds), ("memory-gib", self.target_memory_gib)):
            if value is not None and math.isnan(value):
                raise InputError(f"--target-{name} {value}: give a number")
        return ProcessLimits(
            answer_s=self.target_seconds,
            cpu_s=self.target_cpu_seconds,
            memory_gib=self.target_memory_gib,
            output_kib=self.target_output_kib,
        )


@contextmanager
def profile_of(
    job: str, target: TargetOptions, copied: CopiedFolder | None = None
) -> Generator[Callable[[], JobProfile], None, None]:
    """
    Start to trace the JOB of a command if it is a TARGET, and give a function that returns its profile.

    What the command does before it calls the function takes place while the TARGET is traced.

    Args:
        job: profile file or TARGET.
        target: what its code may use.
        copied: another copy of its folder; None reads it where it is.

    Raises:
        ProfileError: a file that is no profile.
        TargetError, TraceError: see `UserProcess.profile`.
    """
    from trainfare.prelaunch import is_target, read_profile

    if is_target(job):
        with target.traced(job, copied) as traced:
            yield traced.profile
    else:
        yield partial(read_profile, job if copied is None else str(copied.directory / job))
