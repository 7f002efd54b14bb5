"""Runs of a ledger and the score of their predictions as text."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from trainfare.report.tables import table_text
from trainfare_core.number_format import duration, hours_text, percent

if TYPE_CHECKING:
    import polars as pl

    from trainfare_core.ledger.run_table import LedgerScore

_QUANTITIES = {"step_s": "step", "memory_bytes": "memory", "run_s": "hours", "usd": "dollars"}


def runs_text(table: pl.DataFrame, width: int) -> str:
    """Return a line a run of a table of runs."""
    left, right = (
        ("started", "run", "state", "project", "job", "machine"),
        ("steps", "step", "predicted", "hours", "USD"),
    )
    rows = (_write_cells(row) for row in table.iter_rows(named=True))
    optional = ("predicted", "job", "steps", "USD")
    return table_text((*left, *right), rows, right=right, width=width, optional=optional) + "\n"


def _write_cells(row: dict[str, Any]) -> tuple[str, ...]:
    counts = (row["machine_nodes"] or 1, row["machine_accelerators"] or 1)
    machine = "".join(f"{count:.0f} x " for count in counts if count > 1) + row["machine_accelerator"]
    figures: tuple[tuple[str, Callable[[float], str]], ...] = (
        ("steps_done", "{:.0f}".format), ("step_s_measured", duration), ("step_s_predicted_mid", duration),
        ("run_s_measured", lambda run_s: hours_text(run_s / 3600)), ("usd_measured", "{:,.2f}".format),
    )  # fmt: skip
    return (
        row["started_at"][:16].replace("T", " "),
        *(row[name] for name in ("run_id", "state", "project", "job")),
        machine,
        *("" if row[name] is None else write(row[name]) for name, write in figures),
    )


def score_text(score: LedgerScore, width: int) -> str:
    """Return the score as a table, and what it counts."""
    if not score.rows:
        return f"none of {score.runs} runs has both a prediction and what it took\n"
    names = ("" if score.by == "all" else score.by, "of", "runs", "median error", "mean", "bias", "in 80 %")
    rows = [
        (
            "" if score.by == "all" else row.group or "not known", _QUANTITIES[row.quantity], str(row.runs),
            percent(row.median_error, 1), percent(row.mean_error, 1), percent(row.bias, 1, sign=True),
            percent(row.held),
        )
        for row in score.rows
    ]  # fmt: skip
    lines = [table_text(names, rows, right=names[2:], width=width)]
    lines.append(
        "Errors are predicted over measured minus one; hours and dollars are of runs that did all their steps."
    )
    if score.made_after:
        lines.append(
            f"{score.made_after} of {score.runs} predictions were made after the run, without its times."
        )
    return "\n".join(lines) + "\n"
