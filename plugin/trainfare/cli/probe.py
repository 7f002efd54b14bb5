"""`trainfare probe train.py`: run a script, measure its first steps on this machine, and price its whole run."""

from __future__ import annotations

import atexit
import contextlib
import functools
import inspect
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator
from functools import partial
from os import _exit
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, final

import typer

from trainfare.cli.exit_codes import exit_code_of
from trainfare.cli.interrupt import (
    INTERRUPTED_EXIT,
    noting_interrupts,
    say_interrupted,
    take_signals_back,
    was_interrupted,
)
from trainfare.cli.limit_options import RunLimits
from trainfare.cli.option_groups import OptionGroup, group_options
from trainfare.cli.options import DecisionPriceOptions, Force, JobOptions
from trainfare.cli.profile import check_profile_path
from trainfare.cli.ranking import RankingOptions
from trainfare.cli.streams import open_messages
from trainfare.cli.supervise import tell_exit_code
from trainfare.cli.target import TargetOptions
from trainfare.job import Probe, describe, place_of_caller, script_of, with_steps
from trainfare.job.user_code import put_user_first, replace_attribute
from trainfare.report.escape import terminal_text
from trainfare_core.errors import InputError, TargetError, TraceError, TrainfareError
from trainfare_providers.disk.files import write_text

if TYPE_CHECKING:
    from trainfare_core.job_profile import JobProfile


class _Ranking(OptionGroup):
    """The options of a ranking that is printed."""

    __signature__ = inspect.Signature(
        [
            option
            for option in inspect.signature(RankingOptions, eval_str=True).parameters.values()
            if option.name not in ("out", "force")
        ]
    )

    def __init__(self, **typed: Any) -> None:
        self.options = RankingOptions(**typed)


@group_options
def probe(
    context: typer.Context,
    script: Annotated[
        str | None,
        typer.Argument(
            metavar="SCRIPT [-- ARGS]",
            help="training script or notebook, its arguments after --: it runs here, up to the measured steps",
        ),
    ] = None,
    *,
    module: Annotated[
        str | None,
        typer.Option("--module", "-m", metavar="NAME", help="run the module as a script, in place of SCRIPT"),
    ] = None,
    steps: Annotated[
        int, typer.Option(min=1, max=100_000, help="optimizer steps to measure, after a warm-up of 3")
    ] = 20,
    total_steps: Annotated[
        int | None,
        typer.Option(
            min=1, max=10**12, help="optimizer steps of the whole run, where the script does not say"
        ),
    ] = None,
    optimizer_step: Annotated[
        int, typer.Option(min=1, metavar="N", help="measure a loop of the script's own after this step")
    ] = 1,
    save: Annotated[
        bool, typer.Option("--save", help="let callbacks that save checkpoints do so in these steps")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--output", "-o", help="new file to write the measured profile to")
    ] = None,
    force: Force = False,
    limits: RunLimits,
    ranking: _Ranking,
    prices: DecisionPriceOptions,
    loader: JobOptions,
) -> None:
    """Run a training script until some steps are measured on this machine, and rank every machine for its whole run."""
    from trainfare.sandbox import FolderState, join_names
    from trainfare.script import probe_script

    target = TargetOptions(module=module, arguments=list(context.obj or ())).require_target(script)
    to_run, folder = script_of(target), Path.cwd()
    if to_run is None:
        raise InputError(f"{target} is no script: give one such as train.py, or --module package.train")
    if out is not None:
        check_profile_path(out, force=force)
    limits.constraints()  # checked before anything is trained
    before = FolderState(folder)

    def say_written() -> None:
        names = before.list_changed()
        if names:
            sys.stderr.write(terminal_text(f"{to_run.name} wrote {join_names(names)}, which stays") + "\n")

    def answer(profile: JobProfile | None) -> None:
        if profile is None:  # of another rank than 0
            return
        os.chdir(folder)
        say_written()
        profile = with_steps(profile, total_steps)
        if out is not None:
            write_text(out, profile.to_json())
            sys.stderr.write(f"wrote {out}\n")
        sys.stderr.write(terminal_text(describe_measurement(profile)) + "\n")
        if not profile.operations:
            raise TraceError(f"no ranking: {profile.untraced_because}")
        ranking.options.answer(limits, prices, lambda: loader.apply_to(profile), target=target)

    def refuse(error: BaseException) -> NoReturn:
        say_written()
        if isinstance(error, TrainfareError | KeyboardInterrupt):
            raise error
        raise TargetError(f"{to_run.name} raised {describe(error)}") from error

    ending = _Ending(answer)
    with _watch_exits(to_run.name, lambda error: ending.end(partial(refuse, error))):
        try:
            probe_script(to_run, Probe(steps, save, ending.end), optimizer_step=optimizer_step)
        except BaseException as error:  # noqa: BLE001 - no handler of the script may end the process in another way
            ending.end(partial(refuse, error))


@final
class _Ending:
    """
    Keeps standard output for the answer while a script runs, and ends the process with it, once.

    Args:
        answer: prints the answer for a profile.
    """

    def __init__(self, answer: Callable[[JobProfile | None], None]) -> None:
        self._answer, self._process = answer, os.getpid()
        self._thread, self._code = 0, -1
        self._streams, self._copies = (sys.stdout, sys.stderr), (os.dup(1), os.dup(2))
        self._files = [os.fstat(copy) for copy in self._copies]
        self._leave_streams()

    def _leave_streams(self) -> None:
        """Let what the script, or an exit handler of a library, prints go to standard error."""
        os.dup2(2, 1)
        sys.stdout, sys.stderr = open_messages(), open_messages()

    def _take_streams(self) -> None:
        """Undo what the script has done to the streams; without its copy, standard output fails."""
        sys.stdout, sys.stderr = self._streams
        for number, copy, file in zip((1, 2), self._copies, self._files, strict=True):
            try:
                is_kept = os.path.samestat(os.fstat(copy), file)  # a file of the script's may have its number
            except OSError:
                is_kept = False
            if is_kept:
                os.dup2(copy, number)
            elif number == 1:
                os.closerange(1, 2)  # it is standard error, or a file of the script's
        os.fstat(2)

    def end(self, give: Callable[[], JobProfile | None]) -> NoReturn:
        """Answer, and end the process; the script's own code does not go on."""
        if os.getpid() != self._process:  # a fork of the script, whose steps are not measured
            _exit(0)
        if self._code >= 0:  # an exit handler ends it
            _exit(self._code)
        if self._thread == threading.get_ident():  # a handler does, within the answer
            give()
        if self._thread:
            threading.Event().wait()
        self._thread = threading.get_ident()
        try:
            self._take_streams()
        except OSError:  # no reason can be printed here
            _exit(TargetError.exit_code)
        take_signals_back()
        code = INTERRUPTED_EXIT if was_interrupted() else exit_code_of(lambda: self._answer(give()))
        if code == INTERRUPTED_EXIT:
            say_interrupted()
        self._code = code
        tell_exit_code(code)
        with contextlib.suppress(BaseException):
            self._leave_streams()
            # Libraries finish there what loggers have begun.
            atexit._run_exitfuncs()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
            sys.stderr.flush()
        _exit(code)


@contextlib.contextmanager
def _watch_exits(name: str, on_exit: Callable[[TargetError], NoReturn]) -> Generator[None, None, None]:
    """Refuse that a script ends or replaces its process, which its forks may; see `noting_interrupts` too."""

    def watch(function: str, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def call(*args: Any) -> Any:
            if os.getpid() == process:
                where = put_user_first(place_of_caller() or "a line of a library")
                on_exit(
                    TargetError(f"{name} called os.{function} at {where}, before its steps were measured")
                )
            return original(*args)

        return call

    process = os.getpid()
    with contextlib.ExitStack() as stack:
        for function in ("_exit", "execv", "execve", "abort"):
            stack.enter_context(replace_attribute(os, function, watch(function, getattr(os, function))))
        stack.enter_context(replace_attribute(signal, "signal", noting_interrupts(signal.signal)))
        yield


def describe_measurement(profile: JobProfile) -> str:
    """Return what was measured, and of how long a run."""
    plan, measured = profile.plan, profile.measured
    steps = plan.optimizer_steps
    length = f"an unknown number: {plan.unknown_because}" if steps is None else f"{steps:,}"
    if measured is None:
        return f"nothing was measured on this machine: the run of {length} steps was too short"
    took = f"{measured.step.median_s * 1e3:,.4g} ms each"
    return f"measured on this machine ({measured.device_name}), {took}: {measured.steps:,} steps of {length}"
