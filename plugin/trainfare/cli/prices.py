"""`trainfare prices ...`: what the price book holds, how old it is, and what was refused while reading it."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from pydantic import BaseModel, ConfigDict, Field

from trainfare import __version__
from trainfare.cli.offers import WIDE, output_width, rendered
from trainfare.cli.price_options import AsOf, JsonOrTable, Lock, OwnPricesOption, moment
from trainfare.cli.prices_lock import lock
from trainfare.cli.prices_update import update
from trainfare.cli.prices_verify import verify
from trainfare.report.escape import terminal_text

if TYPE_CHECKING:
    import polars as pl

    from trainfare_core.offers import PriceBook, Tally

__all__ = [
    "PricesStatus",
    "app",
    "price_status",
    "status",
    "status_table",
]

app = typer.Typer(
    name="prices",
    help="The price book: fetch it, check it, lock it, and see how old it is.",
    no_args_is_help=True,
)


app.command("update")(update)
app.command("verify")(verify)
app.command("lock")(lock)


_NOTHING_HELD = {
    "rows": 0,
    "oldest": "",
    "newest": "",
    "fetched_at": None,
    "age_days": 0,
    "oldest_age_days": 0,
    "fresh_rows": 0,
    "old_rows": 0,
    "rows_after_as_of": 0,
    "estimated_dates": 0,
    "caveats": 0,
}


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ReasonCount(_Model):
    """How many rows ended for one reason."""

    reason: str
    rows: int


class ServiceStatus(_Model):
    """The prices of one cloud service from one origin."""

    provider: str
    service: str
    origin: str
    rows: int
    oldest: str
    newest: str
    fetched_at: str | None = Field(
        description="when the first of them was fetched; None: shipped, not fetched"
    )
    age_days: int = Field(description="of the youngest price: since its fetch, else its date's first day")
    oldest_age_days: int
    fresh_rows: int = Field(description="seen at their source within 24 hours, spot within 1 hour")
    old_rows: int = Field(description="rows older than old_after_days, or dated after as_of")
    rows_after_as_of: int = Field(description="rows dated later than as_of: that clock may be wrong")
    estimated_dates: int = Field(description="rows whose date was inferred")
    caveats: int = Field(description="rows with a caveat")
    rows_read: int
    accepted: int
    filtered: tuple[ReasonCount, ...]
    quarantined: tuple[ReasonCount, ...]
    degraded: bool = Field(description="more than 5 % of what looked like a price of ours is quarantined")


class PricesStatus(_Model):
    """Every cloud service in the price book, sorted by name."""

    schema_version: Literal[1] = 1
    tool_version: str
    as_of: datetime
    old_after_days: int
    problems: tuple[str, ...] = Field(default=(), description="price sources that gave nothing")
    notes: tuple[str, ...] = Field(default=(), description="where the prices are from")
    services: tuple[ServiceStatus, ...]

    def to_json(self) -> str:
        """JSON text; the same book and day give the same bytes."""
        return self.model_dump_json(indent=1) + "\n"


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
    from trainfare.price_sources import PriceChoice, load_prices

    choice = PriceChoice(lock=price_lock, own_prices=own_prices, now=moment(as_of))
    loaded = load_prices(choice=choice)
    answer = price_status(loaded.book, as_of=choice.now, problems=loaded.problems, notes=loaded.notes)
    if output is JsonOrTable.json:
        sys.stdout.write(answer.to_json())
    else:
        sys.stdout.write(status_table(answer, width=output_width()))


def price_status(
    book: PriceBook, *, as_of: datetime, problems: tuple[str, ...] = (), notes: tuple[str, ...] = ()
) -> PricesStatus:
    """
    Return what a book holds and how old it is at a moment.

    An age is never negative: a price dated later counts as old, since one of the two clocks is wrong.
    """
    import polars as pl

    from trainfare_core.price_freshness import USABLE_DAYS, with_ages

    days = (pl.col("age_hours") / 24).floor().fill_null(0).cast(pl.Int64)
    past = ~(pl.col("age_hours") < (USABLE_DAYS + 1) * 24).fill_null(value=False)
    by_service = (
        with_ages(book.frame, as_of)
        .group_by("provider", "service", "origin")
        .agg(
            pl.len().alias("rows"),
            pl.col("observed_on").min().alias("oldest"),
            pl.col("observed_on").max().alias("newest"),
            pl.col("fetched_at").min(),
            days.min().alias("age_days"),
            days.max().alias("oldest_age_days"),
            pl.col("fresh").sum().alias("fresh_rows"),
            past.sum().alias("old_rows"),
            pl.col("ahead").sum().alias("rows_after_as_of"),
            pl.col("observed_on_estimated").sum().alias("estimated_dates"),
            pl.col("caveat").is_not_null().sum().alias("caveats"),
        )
    )
    return PricesStatus(
        tool_version=__version__,
        as_of=as_of,
        old_after_days=USABLE_DAYS,
        problems=problems,
        notes=notes,
        services=_services(book, by_service),
    )


def _services(book: PriceBook, held: pl.DataFrame) -> tuple[ServiceStatus, ...]:
    """Join what the book holds with what was read: a service whose rows were all refused shows too."""
    found = {(row["provider"], row["service"], row["origin"]): row for row in held.iter_rows(named=True)}
    services = [
        ServiceStatus.model_validate(
            {
                **_NOTHING_HELD,
                **found.get((intake.provider, intake.service, intake.origin), {}),
                "provider": intake.provider,
                "service": intake.service,
                "origin": intake.origin,
                "rows_read": intake.rows_read,
                "accepted": intake.accepted,
                "filtered": _reasons(intake.filtered),
                "quarantined": _reasons(intake.quarantined),
                "degraded": intake.degraded,
            }
        )
        for intake in book.intakes
    ]
    return tuple(sorted(services, key=lambda one: (one.provider, one.service, one.origin)))


def _reasons(tallies: Iterable[Tally]) -> tuple[ReasonCount, ...]:
    return tuple(ReasonCount(reason=tally.reason, rows=tally.rows) for tally in tallies)


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
