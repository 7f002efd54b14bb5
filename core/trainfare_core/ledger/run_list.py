"""The newest runs of a ledger as an answer, and why one has no predicted step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import AwareDatetime, Field

from trainfare_core.documents import Answer, Count, Finite, Interval, Record
from trainfare_core.ledger.run_record import Compared

if TYPE_CHECKING:
    import polars as pl


class ListedRun(Record):
    """One session of a run, or an exported plan that was not seen to run."""

    run_id: str
    started_at: AwareDatetime
    state: str = Field(description="as in the record; continued: a later session has the whole run")
    project: str
    job: str
    nodes: Count | None
    accelerators: Count | None = Field(description="of one machine")
    accelerator: str
    steps_done: Count | None
    prediction_id: str
    step_s: Compared
    memory_bytes: Compared
    run_s: Compared
    usd: Compared
    unpredicted_because: str = Field(description="why step_s has no prediction; empty: it has")


class RunList(Answer):
    """Runs of a ledger."""

    runs: tuple[ListedRun, ...] = Field(description="oldest first")


def list_table(table: pl.DataFrame) -> RunList:
    """Return the rows of a table as `name_continued` returns it."""
    return RunList(runs=tuple(map(_list_row, table.iter_rows(named=True))))


def explain_unpredicted(row: Mapping[str, Any]) -> str:
    """Return why a row of a table of runs has no predicted step; "" where it has one."""
    if row["step_s_predicted_mid"] is not None:
        return ""
    device = row["machine_accelerator"] or "an unknown device"
    if row["prediction_made"] == "before":
        return "left out of TRAINFARE_PREDICTION for its length"
    if row["state"] == "running":
        because = "it runs"
    elif device == "cpu":
        because = "steps on a CPU are not predicted"
    elif not row["job_fingerprint"]:
        because = "its step was not traced"
    elif row["state"] != "finished":
        because = "it did not end by itself"
    else:
        because = f"its step on {device} could not be predicted"
    return f"not started from a file of `trainfare export`, and {because}"


def _list_row(row: Mapping[str, Any]) -> ListedRun:
    def compare(quantity: str) -> Compared:
        ends: dict[str, Finite | None] = {
            end: row[f"{quantity}_predicted_{end}"] for end in Interval.model_fields
        }
        predicted = None if None in ends.values() else Interval.model_validate(ends)
        return Compared(predicted=predicted, measured=row[f"{quantity}_measured"])

    words = ("run_id", "started_at", "state", "project", "job", "prediction_id", "steps_done")
    machine = ("nodes", "accelerators", "accelerator")
    values: dict[str, Any] = {name: row[name] for name in words}
    values |= {name: row[f"machine_{name}"] for name in machine}
    values |= {name: compare(name) for name in ("step_s", "memory_bytes", "run_s", "usd")}
    return ListedRun(**values, unpredicted_because=explain_unpredicted(row))
