"""`trainfare reconcile`: what runs cost on the bill."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trainfare.cli.ledger import LedgerOption, folder_of
from trainfare.cli.option_groups import Format, group_options
from trainfare.cli.output import warn, write_blocks

if TYPE_CHECKING:
    from trainfare_core.documents import Interval


@group_options
def reconcile(
    bill: Annotated[
        list[Path],
        typer.Argument(
            help="files of the bill, Parquet or CSV, in FOCUS 1.2 or AWS CUR 2.0; a line in one of them only"
        ),
    ],
    *,
    ledger: LedgerOption = None,
    output: Format = "table",
) -> None:
    """Show what runs cost on a bill: list, contracted, effective, billed and adjusted, beside the estimate."""
    from trainfare.report.bill import build_bill
    from trainfare_core.ledger.bill import reconcile_bill

    answer = reconcile_bill(bill, *_read_estimates(ledger))
    write_blocks(answer, build_bill(answer), output)


def _read_estimates(named: str | None) -> tuple[dict[str, Interval], dict[str, str]]:
    """Return predicted dollars by prediction, and predictions of resumed runs; none where the ledger is off."""
    from trainfare.ledger.place import find_ledger
    from trainfare.ledger.store import read_runs
    from trainfare_core.documents import Interval
    from trainfare_core.ledger.run_table import find_last_predictions

    if named is None and find_ledger() is None:
        return {}, {}
    runs = read_runs(folder_of(named))
    warn(runs.problems)
    ends = {f"usd_predicted_{end}": end for end in Interval.model_fields}
    table = runs.table.select("prediction_id", *ends).rename(ends).drop_nulls()
    estimates = {row.pop("prediction_id"): Interval(**row) for row in table.to_dicts()}
    return estimates, find_last_predictions(runs.table)
