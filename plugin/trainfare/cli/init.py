"""`trainfare init`: find the training scripts here, trace and price them, and write a policy and a CI workflow."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Collection, Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated, Final

import typer

from trainfare.cli.output import show_wait
from trainfare.cli.target import TargetOptions, profile_of
from trainfare.prices.run_cost_table import OWN_FILE, PROJECT_FILE
from trainfare.prices.sources import PriceChoice
from trainfare.pull_request.workflow import OWN_REQUIREMENTS, REQUIREMENTS, find_systems, write_workflow
from trainfare.report.escape import terminal_text
from trainfare_core.errors import CannotTellError, TrainfareError
from trainfare_core.number_format import shorten_text
from trainfare_providers.disk.files import make_folder, write_text

_HEADROOM: Final = 1.5
"""Of the limit, over the upper end of the run's 80 % interval. Chosen: prices and data change without a mistake."""
_INCREASE_PERCENT: Final = 25
"""By which a change may raise the cost. A chosen value, as in docs/ci.md."""
_MOST_SCRIPTS: Final = 6
"""Tried and listed: with the files of three systems and next steps they fit on 20 lines."""
_MOST_FILES: Final = 4_000
"""Of the folder that are looked at. Chosen, as for kept traces: one with more holds other things than a project."""
_COLUMNS: Final = 80
"""Of a terminal, in which each line fits."""


def init(
    *,
    seconds: Annotated[float, typer.Option(min=1, max=3600, help="longest trace of one script")] = 120,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="say what would be written, and write nothing")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="write files again that are there")] = False,
) -> None:
    """Find the training scripts of this folder, try them, and write a policy and a workflow for its CI system."""
    from trainfare.policy.policy_file import read_file
    from trainfare.script.find_scripts import OWN_LOOP, find_scripts
    from trainfare.script.imported_packages import list_requirements
    from trainfare.user_process.trace_store import list_code_files

    scripts = find_scripts(islice(list_code_files(Path()), _MOST_FILES))
    priced: list[str] = []
    lines, jobs, hints = [f"training scripts: {len(scripts) or 'none'}"], dict[str, str](), list[str]()
    for path, said in scripts[:_MOST_SCRIPTS]:
        if not said:
            try:
                name = name_job(path, jobs)
                said, jobs[name] = _try_script(path, name, seconds)
                priced.append(path)
            except TrainfareError as error:
                said = str(error).removeprefix(path).lstrip(": ")
                hints.append(f"  trainfare profile {path} # the whole reason")
                if "exit code" in said:
                    hints[-1] = f'  if {path} needs arguments: target = "{path} -- ARGUMENTS"'
        most = max(_COLUMNS - len(path) - len("  :  ..."), len(OWN_LOOP))
        lines.append(f"  {path}: {shorten_text(said, most)}")
    if len(scripts) > _MOST_SCRIPTS:
        lines.append(f"  and {len(scripts) - _MOST_SCRIPTS} more, which were not tried")
    if jobs:
        files, project = {OWN_FILE: "\n".join(jobs.values())}, Path(PROJECT_FILE)
        if project.is_file() and read_file(project) is not None:
            files.clear()
            lines.append(f"kept the policy in [tool.trainfare] of {project}")
        systems = find_systems(Path())
        wanted = [] if Path(REQUIREMENTS).is_file() or not systems else list_requirements(priced)
        if wanted:
            files[OWN_REQUIREMENTS] = "".join(f"{line}\n" for line in wanted)
        files.update(write_workflow(system, Path(), own_requirements=bool(wanted)) for system in systems)
        lines += _write_files(files, dry_run=dry_run, force=force)
        lines += [
            "next:",
            "  trainfare init" if dry_run else "  trainfare check",
            "  trainfare prices lock -o trainfare.lock # keeps the prices as they are",
        ]
        lines += hints[:1]
        if not systems:
            lines.append("  no CI system was found: docs/ci.md has the workflows of three")
        lines += [
            f"  include {system.beside} in {system.path}" for system in systems if system.beside in files
        ]
        lines += [
            f"  {name}: fill in OWNER and COMMIT (docs/ci.md)"
            for name, text in files.items()
            if "@COMMIT" in text
        ]
    elif hints:
        lines += ["next:", *hints[:1]]
    sys.stdout.write("".join(f"{terminal_text(line)}\n" for line in lines))
    if not jobs:
        raise CannotTellError("no script with a Trainer could be priced, so nothing was written")


def _write_files(files: dict[str, str], *, dry_run: bool, force: bool) -> Iterator[str]:
    """Write what is not there, and yield a line on each file."""
    for name, text in files.items():
        path = Path(name)
        if not path.parent.resolve().is_relative_to(Path().resolve()):
            yield f"left {name}: its folder is a link that leads out of this one"
            continue
        if path.exists() and not force:
            yield f"kept {name}; --force writes it again"
            continue
        if not dry_run:
            make_folder(path.parent)
            write_text(path, text)
        yield f"{'would write' if dry_run else 'wrote'} {name}"


def name_job(path: str, others: Collection[str]) -> str:
    """Return the name of a script's job, which none of the other jobs has."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", path.removesuffix(".py")).lstrip("-_")[:80] or "job"
    return name if name not in others else f"{name[:76]}-{len(others) + 1}"


def _try_script(path: str, name: str, seconds: float) -> tuple[str, str]:
    """
    Trace and price a script; return what it would cost, and its job in a policy.

    Raises:
        TrainfareError: it cannot be.
    """
    from trainfare.recommendation import rank_job
    from trainfare_core.ranking.pricing.request import Request

    with profile_of(path, TargetOptions(target_seconds=seconds, target_output_kib=0)) as traced:
        profile = traced()
    with show_wait("pricing every machine"):
        answer = rank_job(profile, Request(), PriceChoice()).answer
    best, is_whole = answer.best("cheapest"), answer.basis == "whole_run"
    if best is None:
        raise CannotTellError(answer.unknown_because or "no machine runs it")
    lines = [f"[jobs.{name}]", f"target = {json.dumps(path)}", f"max_increase_percent = {_INCREASE_PERCENT}"]
    if is_whole:
        most_usd = f"{best.run_usd.high_80 * _HEADROOM:.2g}"
        lines.append(f"max_usd = {float(most_usd):g}")
    doubt = (
        "its time is a guess"
        if best.guess_because
        else ""
        if is_whole
        else "its number of steps is not known"
    )
    if doubt:
        lines.append(f'on_unknown = "warn" # {doubt}')
    place = f"{best.provider}:{best.instance_type}@{best.region}"
    usd = f"${best.run_usd.mid:,.2f}{' (a guess)' if best.guess_because else ''}"
    said = f"{usd} {'a run' if is_whole else 'for 1,000 steps'} on {place}"
    return said, "".join(f"{line}\n" for line in lines)
