"""`trainfare ledger ...`: what runs took and cost, beside what was predicted."""

from __future__ import annotations

import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from trainfare.cli.option_groups import Format, group_options
from trainfare.cli.options import OutputFile
from trainfare.cli.output import check_writable, output_width, warn, write_answer, write_blocks
from trainfare_core.errors import InputError

if TYPE_CHECKING:
    import polars as pl

    from trainfare.ledger.place import LedgerFolder

app = typer.Typer(
    name="ledger", help="What runs took and cost, beside what was predicted.", no_args_is_help=True
)

LedgerOption = Annotated[
    str | None,
    typer.Option(
        "--ledger",
        metavar="FOLDER",
        help="a folder, s3://, gs:// or az://; default: TRAINFARE_LEDGER, `ledger` in trainfare.toml, or the user's",
    ),
]
ProjectOption = Annotated[str | None, typer.Option(metavar="NAME", help="runs of this project alone")]


@app.callback()
def ledger() -> None:
    """List runs, score their predictions, import profiles, and export rows."""


def folder_of(named: str | None) -> LedgerFolder:
    """
    Return the folder or the bucket of a ledger, by `--ledger` or the settings.

    Raises:
        InputError: the settings cannot be read, or say that there is none; what is named is no folder.
    """
    from trainfare.ledger.place import find_ledger, read_folder

    if named is not None:
        folder = read_folder(named)
        if isinstance(folder, Path) and folder.exists() and not folder.is_dir():
            raise InputError(f"--ledger {named}: a ledger is a folder, and this is none")
        return folder
    place = find_ledger()
    if place is None:
        raise InputError(
            "the ledger is off by TRAINFARE_LEDGER or trainfare.toml; name a folder with --ledger"
        )
    return place.folder


def fetch_ledger(named: str | None) -> Path:
    """
    Return the folder of a ledger as `folder_of`, and of a bucket its copy here.

    Raises:
        InputError: as `folder_of`.
        CannotTellError: the bucket does not answer, or denies it.
    """
    from trainfare.ledger.bucket import fetch_folder

    return fetch_folder(folder_of(named))


def _read_table(named: str | None, project: str | None = None) -> pl.DataFrame:
    import polars as pl

    from trainfare.ledger.store import read_runs

    runs = read_runs(fetch_ledger(named))
    warn(runs.problems)
    return runs.table if project is None else runs.table.filter(pl.col("project") == project)


@app.command("list")
@group_options
def list_runs(
    *,
    folder: LedgerOption = None,
    project: ProjectOption = None,
    last: Annotated[int, typer.Option(min=1, max=10**9, help="newest runs")] = 20,
    output: Format = "table",
) -> None:
    """List the newest runs."""
    from trainfare.report.ledger import build_runs, runs_text
    from trainfare_core.ledger.run_list import list_table
    from trainfare_core.ledger.run_table import name_continued

    table = name_continued(_read_table(folder, project)).tail(last)
    if output == "json":
        write_answer(list_table(table).to_json(), None)
    elif output == "html":
        from trainfare.report.render.page import format_page

        write_answer(format_page(build_runs(table)), None, references=True)
    else:
        sys.stdout.write(runs_text(table, output_width()) if table.height else "no runs\n")


@app.command("show")
def show(
    run: Annotated[str, typer.Argument(metavar="RUN", help="id of the run, or its beginning")],
    *,
    folder: LedgerOption = None,
) -> None:
    """Print the record of a run, as JSON."""
    from trainfare.ledger.store import find_run

    sys.stdout.write(find_run(fetch_ledger(folder), run).to_json())


@app.command("score")
@group_options
def score(
    *,
    folder: LedgerOption = None,
    project: ProjectOption = None,
    by: Annotated[
        Literal["all", "project", "accelerator", "kind", "version"], typer.Option(help="a row for each")
    ] = "all",
    plot: Annotated[bool, typer.Option("--plot", help="draw the errors as well")] = False,
    output: Format = "table",
) -> None:
    """Show how right predictions were: errors, and how often the 80 % interval held."""
    from trainfare.report.ledger import build_score
    from trainfare_core.ledger.run_table import score_runs

    answer = score_runs(_read_table(folder, project), by)
    write_blocks(answer, build_score(answer, plot=plot), output)


@app.command("import")
def import_profiles(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", exists=True, help="profiles that FareMeter wrote")
    ],
    *,
    folder: LedgerOption = None,
    project: Annotated[str, typer.Option(metavar="NAME", help="project of these runs")] = "imported",
) -> None:
    """Add runs that FareMeter measured before; a profile that is there already is written again."""
    from trainfare.fake_step import is_target, read_profile
    from trainfare.ledger.bucket import replace_record
    from trainfare.ledger.profiles import record_profile

    place = folder_of(folder)
    for file in files:
        if is_target(str(file)):
            raise InputError(
                f"{file}: give a profile that FareMeter wrote, and not code, which is not run here"
            )
        profile = read_profile(str(file))
        written_at = datetime.fromtimestamp(int(file.stat().st_mtime), tz=timezone.utc)
        path = replace_record(record_profile(profile, written_at, project, file), place)
        sys.stderr.write(f"wrote {path}\n")


@app.command("update")
def update(*, folder: LedgerOption = None, project: ProjectOption = None) -> None:
    """Ask SageMaker and Azure ML what the jobs of exported plans took and billed."""
    from trainfare.ledger.cloud_jobs import update_runs

    for line in update_runs(folder_of(folder), project):
        sys.stdout.write(f"{line}\n")


@app.command("export")
def export(
    *,
    folder: LedgerOption = None,
    project: ProjectOption = None,
    anonymous: Annotated[
        bool, typer.Option("--anonymous", help="without names, paths, projects, ids and days")
    ] = False,
    out: OutputFile = None,
) -> None:
    """Write a row a run, as CSV."""
    import polars as pl

    from trainfare.report.escape import csv_cell
    from trainfare_core.ledger.run_table import name_continued, remove_names

    check_writable(out)
    table = name_continued(_read_table(folder, project))
    rows = remove_names(table) if anonymous else table
    cells = rows.with_columns(pl.col(pl.String).map_elements(csv_cell, return_dtype=pl.String))
    write_answer(cells.write_csv(), out)


@app.command("why")
@group_options
def explain(
    run: Annotated[str, typer.Argument(metavar="RUN", help="id of the run, or its beginning")],
    *,
    folder: LedgerOption = None,
    output: Format = "table",
) -> None:
    """Split measured less predicted dollars of a run into causes."""
    from trainfare.ledger.store import find_sessions
    from trainfare.report.run_causes import build_run_causes
    from trainfare_core.ledger.causes import explain_run, join_sessions

    answer = explain_run(join_sessions(find_sessions(fetch_ledger(folder), run)))
    write_blocks(answer, build_run_causes(answer), output)
