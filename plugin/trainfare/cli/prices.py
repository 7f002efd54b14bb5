"""`trainfare prices ...`: what the price book holds, how old it is, and what was refused while reading it."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from trainfare.cli.offers import WIDE, output_width, rendered
from trainfare.cli.price_options import AsOf, JsonOrTable, Lock, OwnPricesOption, moment
from trainfare.cli.prices_lock import lock
from trainfare.cli.prices_update import update
from trainfare.cli.prices_verify import verify
from trainfare.report.escape import terminal_text
from trainfare_core.prices.status import PricesStatus, ServiceStatus, price_status

__all__ = ["app", "status", "status_table"]

app = typer.Typer(
    name="prices",
    help="The price book: fetch it, check it, lock it, and see how old it is.",
    no_args_is_help=True,
)


app.command("update")(update)
app.command("verify")(verify)
app.command("lock")(lock)


@app.callback()
def prices() -> None:
    """Inspect the prices that recommendations are made with."""


@app.command("status")
def status(
    price_lock: Lock = None,
    own_prices: OwnPricesOption = None,
    as_of: AsOf = None,
    output: Annotated[JsonOrTable, typer.Option("--format", help="table or json")] = JsonOrTable.table,
) -> None:
    """Show rows, dates, age and refused rows of every cloud service, live, shipped or locked."""
    from trainfare.prices.sources import PriceChoice, load_prices

    choice = PriceChoice(lock=price_lock, own_prices=own_prices, now=moment(as_of))
    loaded = load_prices(choice=choice)
    answer = price_status(loaded.book, as_of=choice.now, problems=loaded.problems, notes=loaded.notes)
    if output is JsonOrTable.json:
        sys.stdout.write(answer.to_json())
    else:
        sys.stdout.write(status_table(answer, width=output_width()))


def status_table(answer: PricesStatus, *, width: int = WIDE) -> str:
    """Return the status as a table of so many columns, with refused rows and sick sources below."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    names = (
        "service",
        "from",
        "rows",
        "oldest",
        "newest",
        "age, days",
        "fresh",
        f"> {answer.old_after_days} days",
    )
    for name in (*names, "read", "accepted", "filtered", "quarantined", "note"):
        table.add_column(
            name, justify="left" if name in ("service", "from", "note") else "right", overflow="fold"
        )
    for one in answer.services:
        cells = (
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
        table.add_row(*(Text(terminal_text(cell)) for cell in cells))
    return "\n".join([rendered(table, width=width), *_summary(answer)]) + "\n"


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
    rows = sum(one.rows for one in answer.services)
    fresh = sum(one.fresh_rows for one in answer.services)
    old = sum(one.old_rows for one in answer.services)
    estimated = sum(one.estimated_dates for one in answer.services)
    caveats = sum(one.caveats for one in answer.services)
    lines = [
        f"as of {answer.as_of:%Y-%m-%d %H:%M} UTC: {rows:,} prices, {fresh:,} fresh (seen within 24 hours, "
        f"spot within 1), {old:,} older than {answer.old_after_days} days"
        + (", or dated later" if any(one.rows_after_as_of for one in answer.services) else ""),
        f"{estimated:,} have an estimated date, {caveats:,} a caveat, which `trainfare offers` shows",
    ]
    for one in answer.services:
        for kind, tallies in (("filtered", one.filtered), ("quarantined", one.quarantined)):
            lines += [
                f"{kind} {one.provider}/{one.service}: {tally.rows:,} rows: {tally.reason}"
                for tally in tallies
            ]
    lines += [f"note: {note}" for note in answer.notes]
    lines += [f"warning: {problem}" for problem in answer.problems]
    return [terminal_text(line) for line in lines]
