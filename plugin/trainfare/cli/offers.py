"""`trainfare offers`: filter and print the price book, always with the date and the birth of each price."""

from __future__ import annotations

import csv
import enum
import io
import math
import shutil
import sys
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from pydantic import BaseModel, ConfigDict, Field

from trainfare import __version__
from trainfare.cli.market_options import Providers, Regions
from trainfare.cli.price_options import (
    AsOf,
    Lock,
    MaxPriceAge,
    OnStaleOption,
    OwnPricesOption,
    price_choice,
    warn,
)
from trainfare.report.escape import csv_cell, terminal_text
from trainfare_core.errors import InputError, NoOffersError

if TYPE_CHECKING:
    from rich.table import Table

    from trainfare_core.offers import Offer, PriceBook

__all__ = [
    "WIDE",
    "OfferRow",
    "OffersReport",
    "OutputFormat",
    "Query",
    "Sort",
    "offers",
    "offers_csv",
    "offers_table",
    "output_width",
    "rendered",
    "select",
]


WIDE = 1000
"""Columns to print in away from a terminal: a table takes what it needs, and no name is folded."""


class OutputFormat(str, enum.Enum):
    """How the offers are written to standard output."""

    table = "table"
    json = "json"
    csv = "csv"


class Sort(str, enum.Enum):
    """What the first offer is the best of."""

    price = "price"
    price_per_accelerator = "price-per-accelerator"
    memory = "memory"


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Query(_Model):
    """What was asked for, in the book's own names; None is 'any'."""

    providers: tuple[str, ...] | None = None
    services: tuple[str, ...] | None = None
    regions: tuple[str, ...] | None = None
    accelerators: tuple[str, ...] | None = None
    purchase: tuple[str, ...] | None = None
    max_usd_per_hour: float | None = None
    sort: Literal["price", "price-per-accelerator", "memory"] = "price"


class OfferRow(_Model):
    """One offer; prices in USD, memory in GiB, None is 'not known'."""

    machine: str
    provider: str
    service: str
    instance_type: str
    region: str
    zone: str | None
    accelerator: str
    accelerator_count: float
    accelerator_memory_gib: float
    vcpus: float | None
    memory_gib: float | None
    network_gbit_per_s: float | None
    purchase_option: str
    usd_per_hour: float
    usd_per_accelerator_hour: float
    observed_on: str
    observed_on_estimated: bool
    source: str
    source_class: str
    sku: str | None
    fetched_at: str | None
    origin: str
    caveat: str | None
    interruption_band: str | None = Field(
        description="spot: capacity taken back in the last month, by the cloud's own word; None: not known"
    )


class OffersReport(_Model):
    """The offers that match a query, best first."""

    schema_version: Literal[1] = 1
    tool_version: str
    query: Query
    matched: int
    shown: int
    oldest: str
    newest: str
    problems: tuple[str, ...] = Field(default=(), description="price sources that gave nothing")
    notes: tuple[str, ...] = Field(default=(), description="where the prices are from")
    offers: tuple[OfferRow, ...]

    def to_json(self) -> str:
        """JSON text; the same book and query give the same bytes."""
        return self.model_dump_json(indent=1) + "\n"


def offers(
    provider: Providers = None,
    region: Regions = None,
    accelerator: Annotated[
        list[str] | None, typer.Option(help="e.g. H100-SXM-80GB, or H100 for all kinds; may be repeated")
    ] = None,
    purchase: Annotated[
        list[str] | None, typer.Option(help="on_demand, spot, reserved_1y, ...; may be repeated")
    ] = None,
    service: Annotated[list[str] | None, typer.Option(help="e.g. sagemaker; may be repeated")] = None,
    max_usd_per_hour: Annotated[float | None, typer.Option(help="dearest machine, USD per hour")] = None,
    sort: Annotated[Sort, typer.Option(help="what comes first")] = Sort.price,
    limit: Annotated[int, typer.Option(min=0, help="offers to show; 0: all")] = 20,
    lock: Lock = None,
    own_prices: OwnPricesOption = None,
    max_price_age_days: MaxPriceAge = None,
    on_stale: OnStaleOption = None,
    as_of: AsOf = None,
    output: Annotated[OutputFormat, typer.Option("--format", help="table, json or csv")] = OutputFormat.table,
) -> None:
    """List machines and their prices, with the date and the source of each."""
    from trainfare.price_sources import age_warnings, load_prices

    choice = price_choice(
        lock=lock,
        own_prices=own_prices,
        # A list is no decision: live prices of any age may be read, with their age beside them.
        allow_stale=True,
        max_price_age_days=max_price_age_days,
        on_stale=on_stale,
        as_of=as_of,
    )
    loaded = load_prices(choice=choice)
    asked = Query(
        providers=_given(provider),
        services=_given(service),
        regions=_given(region),
        accelerators=_given(accelerator),
        purchase=_given(purchase),
        max_usd_per_hour=max_usd_per_hour,
        sort=sort.value,
    )
    report = select(loaded.book, asked, limit=limit, problems=loaded.problems, notes=loaded.notes)
    warn((*report.problems, *age_warnings(loaded, matching(loaded.book, report.query), choice)))
    if output is OutputFormat.json:
        sys.stdout.write(report.to_json())
    elif output is OutputFormat.csv:
        sys.stdout.write(offers_csv(report))
    else:
        sys.stdout.write(offers_table(report, as_of=loaded.as_of, width=output_width()))


def _given(names: list[str] | None) -> tuple[str, ...] | None:
    return tuple(names) if names else None


def select(
    book: PriceBook,
    asked: Query,
    *,
    limit: int = 20,
    problems: tuple[str, ...] = (),
    notes: tuple[str, ...] = (),
) -> OffersReport:
    """
    Return the offers of a book that match, best first.

    Args:
        book: all prices.
        asked: names as a person types them; the report has them as the book spells them.
        limit: rows to return; 0 returns all.
        problems: price sources that gave nothing.
        notes: where the prices are from.

    Raises:
        UnknownNameError: a name that the book does not have.
        InputError: the price limit is not a number above 0.
        NoOffersError: all names are known and nothing matches.
    """
    limit_usd = asked.max_usd_per_hour
    if limit_usd is not None and not (math.isfinite(limit_usd) and limit_usd > 0):
        raise InputError(f"--max-usd-per-hour {limit_usd}: give a number above 0")
    query = Query(
        providers=book.resolve("provider", asked.providers),
        services=book.resolve("service", asked.services),
        regions=book.resolve("region", asked.regions),
        accelerators=book.resolve("accelerator", asked.accelerators),
        purchase=book.resolve("purchase_option", asked.purchase),
        max_usd_per_hour=limit_usd,
        sort=asked.sort,
    )
    found = matching(book, query)
    if not len(found):
        raise NoOffersError(f"none of {len(book)} known prices matches {_words(query)}; drop a filter")
    best = found.sorted_by(query.sort)
    rows = tuple(_row(offer) for offer in (best.head(limit) if limit else best).offers())
    dates = [(facts.oldest, facts.newest) for facts in found.facts()]
    return OffersReport(
        tool_version=__version__,
        query=query,
        matched=len(found),
        shown=len(rows),
        oldest=min(oldest for oldest, _ in dates),
        newest=max(newest for _, newest in dates),
        problems=problems,
        notes=notes,
        offers=rows,
    )


def matching(book: PriceBook, query: Query) -> PriceBook:
    """Return the offers that match a query whose names are the book's own."""
    return book.filter(
        providers=query.providers,
        services=query.services,
        regions=query.regions,
        accelerators=query.accelerators,
        purchase=query.purchase,
        max_usd_per_hour=query.max_usd_per_hour,
    )


def _words(query: Query) -> str:
    parts = {
        "provider": query.providers,
        "service": query.services,
        "region": query.regions,
        "accelerator": query.accelerators,
        "purchase option": query.purchase,
    }
    words = [f"{name} {' or '.join(values)}" for name, values in parts.items() if values]
    if query.max_usd_per_hour is not None:
        words.append(f"at most {query.max_usd_per_hour:g} USD per hour")
    return ", ".join(words) or "an empty price book"


def _row(offer: Offer) -> OfferRow:
    fields = {name: getattr(offer, name) for name in OfferRow.model_fields}
    return OfferRow.model_validate(fields)


def offers_csv(report: OffersReport) -> str:
    """Return the offers as CSV with a header; no cell is a formula."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(OfferRow.model_fields)
    for offer in report.offers:
        cells = (getattr(offer, name) for name in OfferRow.model_fields)
        writer.writerow([csv_cell(cell) if isinstance(cell, str) else cell for cell in cells])
    return text.getvalue()


@dataclass(slots=True)
class _Footnotes:
    """Caveats in order of appearance, each with the mark that stands in the table."""

    texts: list[str]

    def mark(self, caveat: str | None) -> str:
        if caveat is None:
            return ""
        if caveat not in self.texts:
            self.texts.append(caveat)
        return f" [{self.texts.index(caveat) + 1}]"


def offers_table(report: OffersReport, *, as_of: date, width: int = WIDE) -> str:
    """
    Return the offers as a table of so many columns, with caveats as footnotes and the dates below.

    Args:
        report: the offers.
        as_of: the moment to count ages to.
        width: columns.
    """
    notes = _Footnotes([])
    lines = [rendered(_table(report, notes, as_of), width=width)]
    lines += [f"[{number}] {terminal_text(text)}" for number, text in enumerate(notes.texts, start=1)]
    if any(offer.observed_on_estimated for offer in report.offers):
        lines.append("est.: the source has no date, this one was inferred")
    lines.append(
        f"{report.shown} of {report.matched} offers match; USD; prices of {report.oldest} to {report.newest}"
        "; `trainfare prices status` says how old they are"
    )
    lines += [f"note: {terminal_text(note)}" for note in report.notes]
    return "\n".join(lines) + "\n"


def rendered(table: Table, *, width: int) -> str:
    """Return a rich table as plain text with no blanks at the ends of its lines."""
    from rich.console import Console

    text = io.StringIO()
    Console(file=text, width=width, highlight=False, color_system=None).print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines() if line.strip())


def output_width() -> int:
    """Return the columns to print in: the terminal's, or `WIDE`."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else WIDE


def _table(report: OffersReport, notes: _Footnotes, as_of: date) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from trainfare.report.price_age import PriceBirth, price_age

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("USD/hour", "USD/acc.-hour"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("machine", "zone", "accelerators", "GiB each", "purchase", "price of", "age", "source"):
        table.add_column(name, justify="right" if name == "GiB each" else "left", overflow="fold")
    for offer in report.offers:
        birth = PriceBirth(offer.observed_on, offer.fetched_at, offer.purchase_option)
        seen = offer.observed_on + (" est." if offer.observed_on_estimated else "")
        cells = (
            f"{offer.usd_per_hour:,.4f}",
            f"{offer.usd_per_accelerator_hour:,.4f}",
            offer.machine,
            offer.zone or "",
            f"{offer.accelerator_count:g} x {offer.accelerator}",
            f"{offer.accelerator_memory_gib:g}",
            offer.purchase_option
            + (f", interrupted {offer.interruption_band}" if offer.interruption_band else ""),
            seen + notes.mark(offer.caveat),
            price_age(birth, as_of).text.removesuffix(" old"),
            f"{offer.origin}: {offer.source_class.replace('_', ' ')}",
        )
        table.add_row(*(Text(terminal_text(cell)) for cell in cells))
    return table
