"""
What runs cost on the bill: the lines that carry the tag of a prediction, beside its estimate.

Every line counts once: in the run that it names, or in its service's sum of what names none. A credit, adjustment or
correction without a tag counts in the run that its resource belongs to, where that is one alone.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import polars as pl
from pydantic import Field

from trainfare_core.changes.cost_change import Signed
from trainfare_core.documents import Answer, Count, Interval, Record
from trainfare_core.errors import InputError
from trainfare_core.ledger.bill_columns import COSTS, FORMATS, BillFormat, find_bad_numbers, is_tag_column
from trainfare_core.recommendation import PREDICTION_TAG

_DIGITS: Final = 6
"""Decimals of money that are kept: the order in which threads add floats changes the next ones."""


class BilledRun(Record):
    """The lines of one prediction in one currency. A cost is None where a line does not say it."""

    prediction_id: str
    currency: str
    estimate_usd: Interval | None = Field(description="of the ledger; None: it has no run of this prediction")
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
    files: Sequence[Path], estimates: Mapping[str, Interval], last: Mapping[str, str] | None = None
) -> BillReconciliation:
    """
    Find the runs on a bill.

    Args:
        files: Parquet or CSV, all of one format; a line must be in one of them only.
        estimates: dollars by id of the prediction.
        last: the prediction of a resumed run's last session by that of an earlier one; the lines of both count there.

    Raises:
        InputError: a file cannot be read, lacks a mandatory column, or has another format than the first.
    """
    formats: set[str] = set()
    lines: list[pl.LazyFrame] = []
    notes: list[str] = []
    for file in files:
        with _name_file(file):
            frame = _scan(file)
            schema = frame.collect_schema()
            bill_format = _find_format(file, schema)
            bad = frame.select(find_bad_numbers(schema)).collect().row(0, named=True)
        if any(bad.values()):
            names = ", ".join(name for name, is_bad in bad.items() if is_bad)
            raise InputError(f"{file}: {names}: a value is not a number")
        if not any(name in bill_format.tags or is_tag_column(name) for name in schema):
            tags = " or ".join(bill_format.tags)
            notes.append(f"{file.name} has no column of tags ({tags}): no run can be found")
        formats.add(bill_format.name)
        lines.append(frame.select(bill_format.select_lines(schema)))
    if len(formats) > 1:
        raise InputError("the files have different formats, in which the same charge may stand twice")
    with _name_file(files[0]):
        runs, unmatched = _sum_lines(pl.concat(lines).with_columns(pl.col("run").replace(last or {})))
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


def _scan(file: Path) -> pl.LazyFrame:
    if file.suffix == ".parquet":
        return pl.scan_parquet(file)
    if file.name.endswith((".csv", ".csv.gz")):
        return pl.scan_csv(file, infer_schema=False)
    raise InputError(f"{file}: name a .parquet, .csv or .csv.gz file")


def _find_format(file: Path, schema: Mapping[str, object]) -> BillFormat:
    """Return the format with most of its mandatory columns, which must be all."""
    missing = {item.name: [name for name in item.mandatory if name not in schema] for item in FORMATS}
    nearest = min(FORMATS, key=lambda item: len(missing[item.name]) / len(item.mandatory))
    if missing[nearest.name]:
        names = ", ".join(missing[nearest.name])
        raise InputError(f"{file}: not a bill in FOCUS 1.2 or CUR 2.0: of {nearest.name} it lacks {names}")
    return nearest


def _sum_lines(lines: pl.LazyFrame) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the sums by run, and by service of what belongs to none."""
    run, adjusted = pl.col("run"), pl.col("adjusted")
    # Of a run's resources only the names are kept, to find its untagged adjustments.
    tagged = lines.filter(run.is_not_null() & pl.col("resource").is_not_null())
    owners = (
        tagged.group_by("resource").agg(owner=run.first(), runs=run.n_unique()).filter(pl.col("runs") == 1)
    )
    found = run.is_null() & adjusted & pl.col("owner").is_not_null()
    owned = lines.join(owners.drop("runs"), on="resource", how="left").with_columns(
        pl.col("currency", "service").fill_null("?"),
        run=pl.when(found).then("owner").otherwise("run"),
        found=found,
    )
    hours = pl.col("hours").filter(~adjusted)
    by_run = owned.filter(run.is_not_null()).group_by(run.alias("prediction_id"), "currency")
    by_service = owned.filter(run.is_null()).group_by("service", "currency")
    adjusted_cost = _sum_known("billed", adjusted).alias("adjusted_cost")
    runs = by_run.agg(
        *(_sum_known(name, ~adjusted).alias(f"{name}_cost") for name in COSTS),
        adjusted_cost,
        _sum_known("effective", adjusted).alias("adjusted_effective_cost"),
        pl.when(hours.count() > 0).then(hours.sum().round(_DIGITS)).alias("machine_hours"),
        pl.len().alias("lines"),
        pl.col("found").sum().alias("lines_by_resource"),
    )
    services = by_service.agg(
        _sum_known("billed", ~adjusted).alias("billed_cost"), adjusted_cost, lines=pl.len()
    )
    first, last = ["currency", "billed_cost", "service"], [False, True, False]
    ordered = runs.sort("prediction_id", "currency"), services.sort(first, descending=last, nulls_last=True)
    sums = pl.collect_all(ordered)
    return sums[0].to_dicts(), sums[1].to_dicts()


def _sum_known(name: str, lines: pl.Expr) -> pl.Expr:
    """Return the sum of a column over some lines; null where one of them does not say it."""
    values = pl.col(name).filter(lines)
    return pl.when(values.null_count() == 0).then(values.sum().round(_DIGITS))


@contextmanager
def _name_file(file: Path) -> Generator[None, None, None]:
    """Turn what polars raises on a file that cannot be read into an error that names it."""
    try:
        yield
    except FileNotFoundError as error:
        raise InputError(f"{file}: there is no such file") from error
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise InputError(f"{file}: it cannot be read ({type(error).__name__}): is it damaged?") from error
