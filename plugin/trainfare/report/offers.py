"""Price lists as tables and CSV: the answers of `trainfare offers` and `trainfare prices status`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from textwrap import wrap
from typing import Final

from trainfare.report.escape import csv_text, terminal_text
from trainfare.report.price_age import PriceDate, price_age
from trainfare.report.tables import UNLIMITED_WIDTH, table_text
from trainfare_core.clouds import SERVICES, pricing_service
from trainfare_core.number_format import percent
from trainfare_core.prices.explain import PriceExplanation, PriceReading
from trainfare_core.prices.facts import OfferRow
from trainfare_core.prices.listing import AcceleratorPrices, OffersReport
from trainfare_core.prices.status import PricesStatus, ServiceStatus

_COLUMNS = (
    *("USD/hour", "USD/acc.-hour", "machine", "zone", "accelerators", "GiB each", "purchase"),
    *("price date", "age", "source"),
)


def offers_csv(report: OffersReport) -> str:
    """Return the offers as CSV with a header; no cell is read as a formula by a spreadsheet."""
    names = OfferRow.model_fields
    return csv_text(names, ([getattr(offer, name) for name in names] for offer in report.offers))


_TYPE_PRICES: Final = ("on demand", "spot", "reserved")
_TYPE_COLUMNS: Final = ("accelerator", "GiB", *_TYPE_PRICES, "clouds", "cheapest region")
_TERMS: Final = {"reserved_1y": "1y", "reserved_3y": "3y", "savings_1y": "plan 1y", "savings_3y": "plan 3y"}


def accelerators_table(
    accelerators: Sequence[AcceleratorPrices], *, width: int = UNLIMITED_WIDTH, limit: int = 0
) -> str:
    """
    Return the lowest prices of each accelerator as a table.

    Args:
        accelerators: their prices, in the order of the rows.
        width: of the table, in columns.
        limit: rows to show; 0 shows all.
    """
    shown = accelerators[: limit or None]
    table = table_text(
        _TYPE_COLUMNS,
        map(_accelerator_cells, shown),
        right=("GiB", *_TYPE_PRICES),
        width=width,
        optional=("GiB", "clouds"),
        wrapped=("clouds", "reserved", "cheapest region"),
    )
    dates = [offer.observed_on for prices in accelerators for offer in prices.cheapest]
    head = "Lowest price of an accelerator, USD an hour; of a shared one as if it were rented whole"
    terms = (
        "Reserved prices have their term; plan: a savings plan, block: a capacity block, sold in whole days. The "
        "region is of the first cloud, which has the lowest price on demand, else of any."
    )
    count = (
        f"{len(shown)} of {len(accelerators)} accelerators; prices dated {min(dates)} to {max(dates)}; --machines "
        "lists every machine, with dates and sources"
    )
    lines = [*wrap(head, width), table, *wrap(terms, width), *wrap(count, width)]
    return "".join(f"{line}\n" for line in lines)


def _accelerator_cells(prices: AcceleratorPrices) -> tuple[str, ...]:
    first = prices.cheapest[0]
    cells: dict[str, str] = dict.fromkeys(_TYPE_PRICES, "")
    for offer in prices.cheapest:
        name = offer.purchase_option.replace("_", " ")
        kind = name if name in _TYPE_PRICES else "reserved"
        term = f" {_TERMS.get(offer.purchase_option, 'block')}" if kind == "reserved" else ""
        cells[kind] = cells[kind] or f"{offer.usd_per_accelerator_hour:,.2f}{term}"
    return (
        first.accelerator,
        f"{first.accelerator_memory_gib:g}",
        *cells.values(),
        ", ".join(prices.providers),
        first.region,
    )


def offers_table(report: OffersReport, *, as_of: date, width: int = UNLIMITED_WIDTH) -> str:
    """
    Return the offers as a table, with caveats as footnotes and the dates of the prices below.

    Args:
        report: the offers.
        as_of: the moment to count ages to.
        width: of the table, in columns.
    """
    caveats = list(dict.fromkeys(offer.caveat for offer in report.offers if offer.caveat))
    rows = (_format_cells(offer, caveats, as_of) for offer in report.offers)
    table = table_text(
        _COLUMNS,
        rows,
        right=("USD/hour", "USD/acc.-hour", "GiB each"),
        width=width,
        optional=("GiB each", "source", "zone", "USD/acc.-hour", "age", "price date", "accelerators"),
        wrapped=("source", "purchase", "price date", "age"),
    )
    lines = [table]
    lines += [f"[{number}] {terminal_text(caveat)}" for number, caveat in enumerate(caveats, start=1)]
    if any(offer.observed_on_estimated for offer in report.offers):
        lines.append("est.: the source gives no date; this one was inferred")
    lines.append(
        f"{report.shown} of {report.matched} matching offers shown; USD; prices dated {report.oldest} to "
        f"{report.newest}; `trainfare prices status` shows how old they are"
    )
    lines += [f"note: {terminal_text(note)}" for note in report.notes]
    return "\n".join(lines) + "\n"


def _format_cells(offer: OfferRow, caveats: list[str], as_of: date) -> tuple[str, ...]:
    price_date = PriceDate(offer.observed_on, offer.fetched_at, offer.purchase_option)
    interrupted = f", interrupted {offer.interruption_band}" if offer.interruption_band else ""
    return (
        f"{offer.usd_per_hour:,.4f}",
        f"{offer.usd_per_accelerator_hour:,.4f}",
        offer.machine,
        offer.zone or "",
        f"{offer.accelerator_count:g} x {offer.accelerator}",
        f"{offer.accelerator_memory_gib:g}",
        offer.purchase_option + interrupted,
        offer.observed_on
        + (" est." if offer.observed_on_estimated else "")
        + (f" [{caveats.index(offer.caveat) + 1}]" if offer.caveat else ""),
        price_age(price_date, as_of).text.removesuffix(" old"),
        f"{offer.origin}: {offer.source_class.replace('_', ' ')}",
    )


_WHY_COLUMNS = ("purchase", "zone", "USD/hour", "80 % now", "price date", "changed since", "source", "why")


def why_table(explanation: PriceExplanation, *, width: int = UNLIMITED_WIDTH) -> str:
    """Return every row read for a machine as a table, with what is known of rows that were not kept below it."""
    rows = (_why_cells(reading) for reading in explanation.readings)
    lines = [
        f"{terminal_text(explanation.machine)}, ages counted to {explanation.as_of:%Y-%m-%d}",
        table_text(_WHY_COLUMNS, rows, right=("USD/hour", "80 % now", "changed since"), width=width),
        (
            "80 % now: where the price is today with 80 % probability, by the age of the reading; changed since: the "
            "chance that it is another price by now"
        ),
    ]
    lines += [
        f"caveat: {terminal_text(text)}"
        for text in dict.fromkeys(reading.caveat for reading in explanation.readings if reading.caveat)
    ]
    lines += [f"not kept: {terminal_text(line)}" for line in explanation.not_kept]
    return "\n".join(lines) + "\n"


def _why_cells(reading: PriceReading) -> tuple[str, ...]:
    now, changed = reading.usd_per_hour_now, reading.chance_changed
    # The service that charges these prices beside the one that has them.
    where = (
        f" ({SERVICES[reading.service].label})" if pricing_service(reading.service) != reading.service else ""
    )
    age = "age unknown" if reading.age_days is None else f"{reading.age_days:.0f} days"
    return (
        reading.purchase_option + where,
        reading.zone or "",
        "no price" if reading.usd_per_hour is None else f"{reading.usd_per_hour:,.4f}",
        "" if now is None else f"{now.low_80:,.2f} to {now.high_80:,.2f}",
        f"{reading.observed_on}{' est.' if reading.observed_on_estimated else ''}, {age}",
        "" if changed is None else percent(changed),
        f"{reading.origin}: {reading.source_class.replace('_', ' ')}: {reading.source}",
        reading.because,
    )


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
