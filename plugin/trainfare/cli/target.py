"""The job of a command: read from a profile file, or from a TARGET that is traced in a process of its own."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trainfare.cli.output import show_wait
from trainfare.job import ALL_CALLS, script_of, target_of
from trainfare.job.made_up_data import MadeUpData, parse_batch
from trainfare.job.real_limits import REAL_CPU_S, REAL_GIB, RealLimits
from trainfare.report.escape import terminal_text
from trainfare.user_process import ProcessLimits
from trainfare.user_process.limits import ANSWER_LIMIT_S, CPU_LIMIT_S, OUTPUT_LIMIT_KIB
from trainfare_core.errors import InputError

if TYPE_CHECKING:
    from trainfare.user_process import CopiedFolder, TracedTarget
    from trainfare_core.job_profile import JobProfile

_PANEL = "Limits of the code of a TARGET"
_SCRIPT_PANEL = "A TARGET that is a script"


def _after_dashes(context: typer.Context) -> list[str] | None:
    return list(context.obj) if context.obj else None


def _parse_fit(given: object) -> int:
    """Return the number of a call of `fit`, or `ALL_CALLS`; the default comes as a number."""
    text = str(given)
    if text == "all":
        return ALL_CALLS
    if not text.isdecimal() or int(text) == 0:
        raise typer.BadParameter(f"{text!r} is neither the number of a call, from 1, nor all")
    return int(text)


def _limit(variable: str, least: float, most: float, text: str) -> Any:
    """Return an option of the panel of limits, which an environment variable sets too."""
    return typer.Option(
        min=least, max=most, envvar=f"TRAINFARE_{variable}", rich_help_panel=_PANEL, help=text
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetOptions:
    """What the code of a TARGET may use."""

    target_seconds: Annotated[
        float, _limit("TARGET_SECONDS", 0.001, 1e7, "seconds to load it, and for each trace")
    ] = ANSWER_LIMIT_S
    target_cpu_seconds: Annotated[int, _limit("TARGET_CPU_SECONDS", 1, 10**7, "CPU seconds in all")] = (
        CPU_LIMIT_S
    )
    target_memory_gib: Annotated[
        float | None,
        _limit(
            "TARGET_MEMORY_GIB", 0.001, 1e6, "GiB of memory, on Linux; default: the memory of this machine"
        ),
    ] = None
    target_output_kib: Annotated[
        int, _limit("TARGET_OUTPUT_KIB", 0, 10**6, "KiB of what it prints that are shown")
    ] = OUTPUT_LIMIT_KIB
    real_gib: Annotated[
        float,
        _limit(
            "REAL_GIB",
            0.001,
            1e6,
            "GiB of memory for a trace on real tensors, made where the step reads values that fake ones lack",
        ),
    ] = REAL_GIB
    real_cpu_seconds: Annotated[float, _limit("REAL_CPU_SECONDS", 0.001, 1e7, "CPU seconds for it")] = (
        REAL_CPU_S
    )
    no_real: Annotated[
        bool, typer.Option("--no-real", rich_help_panel=_PANEL, help="never trace on real tensors")
    ] = False
    pass_env: Annotated[
        list[str] | None,
        typer.Option(
            "--pass-env",
            metavar="NAME",
            envvar="TRAINFARE_PASS_ENV",
            rich_help_panel=_PANEL,
            help="give it this variable, which is withheld as a credential; may be repeated",
        ),
    ] = None
    no_sandbox: Annotated[
        bool,
        typer.Option(
            "--no-sandbox",
            envvar="TRAINFARE_NO_SANDBOX",
            rich_help_panel=_PANEL,
            help="run it without a sandbox: what it writes stays",
        ),
    ] = False
    keep_data: Annotated[
        bool,
        typer.Option(
            "--keep-data",
            rich_help_panel=_PANEL,
            help="keep the new files that it writes before its training, such as data that it downloads",
        ),
    ] = False
    no_cache: Annotated[
        bool,
        typer.Option(
            "--no-cache",
            rich_help_panel=_PANEL,
            help="trace it afresh, also where a trace of the last day has the same code and packages, as check does",
        ),
    ] = False

    module: Annotated[
        str | None,
        typer.Option(
            "--module",
            "-m",
            metavar="NAME",
            rich_help_panel=_SCRIPT_PANEL,
            help="run the module as a script, as python -m does, in place of TARGET",
        ),
    ] = None
    fit: Annotated[
        int,
        typer.Option(
            parser=_parse_fit,
            metavar="N|all",
            rich_help_panel=_SCRIPT_PANEL,
            help="take this call of Trainer.fit; earlier ones train nothing; all: together with those like the first",
        ),
    ] = 1
    optimizer_step: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            rich_help_panel=_SCRIPT_PANEL,
            help="trace its own loop after this optimizer step; default: 1",
        ),
    ] = None
    steps: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=10**12,
            metavar="N",
            rich_help_panel=_SCRIPT_PANEL,
            help="optimizer steps of its whole run, where the script does not say how many",
        ),
    ] = None

    made_up_data: Annotated[
        bool,
        typer.Option(
            "--made-up-data",
            rich_help_panel=_SCRIPT_PANEL,
            help="read no data: make up the batch from --batch, else from the module's example_input_array",
        ),
    ] = False
    batch: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            rich_help_panel=_SCRIPT_PANEL,
            help="one micro-batch for --made-up-data: 'x:float32[4,16],y:int64[4]' is a dictionary, without names it "
            "is a tuple; or the path of a .pt file",
        ),
    ] = None
    train_samples: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            rich_help_panel=_SCRIPT_PANEL,
            help="samples of an epoch for --made-up-data, over all devices; default: those of the script's loader",
        ),
    ] = None

    times_loader: bool = field(init=False, default=True)
    """The profile keeps what the first batches of a script took to load."""

    arguments: Annotated[
        list[str] | None,
        # Not typed by anybody: `--` ends the options, and what follows is kept by the group of commands.
        typer.Option("--arguments-of-script", hidden=True, callback=_after_dashes, parser=str),
    ] = None

    def open_traced(self, target: str, copied: CopiedFolder | None = None) -> TracedTarget:
        """
        Return a TARGET with its traces.

        Args:
            target: see `load_job`, or a script, see `script_of`.
            copied: another copy of its folder; None reads it where it is.

        Raises:
            InputError: see `limits`, or what stands for the data is malformed.
        """
        from trainfare.user_process import TracedTarget, TraceStore
        from trainfare.user_process.trace_store import default_folder

        store = None if self.no_cache else TraceStore(default_folder())
        made_up = self._read_made_up()
        if made_up is not None and script_of(target) is None:
            raise InputError(f"--made-up-data is for a script: {target} gives its batch itself")
        return TracedTarget(
            target,
            self.limits(),
            fit=self.fit,
            optimizer_step=self.optimizer_step,
            steps=self.steps,
            made_up=made_up,
            copied=copied,
            times_loader=self.times_loader,
            store=store,
            say=_say,
            wait=show_wait,
        )

    def trace_afresh(self) -> TargetOptions:
        """
        Return these options for a verdict, which is the same on any runner.

        It comes from no kept trace, since what a job reads is not known, and its loader has no time of this host.
        """
        options = replace(self, no_cache=True)
        object.__setattr__(options, "times_loader", False)  # no option: it is not in the signature
        return options

    def _read_made_up(self) -> MadeUpData | None:
        """Return what stands for the data of a script; None where they are read."""
        batch = self.batch
        if not self.made_up_data:
            if batch is not None or self.train_samples is not None:
                raise InputError("--batch and --train-samples: add --made-up-data, and no data are read")
            return None
        if batch is not None and batch.endswith(".pt"):
            batch = str(Path(batch).absolute())
            if not Path(batch).is_file():
                raise InputError(f"--batch {self.batch}: no such file; write it with torch.save(batch, path)")
        elif batch is not None:
            parse_batch(batch)
        return MadeUpData(batch=batch, train_samples=self.train_samples)

    def find_target(self, target: str | None) -> str | None:
        """
        Return the TARGET of a command: its own argument or `--module`, with what the command line has after `--`.

        Args:
            target: the argument of the command; None where it has none.

        Raises:
            InputError: both are given, or arguments or made-up data for something that is no script.
        """
        arguments = tuple(self.arguments or ())
        if self.module is not None:
            if target is not None:
                raise InputError(f"{target} and --module {self.module}: give one of them")
            return target_of(self.module, arguments, is_module=True)
        if target is None and arguments:  # `--` before the TARGET, as for one that begins with a dash
            target, arguments = arguments[0], arguments[1:]
        if target is None or not (arguments or self.fit != 1 or self.optimizer_step or self._read_made_up()):
            return target
        if script_of(target) is None:
            msg = (
                f"{target} is no script: arguments after --, --fit and --optimizer-step are for train.py or "
            )
            msg += "--module package.train"
            raise InputError(f"{msg}, as is --made-up-data" if self.made_up_data else msg)
        return target_of(target, arguments)

    def require_target(self, target_text: str | None) -> str:
        """
        Return the TARGET of a command that needs one; see `find_target`.

        Raises:
            InputError: there is none.
        """
        target = self.find_target(target_text)
        if target is None:
            raise InputError("no TARGET: give a script such as train.py, or --module package.train")
        return target

    def limits(self) -> ProcessLimits:
        """
        Return them as the process takes them.

        Raises:
            InputError: not a number; typer lets NaN pass any range.
        """
        for name in ("target_seconds", "target_memory_gib", "real_gib", "real_cpu_seconds"):
            value = getattr(self, name)
            if value is not None and math.isnan(value):
                raise InputError(f"--{name.replace('_', '-')} {value}: give a number")
        real = RealLimits(memory_gib=self.real_gib, cpu_s=self.real_cpu_seconds)
        return ProcessLimits(
            answer_s=self.target_seconds,
            cpu_s=self.target_cpu_seconds,
            memory_gib=self.target_memory_gib,
            output_kib=self.target_output_kib,
            pass_env=tuple(self.pass_env or ()),
            real=None if self.no_real else real,
            sandbox=("none",) if self.no_sandbox else ("overlay", "copy"),
            keep_data=self.keep_data,
        )


def _say(text: str) -> None:
    sys.stderr.write(f"note: {terminal_text(text)}\n")


@contextmanager
def profile_of(
    job: str, target: TargetOptions, copied: CopiedFolder | None = None, *, precisions: bool = False
) -> Generator[Callable[[], JobProfile], None, None]:
    """
    Start to trace the JOB of a command if it is a TARGET, and give a function that returns its profile.

    What the command does before it calls the function takes place while the TARGET is traced.

    Args:
        job: profile file or TARGET.
        target: what its code may use.
        copied: another copy of its folder; None reads it where it is.
        precisions: also trace a TARGET in other precisions; a file has those that it was written with.

    Raises:
        ProfileError: a file that is no profile.
        InputError: see `with_steps`.
        TargetError, TraceError: see `UserProcess.profile`.
    """
    from trainfare.fake_step import is_target, read_profile
    from trainfare.job import with_steps

    if is_target(job):
        with target.open_traced(job, copied) as traced:
            yield traced.in_precisions if precisions else traced.profile
    else:
        path = job if copied is None else str(copied.directory / job)
        yield lambda: with_steps(read_profile(path), target.steps)
