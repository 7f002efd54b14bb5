"""`trainfare export`: the file that starts a plan of an answer."""

from __future__ import annotations

import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from trainfare.cli.options import OutputFile
from trainfare.cli.output import check_writable, warn, write_answer
from trainfare.report.escape import terminal_text
from trainfare_core.errors import InputError

if TYPE_CHECKING:
    from trainfare_core.recommendation import Option, Recommendation


def export(
    answer: Annotated[
        Path, typer.Argument(help="JSON of `trainfare recommend --format json` or of FareMeter")
    ],
    *,
    to: Annotated[
        Literal["skypilot", "sagemaker", "azureml", "torchrun"],
        typer.Option("--to", help="what starts the run"),
    ],
    plan: Annotated[
        str,
        typer.Option(
            metavar="NAME|RANK",
            help="cheapest, best-value, own, runner-up, fastest, spot, other-clouds, or a rank",
        ),
    ] = "cheapest",
    porting: Annotated[
        bool, typer.Option("--porting", help="also a plan that the script does not run on as it is")
    ] = False,
    out: OutputFile = None,
) -> None:
    """Write the file that starts a plan of an answer; nothing is started, and no credential is read."""
    from trainfare.export import export_plan, find_option, list_fill_ins
    from trainfare_core.recommendation import Recommendation
    from trainfare_providers.disk.files import read_input

    check_writable(out)
    content = read_input(answer, _MOST_BYTES, label="answer ", kind="an answer")
    recommended = Recommendation.from_json(content, where=str(answer))
    files = export_plan(recommended, to, plan, porting=porting)
    if files.beside and out is None:
        raise InputError(f"--to {to} writes several files: name the first with --output")
    for suffix, text in files.beside.items():
        if out is not None:
            beside = out.with_name(f"{out.stem}{suffix}")
            check_writable(beside)
            write_answer(text, beside)
    write_answer(files.text, out)
    _keep(recommended, find_option(recommended, plan))
    for line in list_fill_ins(files.text):
        sys.stderr.write(f"{terminal_text(line)}\n")


def _keep(answer: Recommendation, option: Option | None) -> None:
    """Write the prediction into a ledger that is a folder; to a bucket it travels in the exported file."""
    from trainfare.ledger.place import find_ledger
    from trainfare.ledger.plans import keep_plan

    place = find_ledger()
    if option is None or place is None or not isinstance(place.folder, Path):
        return
    try:
        path = keep_plan(answer, option, place.folder, place.project, datetime.now(tz=timezone.utc))
    except OSError as error:
        reason = error.strerror or type(error).__name__
        warn([f"the prediction is not in the ledger {place.folder}: {reason}; the exported file has it"])
        return
    if path is not None:
        sys.stderr.write(terminal_text(f"wrote the prediction to {path}") + "\n")


_MOST_BYTES = 2**26
"""Largest answer that is read. Chosen: answers with every region are a few MB."""
