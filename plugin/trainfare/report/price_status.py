"""The answer of `trainfare prices status` as a table."""

from __future__ import annotations

from trainfare.report.escape import terminal_text
from trainfare.report.tables import UNLIMITED_WIDTH, table_text
from trainfare_core.prices.status import PricesStatus, ServiceStatus

__all__ = ["status_table"]


def status_table(answer: PricesStatus, *, width: int = UNLIMITED_WIDTH) -> str:
    """Return one row for each cloud service; below it rejected rows, notes and sources that failed."""
    right = (
        *("rows", "oldest", "newest", "age, days", "fresh", f"> {answer.old_after_days} days"),
        *("read", "accepted", "filtered", "quarantined"),
    )
    rows = (
        (
            f"{one.provider}/{one.service}",
            one.origin if one.fetched_at is None else f"{one.origin}, fetched {one.fetched_at}",
            f"{one.rows:,}",
            one.oldest,
            one.newest,
            f"{one.age_days} to {one.oldest_age_days}",
            f"{one.fresh_rows:,}",
            f"{one.old_rows:,}",
            f"{one.rows_read:,}",
            f"{one.accepted:,}",
            f"{sum(tally.rows for tally in one.filtered):,}",
            f"{sum(tally.rows for tally in one.quarantined):,}",
            "; ".join(_notes(one)),
        )
        for one in answer.services
    )
    table = table_text(("service", "from", *right, "note"), rows, right=right, width=width)
    return "\n".join([table, *_summary(answer)]) + "\n"


def _notes(one: ServiceStatus) -> list[str]:
    notes = ["degraded"] if one.degraded else []
    if one.rows and not one.fresh_rows:
        notes.append("all stale")
    elif one.fresh_rows < one.rows:
        notes.append("partly stale")
    if one.rows_after_as_of:
        notes.append(f"{one.rows_after_as_of:,} dated later: is the clock right?")
    return notes


def _summary(answer: PricesStatus) -> list[str]:
    services = answer.services
    rows = sum(one.rows for one in services)
    fresh = sum(one.fresh_rows for one in services)
    old = sum(one.old_rows for one in services)
    estimated = sum(one.estimated_dates for one in services)
    caveats = sum(one.caveats for one in services)
    lines = [
        f"as of {answer.as_of:%Y-%m-%d %H:%M} UTC: {rows:,} prices, {fresh:,} fresh (confirmed within 24 hours, "
        f"spot within 1), {old:,} older than {answer.old_after_days} days"
        + (" or dated later" if any(one.rows_after_as_of for one in services) else ""),
        f"{estimated:,} have an estimated date, {caveats:,} have a caveat; `trainfare offers` shows both",
    ]
    for one in services:
        for kind, tallies in (("filtered", one.filtered), ("quarantined", one.quarantined)):
            lines += [
                f"{kind} {one.provider}/{one.service}: {tally.rows:,} rows: {tally.reason}"
                for tally in tallies
            ]
    lines += [f"note: {note}" for note in answer.notes]
    lines += [f"warning: {problem}" for problem in answer.problems]
    return [terminal_text(line) for line in lines]
