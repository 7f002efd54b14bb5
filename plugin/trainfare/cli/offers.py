"""`trainfare offers`: filter and print the price book, always with the date and the birth of each price."""

from __future__ import annotations

import csv
import enum
import io
import shutil
import sys
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Annotated

import typer

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
from trainfare_core.prices.listing import OfferRow, OffersReport, Query, Sort, matching, select

if TYPE_CHECKING:
    from rich.table import Table


__all__ = ["WIDE", "OutputFormat", "offers", "offers_csv", "offers_table", "output_width", "rendered"]


WIDE = 1000
"""Columns to print in away from a terminal: a table takes what it needs, and no name is folded."""


class OutputFormat(str, enum.Enum):
    """How the offers are written to standard output."""

    table = "table"
    json = "json"
    csv = "csv"


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
    from trainfare.prices.sources import age_warnings, load_prices

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
