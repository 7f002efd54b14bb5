"""`trainfare probe train.py`: run a script, measure its first steps on this machine, and price its whole run."""

from __future__ import annotations

import atexit
import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from trainfare.cli.exit_codes import exit_code_of
from trainfare.cli.interrupt import INTERRUPTED_EXIT, was_interrupted
from trainfare.cli.limit_options import RunLimits
from trainfare.cli.option_groups import OptionGroup, group_options
from trainfare.cli.options import DecisionPriceOptions, Force, LoaderOptions
from trainfare.cli.profile import check_profile_path
from trainfare.cli.ranking import RankingOptions
from trainfare.cli.target import TargetOptions
from trainfare.job import Probe, script_of, with_steps
from trainfare.report.escape import terminal_text
from trainfare_core.errors import InputError, TraceError
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
    loader: LoaderOptions,
) -> None:
    """Run a training script until some steps are measured on this machine, and rank every machine for its whole run."""
    from trainfare.script import probe_script

    target = TargetOptions(module=module, arguments=list(context.obj or ())).require_target(script)
    to_run, folder = script_of(target), Path.cwd()
    if to_run is None:
        raise InputError(f"{target} is no script: give one such as train.py, or --module package.train")
    if out is not None:
        check_profile_path(out, force=force)
    limits.constraints()  # checked before anything is trained

    def answer(profile: JobProfile | None) -> None:
        if profile is None:  # of another rank than 0
            return
        os.chdir(folder)
        profile = with_steps(profile, total_steps)
        if out is not None:
            write_text(out, profile.to_json())
            sys.stderr.write(f"wrote {out}\n")
        sys.stderr.write(terminal_text(describe_measurement(profile)) + "\n")
        if not profile.operations:
            raise TraceError(f"no ranking: {profile.notes[-1]}")
        ranking.options.answer(limits, prices, lambda: loader.apply_to(profile), target=target)

    answers, descriptor = sys.stdout, os.dup(1)

    def print_to(number: int, stream: Any) -> None:
        os.dup2(number, 1)
        sys.stdout = stream

    def end(give: Callable[[], JobProfile | None]) -> NoReturn:
        print_to(descriptor, answers)
        code = INTERRUPTED_EXIT if was_interrupted() else exit_code_of(lambda: answer(give()))
        print_to(2, sys.stderr)
        # Libraries finish there what loggers have begun; the script's own code does not go on.
        atexit._run_exitfuncs()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        sys.stderr.flush()
        os._exit(code)

    print_to(2, sys.stderr)  # what the script prints
    probe_script(to_run, Probe(steps, save, end), optimizer_step=optimizer_step)


def describe_measurement(profile: JobProfile) -> str:
    """Return what was measured, and of how long a run."""
    plan, measured = profile.plan, profile.measured
    steps = plan.optimizer_steps
    length = f"an unknown number: {plan.unknown_because}" if steps is None else f"{steps:,}"
    if measured is None:
        return f"nothing was measured on this machine: the run of {length} steps was too short"
    took = f"{measured.step.median_s * 1e3:,.4g} ms each"
    return f"measured on this machine ({measured.device_name}), {took}: {measured.steps:,} steps of {length}"
