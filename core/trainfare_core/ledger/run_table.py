"""Runs of a ledger as a table with a column for each value: the score of their predictions, and rows without names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, Literal, TypeAlias, get_args

import polars as pl
from pydantic import JsonValue

from trainfare_core.clouds import CLOUDS
from trainfare_core.documents import Answer, Record
from trainfare_core.ledger.run_record import RunRecord

Quantity: TypeAlias = Literal["step_s", "memory_bytes", "run_s", "usd"]
Grouping: TypeAlias = Literal["all", "project", "accelerator", "kind", "version"]

_ENDS: Final = {"low_80": 0.1, "mid": 0.5, "high_80": 0.9}
"""Of an error, and the shares of the runs below them."""
_WHOLE_RUN: Final = ("run_s", "usd")
"""Quantities that a run which did not finish, or was stopped early, says nothing about."""
_RANGE: Final = ("measured", "predicted_low_80", "predicted_mid", "predicted_high_80")
_NAMES: Final = ("run_id", "sessions_id", "started_at", "project", "job", "job_fingerprint", "tool_version",
    "plan_strategy", "prediction_id", "prediction_tool_version", "prediction_differences")  # fmt: skip
"""Columns of text that `remove_names` leaves out or changes."""
_WORDS: Final = ("state", "kind", "machine_cloud", "machine_instance_type", "machine_region", "machine_accelerator",
    "machine_purchase_option", "software_torch", "software_loop", "plan_precision", "prediction_made")  # fmt: skip
_NUMBERS: Final = ("machine_accelerators", "machine_nodes", "plan_accumulate", "plan_micro_batch", "steps_measured",
    "steps_planned", "steps_done", "interruptions", "usd_per_hour", "step_p10_s", "step_p90_s",
    *(f"{quantity}_{end}" for quantity in get_args(Quantity) for end in _RANGE))  # fmt: skip
COLUMNS: Final = {
    **dict.fromkeys((*_NAMES, *_WORDS), pl.String()),
    **dict.fromkeys(_NUMBERS, pl.Float64()),
}
"""Of a table of runs: values of `RunRecord`, their names joined by `_`."""


_VERSION: Final = (
    pl.when(pl.col("prediction_tool_version") != "").then("prediction_tool_version").otherwise("tool_version")
)
"""The trainfare that predicted."""


_RUN: Final = pl.coalesce(pl.col("sessions_id").replace("", None), "run_id")
"""The same in the rows of all sessions of a run."""
_IS_LAST: Final = _RUN.is_last_distinct()
"""Whether a row is the last of those that the sessions of its run have written, in a table with the oldest first."""


class ScoreRow(Record):
    """How right predictions of one quantity were, over the runs of one group; an error is predicted / measured - 1."""

    group: str
    quantity: Quantity
    runs: int
    median_error: float
    """Of its size."""
    mean_error: float
    """Of its size."""
    bias: float
    """Mean with its sign: below 0, runs took more than predicted."""
    error_low_80: float
    """10 % of the errors are below it."""
    error_mid: float
    """Median with its sign."""
    error_high_80: float
    """10 % of the errors are above it."""
    held: float
    """Share of the runs inside the 80 % interval."""


class LedgerScore(Answer):
    """How right the predictions of a ledger's runs were."""

    by: Grouping
    runs: int
    made_after: int
    """Runs whose prediction was made of the traced step after the run, without its times."""
    rows: tuple[ScoreRow, ...]


def tabulate_runs(records: Iterable[RunRecord]) -> pl.DataFrame:
    """Return a row a record."""
    rows = [dict(_flatten(record.model_dump(mode="json"))) for record in records]
    columns = {name: [row.get(name) for row in rows] for name in COLUMNS}
    return pl.DataFrame(columns, schema=COLUMNS, strict=False)


def score_runs(table: pl.DataFrame, by: Grouping = "all") -> LedgerScore:
    """
    Return how right predictions were, of runs as they were priced; hours and dollars of those that did all their steps.

    A resumed run counts once: each quantity is of the last session that measured it.

    Args:
        table: of `tabulate_runs`, oldest run first.
        by: what rows are grouped by; version is the trainfare that predicted.
    """
    groups: dict[Grouping, pl.Expr] = {
        "all": pl.lit("all"),
        "project": pl.col("project"),
        "accelerator": pl.col("machine_accelerator"),
        "kind": pl.col("kind"),
        "version": _VERSION,
    }
    table = table.filter(pl.col("state") != "planned")
    as_priced = table.filter(pl.col("prediction_differences") == "")
    scores = pl.concat([_score(as_priced, quantity, groups[by]) for quantity in get_args(Quantity)])
    rows = (ScoreRow.model_validate(row) for row in scores.sort("group", maintain_order=True).to_dicts())
    runs = table.filter(_IS_LAST)
    after = runs.filter(pl.col("prediction_made") == "after").height
    return LedgerScore(by=by, runs=runs.height, made_after=after, rows=tuple(rows))


def drop_started_plans(table: pl.DataFrame) -> pl.DataFrame:
    """Return runs without the exported plans of which a run is there."""
    is_planned = pl.col("state") == "planned"
    started = table.filter(~is_planned).select("prediction_id").unique()
    plans = table.filter(is_planned).join(started, on="prediction_id", how="semi")
    return (
        table.join(plans, on=["run_id", "state"], how="anti", maintain_order="left")
        if plans.height
        else table
    )


def find_last_predictions(table: pl.DataFrame) -> dict[str, str]:
    """Return the last prediction of runs by each of theirs, unless runs with different last ones had one in common."""
    last = pl.col("prediction_id").last().over(_RUN).alias("last")
    pairs = table.filter(pl.col("prediction_id") != "").select("prediction_id", last).unique()
    return dict(pairs.filter(pl.col("prediction_id").is_unique()).iter_rows())


def name_continued(table: pl.DataFrame) -> pl.DataFrame:
    """Return runs, oldest first, in which the state of every session but a run's last is "continued"."""
    return table.with_columns(pl.when(_IS_LAST).then("state").otherwise(pl.lit("continued")).alias("state"))


def _score(table: pl.DataFrame, quantity: str, group: pl.Expr) -> pl.DataFrame:
    measured, predicted = pl.col(f"{quantity}_measured"), pl.col(f"{quantity}_predicted_mid")
    low, high = pl.col(f"{quantity}_predicted_low_80"), pl.col(f"{quantity}_predicted_high_80")
    runs = table.filter((measured > 0) & (predicted > 0))
    if quantity in _WHOLE_RUN:
        whole = pl.col("steps_planned").is_null() | (pl.col("steps_done") >= pl.col("steps_planned"))
        runs = runs.filter(whole & (pl.col("state") == "finished"))
    error = predicted / measured - 1
    return (
        runs.filter(_IS_LAST)
        .group_by(group.alias("group"))
        .agg(
            pl.lit(quantity).alias("quantity"),
            pl.len().cast(pl.Int64).alias("runs"),
            error.abs().median().alias("median_error"),
            error.abs().mean().alias("mean_error"),
            error.mean().alias("bias"),
            *(error.quantile(share, "linear").alias(f"error_{end}") for end, share in _ENDS.items()),
            measured.is_between(low, high).mean().alias("held"),
        )
        .filter(pl.col("runs") > 0)
        .sort("group")
    )


def remove_names(table: pl.DataFrame) -> pl.DataFrame:
    """Return a table of runs without anything that names a person, project, job, path or machine of one's own."""
    public = pl.col("machine_cloud").is_in(
        list(CLOUDS)
    )  # a name of one's own machines may tell whose they are
    places = ("machine_cloud", "machine_instance_type", "machine_region")
    return table.select(
        pl.col("started_at").str.slice(0, 7).alias("month"),
        _VERSION.alias("version"),
        # The arguments of a strategy name the user's classes.
        pl.col("plan_strategy").str.extract(r"^(\w*)").alias("strategy"),
        (pl.col("prediction_differences") == "").alias("as_priced"),
        *(pl.when(public).then(name).alias(name) for name in places),
        *(name for name in (*_WORDS, *_NUMBERS) if name not in places),
    )


def _flatten(values: Mapping[str, JsonValue], prefix: str = "") -> Iterator[tuple[str, JsonValue]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{name}_")
        else:
            yield prefix + name, "; ".join(map(str, value)) if isinstance(value, list) else value
