"""The answer of `trainfare prices status` as a table."""

from __future__ import annotations

from trainfare.report.escape import terminal_text
from trainfare.report.tables import UNLIMITED_WIDTH, table_text
from trainfare_core.prices.status import PricesStatus, ServiceStatus


def status_table(answer: PricesStatus, *, width: int = UNLIMITED_WIDTH) -> str:
    """Return one row for each cloud service; below it rejected rows, notes and sources that failed."""
    right = (
        *("rows", "oldest", "newest", "age, days", "fresh", f"> {answer.old_after_days} days"),
        *("read", "accepted", "filtered", "quarantined"),
    )
    rows = (
        (
            f"{service.provider}/{service.service}",
            service.origin
            if service.fetched_at is None
            else f"{service.origin}, fetched {service.fetched_at}",
            f"{service.rows:,}",
            service.oldest,
            service.newest,
            f"{service.age_days} to {service.oldest_age_days}",
            f"{service.fresh_rows:,}",
            f"{service.old_rows:,}",
            f"{service.rows_read:,}",
            f"{service.accepted:,}",
            f"{sum(tally.rows for tally in service.filtered):,}",
            f"{sum(tally.rows for tally in service.quarantined):,}",
            "; ".join(_write_notes(service)),
        )
        for service in answer.services
    )
    table = table_text(
        ("service", "from", *right, "note"),
        rows,
        right=right,
        width=width,
        # Rows that were not accepted are told apart below the table.
        optional=("read", "accepted", "filtered", "quarantined", "fresh", "oldest", "age, days"),
        wrapped=("from", "note", *right),
    )
    return "\n".join([table, *_summary(answer)]) + "\n"


def _write_notes(service: ServiceStatus) -> list[str]:
    notes = ["degraded"] if service.degraded else []
    if service.rows and not service.fresh_rows:
        notes.append("all stale")
    elif service.fresh_rows < service.rows:
        notes.append("partly stale")
    if service.rows_after_as_of:
        notes.append(f"{service.rows_after_as_of:,} dated later: is the clock right?")
    return notes


def _summary(answer: PricesStatus) -> list[str]:
    services = answer.services
    rows = sum(service.rows for service in services)
    fresh = sum(service.fresh_rows for service in services)
    old = sum(service.old_rows for service in services)
    estimated = sum(service.estimated_dates for service in services)
    caveats = sum(service.caveats for service in services)
    lines = [
        f"as of {answer.as_of:%Y-%m-%d %H:%M} UTC: {rows:,} prices, {fresh:,} fresh (confirmed within 24 hours, "
        f"spot within 1), {old:,} older than {answer.old_after_days} days"
        + (" or dated later" if any(service.rows_after_as_of for service in services) else ""),
        f"{estimated:,} have an estimated date, {caveats:,} have a caveat; `trainfare offers` shows both",
    ]
    for service in services:
        for kind, tallies in (("filtered", service.filtered), ("quarantined", service.quarantined)):
            lines += [
                f"{kind} {service.provider}/{service.service}: {tally.rows:,} rows: {tally.reason}"
                for tally in tallies
            ]
    lines += [f"note: {note}" for note in answer.notes]
    lines += [f"warning: {problem}" for problem in answer.problems]
    return [terminal_text(line) for line in lines]
