"""`trainfare reconcile`: what runs cost on the bill."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import typer

from trainfare.cli.ledger import LedgerOption, fetch_ledger, folder_of
from trainfare.cli.option_groups import Format, group_options
from trainfare.cli.output import warn, write_blocks
from trainfare_core.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import polars as pl

    from trainfare_core.bills.reconciliation import BillReconciliation
    from trainfare_core.documents import Interval

Engine: TypeAlias = Literal["athena", "athena-focus", "bigquery"]


@group_options
def reconcile(
    bill: Annotated[
        list[str] | None,
        typer.Argument(
            help="files of the bill, Parquet or CSV, in FOCUS 1.2 or AWS CUR 2.0, or the result of the printed query: "
            "names, patterns, folders, addresses as s3://, gs:// and az://; a line in one of them only"
        ),
    ] = None,
    *,
    ledger: LedgerOption = None,
    answers: Annotated[
        list[Path] | None,
        typer.Option(
            "--answer",
            metavar="FILE",
            help="answer as JSON, or file of `trainfare export`, whose predictions are in no ledger; several times",
        ),
    ] = None,
    print_query: Annotated[
        Engine | None,
        typer.Option(
            help="print the query that gives a bill's sums in Athena (CUR 2.0, or FOCUS 1.2) or BigQuery (Google's "
            "FOCUS view), and send nothing"
        ),
    ] = None,
    table: Annotated[
        str | None, typer.Option(metavar="NAME", help="of --print-query: DATABASE.TABLE")
    ] = None,
    since: Annotated[
        str | None, typer.Option(metavar="MONTH", help="of --print-query: the first, 2026-09")
    ] = None,
    output: Format = "table",
) -> None:
    """Show what runs cost on a bill: list, contracted, effective, billed and adjusted, beside the estimate."""
    if print_query is not None:
        from trainfare_core.bills.query import write_query

        if bill or table is None or since is None:
            raise InputError("--print-query reads no BILL; it takes --table DATABASE.TABLE and --since MONTH")
        sys.stdout.write(write_query(print_query, table, since))
        return
    if not bill:
        raise InputError("name the files of a bill; `trainfare reconcile --help` says which")
    from trainfare.bills.files import find_bill
    from trainfare.ledger.plans import read_estimates
    from trainfare.report.bill import build_bill
    from trainfare_core.bills.reconciliation import reconcile_bill

    given = read_estimates(answers or ())
    place, runs = _read_ledger(ledger)
    dollars, last = _list_estimates(runs)
    answer = reconcile_bill(find_bill(bill), dollars | given, last)
    notes = _explain_unknown(answer, place, runs)
    answer = answer.model_copy(update={"notes": (*answer.notes, *notes)})
    write_blocks(answer, build_bill(answer), output)


def _read_ledger(named: str | None) -> tuple[str, pl.DataFrame | None]:
    """Return the name and the runs of the ledger; None where it is off."""
    from trainfare.ledger.place import find_ledger
    from trainfare.ledger.store import read_runs

    if named is None and find_ledger() is None:
        return "", None
    runs = read_runs(fetch_ledger(named))
    warn(runs.problems)
    return str(folder_of(named)), runs.table


def _list_estimates(table: pl.DataFrame | None) -> tuple[dict[str, Interval], dict[str, str]]:
    """Return predicted dollars by prediction, and predictions of resumed runs."""
    from trainfare_core.documents import Interval
    from trainfare_core.ledger.run_table import find_last_predictions

    if table is None:
        return {}, {}
    ends = {f"usd_predicted_{end}": end for end in Interval.model_fields}
    rows = table.select("prediction_id", *ends).rename(ends).drop_nulls().to_dicts()
    return {row.pop("prediction_id"): Interval(**row) for row in rows}, find_last_predictions(table)


def _explain_unknown(answer: BillReconciliation, place: str, table: pl.DataFrame | None) -> Iterator[str]:
    """Yield why runs of a bill have no estimate."""
    unknown = dict.fromkeys(run.prediction_id for run in answer.runs if run.estimate_usd is None)
    recorded: set[str] = set() if table is None else set(table["prediction_id"])
    where = f"no run or plan in {place} has it" if place else "the ledger is off"
    reasons = {
        "its record has no predicted dollars": [name for name in unknown if name in recorded],
        f"{where}: name its answer or exported file with --answer": [
            name for name in unknown if name not in recorded
        ],
    }
    for reason, names in reasons.items():
        if names:
            more = f" and {len(names) - _NAMES:,} more" * (len(names) > _NAMES)
            yield f"no estimate of {', '.join(names[:_NAMES])}{more}: {reason}"


_NAMES = 3
"""Predictions to name for each reason. Chosen: a line."""
