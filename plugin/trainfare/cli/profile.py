"""`trainfare profile TARGET -o job.json`: trace one training step without an accelerator."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from trainfare.cli.option_groups import group_options
from trainfare.cli.target import TargetOptions, profile_of
from trainfare.report.escape import terminal_text
from trainfare.report.wording import of_the_work, short_count
from trainfare_core.errors import InputError
from trainfare_core.job_profile import JobProfile, LoaderTime
from trainfare_core.number_format import figures, percent
from trainfare_core.variants import PRECISIONS
from trainfare_providers.disk.files import write_text


@group_options
def profile(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="TARGET [-- ARGS]",
            help="a training script or notebook with its arguments after --, run up to Trainer.fit; "
            "path/to/file.py:callable or package.module:callable that returns a TrainingJob; "
            "or a LightningCLI config.yaml; not given: every job of the policy, into the folder of --output",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="file to write; default: standard output. Without TARGET a folder, for `check --profiles`",
        ),
    ] = None,
    *,
    limits: TargetOptions,
    precision: Annotated[
        list[str] | None,
        typer.Option(
            help="trace the step in this precision too, as Lightning names it, for recommend --allow precision; may be "
            "repeated"
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="overwrite an existing file")] = False,
) -> None:
    """Trace a training job without an accelerator and write its profile as JSON."""
    if output is not None and limits.find_target(target) is None:
        _profile_jobs(limits, output)
        return
    job_target = limits.require_target(target)
    for precision_name in precision or ():
        if precision_name not in PRECISIONS:
            raise InputError(f"--precision {precision_name}: give {', '.join(PRECISIONS)}")
    if output is not None:
        check_profile_path(output, force=force)
    with limits.open_traced(job_target) as process:
        traced = process.in_precisions(precision or ())
    sys.stderr.write(summary_of(traced))
    if output is None:
        sys.stdout.write(traced.to_json())
        return
    check_profile_path(output, force=force)
    write_text(output, traced.to_json())
    sys.stderr.write(f"wrote {output}\n")


def _profile_jobs(limits: TargetOptions, folder: Path) -> None:
    """Trace every job of the policy here into a folder; end with the worst exit code of those that cannot be."""
    from trainfare.policy import read_policy
    from trainfare.policy.traced_jobs import leave_reason, write_traced_jobs
    from trainfare_core.policy.check import worst_exit_code

    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file: without TARGET, give the folder for the profiles of all jobs")
    try:
        file = read_policy(None)
    except InputError as no_policy:
        if folder.is_dir():  # else the name may be that of a file, and TARGET forgotten
            leave_reason(folder, no_policy)
        raise
    policy = file.policy
    precisions = any(policy.constraints_of(job).any_precision for job in policy.jobs.values())

    def trace(target: str) -> JobProfile:
        with profile_of(target, limits.trace_afresh(), precisions=precisions) as traced:
            return traced()

    exit_codes: list[int] = []
    for name, error in write_traced_jobs(file, folder, trace):
        exit_codes.append(0 if error is None else error.exit_code)
        said = f"wrote {folder / name}.json" if error is None else f"{name}: error: {error}"
        sys.stderr.write(f"{terminal_text(said)}\n")
    code = worst_exit_code(exit_codes)
    if code:
        raise typer.Exit(code)


def summary_of(traced: JobProfile) -> str:
    """Return a summary: parameters, FLOPs, memory, number of steps, and the coverage of the trace."""
    memory, plan, parallel, timed = traced.memory, traced.plan, traced.parallel, traced.batch.loader_time
    count = sum(group.count for group in traced.parameters)
    steps = (
        f"{plan.optimizer_steps:,}" + (f" ({plan.steps_note})" if plan.steps_note else "")
        if plan.optimizer_steps is not None
        else f"unknown: {plan.unknown_because}"
    )
    samples, tokens, vary = (
        traced.batch.samples_per_step,
        traced.batch.tokens_per_step,
        traced.batch.variation,
    )
    counted = [
        f"{count:,} {unit}" for count, unit in ((samples, "samples"), (tokens, "tokens")) if count is not None
    ]
    per_step = f"{', '.join(counted)} per device" if counted else "samples not known"
    ends = None if vary is None else (vary.smallest_flops, vary.largest_flops)
    varies = [("", text) for text in of_the_work(ends, traced.work_note) if text]
    held_text = (
        f"{_size(memory.gradient_bytes)} gradients, {_size(traced.optimizer.state_bytes)} optimizer state"
    )
    others = [("precisions", f"also {', '.join(step.precision for step in traced.precisions)}")]
    rows = [
        ("job", f"{traced.name}, {traced.precision}, {parallel.world_size} device(s), {parallel.strategy}"),
        (
            "parameters",
            f"{count:,} ({traced.trainable_parameters:,} trainable), {_size(traced.parameter_bytes)}",
        ),
        ("one step", f"{short_count(traced.step_flops, 'FLOP')} per device, {per_step}"),
        *varies,
        *(others if traced.precisions else ()),
        ("memory", f"{held_text}, {_size(memory.saved_activation_bytes)} saved activations"),
        *([("loader", _describe_loader(timed))] if timed is not None else ()),
        ("steps", steps),
        (
            "coverage",
            f"{percent(traced.coverage, 1)} of the bytes belong to operations with a known FLOP formula",
        ),
    ]
    lines = [f"{name:<11} {text}" for name, text in rows]
    lines += [f"note        {note}" for note in traced.notes]
    return "".join(terminal_text(line) + "\n" for line in lines)


def _describe_loader(timed: LoaderTime) -> str:
    took = f"{figures(1e3 * timed.sample_cpu_s)} ms of CPU a sample in one process here"
    waits_s = max(timed.sample_s - timed.sample_cpu_s, 0.0)
    return f"{took}, {figures(1e3 * waits_s)} ms of waits (median of {timed.batches} batches)"


def check_profile_path(path: Path, *, force: bool) -> None:
    """
    Check that a profile can be written to a file.

    Raises:
        InputError: it exists, or its folder does not.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder: give the name of a file")
    if path.exists() and not force:
        raise InputError(f"{path} exists already: give another name, or --force to overwrite it")
    if not path.parent.is_dir():
        raise InputError(f"{path}: there is no folder {path.parent}; make it first")


def _size(size_bytes: int) -> str:
    """Return bytes in the smallest unit in which they are below 1024, else in the largest."""
    units = ("B", "KiB", "MiB", "GiB", "TiB")
    power = next((power for power in range(len(units)) if size_bytes < 1024 ** (power + 1)), len(units) - 1)
    return f"{size_bytes / 1024**power:,.4g} {units[power]}"
