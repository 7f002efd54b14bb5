"""
What runs cost on the bill: the lines that carry the tag of a prediction, beside its estimate.

Every line counts once: in the run that it names, or in its service's sum of what names none. A credit, adjustment or
correction without a tag counts in the run that its resource belongs to, where that is one alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import polars as pl
from pydantic import Field

from trainfare_core.bills.files import BillFile
from trainfare_core.bills.formats import COSTS
from trainfare_core.bills.sums import add_lines, merge_sums
from trainfare_core.documents import Answer, Count, Interval, Record, Signed
from trainfare_core.errors import InputError
from trainfare_core.recommendation import PREDICTION_TAG

_DIGITS: Final = 6
"""Decimals of money that are kept: the order in which threads add floats changes the next ones."""


class BilledRun(Record):
    """The lines of one prediction in one currency. A cost is None where a line does not say it."""

    prediction_id: str
    currency: str
    estimate_usd: Interval | None = Field(
        description="of the ledger or of --answer; None: neither has its prediction"
    )
    list_cost: Signed | None = Field(description="at public prices")
    contracted_cost: Signed | None = Field(
        description="at negotiated prices, without reservations and the like"
    )
    effective_cost: Signed | None = Field(description="with its share of what was paid ahead")
    billed_cost: Signed | None = Field(description="as invoiced")
    adjusted_cost: Signed | None = Field(
        description="billed cost of credits, adjustments and later corrections, which are in no other column"
    )
    adjusted_effective_cost: Signed | None = Field(description="effective cost of those")
    machine_hours: Signed | None = Field(description="of lines that name a machine type; None: none does")
    lines: Count
    lines_by_resource: Count = Field(description="adjustments that carry no tag, found by their resource")


class UnmatchedCost(Record):
    """The lines of a service that belong to no run."""

    service: str
    currency: str
    billed_cost: Signed | None
    adjusted_cost: Signed | None
    lines: Count


class BillReconciliation(Answer):
    """Runs on a bill, and what carries no tag; two currencies are never added."""

    bill_format: str = Field(description="FOCUS 1.2 or CUR 2.0")
    runs: tuple[BilledRun, ...]
    unmatched: tuple[UnmatchedCost, ...] = Field(description="most money first, by currency")
    notes: tuple[str, ...]


def reconcile_bill(
    files: Sequence[BillFile], estimates: Mapping[str, Interval], last: Mapping[str, str] | None = None
) -> BillReconciliation:
    """
    Find the runs on a bill.

    Args:
        files: all of one format; a line must be in one of them only.
        estimates: dollars by id of the prediction.
        last: the prediction of a resumed run's last session by that of an earlier one; the lines of both count there.

    Raises:
        InputError: a file cannot be read, lacks a mandatory column, or has another format than the first.
    """
    table: pl.DataFrame | None = None
    formats: set[str] = set()
    notes: list[str] = []
    seen: dict[int, str] = {}
    months: list[pl.DataFrame] = []
    for file in files:
        bill_format, sums, note = add_lines(file)
        formats.add(bill_format)
        if len(formats) > 1:
            raise InputError("the files have different formats, in which the same charge may stand twice")
        notes += [note] if note else []
        like = seen.setdefault(_hash_sums(sums), file.name)
        if like != file.name:
            notes.append(f"{file.name} has the same sums as {like}: is one a copy of the other?")
        months.append(sums.select("period", "account", source=pl.lit(file.source)).unique())
        part = sums.with_columns(pl.col("run").replace(last or {}))
        table = merge_sums(part if table is None else pl.concat([table, part.select(table.columns)]))
    if table is None:
        raise InputError("no files of a bill")
    runs, unmatched, doubts = _add_runs(table)
    notes += [*_find_shared_months(pl.concat(months)), *doubts]
    if not runs:
        notes.append(
            f"no line carries the tag {PREDICTION_TAG}: `trainfare export` sets it on machines, and AWS bills it only "
            "once it is activated as a cost allocation tag"
        )
    return BillReconciliation(
        bill_format=formats.pop(),
        runs=tuple(BilledRun(estimate_usd=estimates.get(run["prediction_id"]), **run) for run in runs),
        unmatched=tuple(UnmatchedCost(**service) for service in unmatched),
        notes=tuple(notes),
    )


def _hash_sums(sums: pl.DataFrame) -> int:
    """Return a number that two copies of a file share, in whatever storage or compression they are."""
    return int(sums.with_columns(pl.col(pl.Float64).round(_DIGITS)).hash_rows(seed=0).sum())


def _find_shared_months(table: pl.DataFrame) -> Iterator[str]:
    """Name months that two of the named files or folders hold of one account."""
    months = table.drop_nulls(["period", "account"]).group_by("period", "account")
    twice = months.agg(pl.col("source").unique().sort()).filter(pl.col("source").list.len() > 1)
    for period, account, sources in twice.sort("period", "account").iter_rows():
        yield (
            f"{period} of account {account} is in {' and '.join(sources[:3])}{' ...' * (len(sources) > 3)}: its "
            "lines count twice if these are two versions, not parts, of one export"
        )


def _add_runs(table: pl.DataFrame) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[str]]:
    """Return the sums by run, by service of what belongs to none, and what is doubtful of the runs' lines."""
    run, adjusted = pl.col("run"), pl.col("adjusted")
    tagged = table.filter(run.is_not_null() & pl.col("resource").is_not_null())
    owners = (
        tagged.group_by("resource").agg(owner=run.first(), runs=run.n_unique()).filter(pl.col("runs") == 1)
    )
    found = run.is_null() & adjusted & pl.col("owner").is_not_null()
    owned = table.join(owners.drop("runs"), on="resource", how="left").with_columns(
        pl.col("currency", "service").fill_null("?"),
        run=pl.when(found).then("owner").otherwise("run"),
        found=found,
    )
    # Credits of Google's lines stand in them, and are adjustments as those with a line of their own.
    adjusted_costs = [
        _sum_known(name, adjusted, pl.col("credit").sum()).alias(column)
        for name, column in (("billed", "adjusted_cost"), ("effective", "adjusted_effective_cost"))
    ]
    timed = (pl.col("lines") - pl.col("hours_unknown")).filter(~adjusted).sum() > 0
    runs = owned.filter(run.is_not_null()).group_by(run.alias("prediction_id"), "currency")
    by_run = runs.agg(
        *(_sum_known(name, ~adjusted).alias(f"{name}_cost") for name in COSTS),
        *adjusted_costs,
        pl.when(timed).then(pl.col("hours").filter(~adjusted).sum().round(_DIGITS)).alias("machine_hours"),
        pl.col("lines").sum(),
        pl.col("lines").filter("found").sum().alias("lines_by_resource"),
    )
    services = owned.filter(run.is_null()).group_by("service", "currency")
    by_service = services.agg(
        _sum_known("billed", ~adjusted).alias("billed_cost"), adjusted_costs[0], pl.col("lines").sum()
    )
    doubts = owned.filter(run.is_not_null()).drop_nulls("doubt").group_by("doubt").agg(pl.col("lines").sum())
    first, order = ["currency", "billed_cost", "service"], [False, True, False]
    return (
        by_run.sort("prediction_id", "currency").to_dicts(),
        by_service.sort(first, descending=order, nulls_last=True).to_dicts(),
        [f"{lines:,} line{'s' * (lines > 1)}: {doubt}" for doubt, lines in doubts.sort("doubt").iter_rows()],
    )


def _sum_known(name: str, rows: pl.Expr, more: pl.Expr = pl.lit(0.0)) -> pl.Expr:  # noqa: B008 - never changed
    """Return the sum of a measure over some rows, and more; null where one of their lines does not say it."""
    known = pl.col(f"{name}_unknown").filter(rows).sum() == 0
    return pl.when(known).then((pl.col(name).filter(rows).sum() + more).round(_DIGITS))
