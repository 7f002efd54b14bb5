"""Why machines are not ranked, and what the answer rests on: assumptions, price books and the profile."""

from __future__ import annotations

from datetime import date

from trainfare.report.block_builders import build_list
from trainfare.report.blocks import Block, Cell, Column, Heading, Span, Table, Where
from trainfare.report.facts import BookLine, book_line
from trainfare.report.wording import usd
from trainfare_core.number_format import percent
from trainfare_core.ranking.options.rejections import REASON_WORDS
from trainfare_core.recommendation import AssumedNumber, Recommendation


def build_rejections_section(recommendation: Recommendation) -> list[Block]:
    """Return each reason why machines are not ranked, how many types and prices it has, and the nearest miss."""
    if not recommendation.rejections:
        return []
    rows = tuple(
        (
            REASON_WORDS[rejection.reason],
            "unknown" if rejection.machines is None else f"{rejection.machines:,}",
            f"{rejection.count:,}",
            rejection.detail,
        )
        for rejection in recommendation.rejections
    )
    columns = (
        Column("why", names_row=True),
        *(Column("machine types", right=True), Column("prices", right=True), Column("nearest miss")),
    )
    caption = (
        "Machine types none of whose prices is ranked, each under the first of its reasons, and all prices that are "
        "not, with the nearest miss."
    )
    return [Heading("Not ranked"), Table(columns, rows, caption)]


def build_assumptions_section(recommendation: Recommendation) -> list[Block]:
    """Return the figures that the cost of the first option of the headline rests on, and the assumptions."""
    return build_list("Assumptions", (*_describe_numbers(recommendation), *recommendation.assumptions))


def build_prices_section(recommendation: Recommendation, as_of: date) -> list[Block]:
    """
    Return where the prices come from, a row for each cloud service.

    Args:
        recommendation: the ranked answer.
        as_of: the day of the report, to which ages are counted.
    """
    books = [book_line(book, as_of) for book in recommendation.price_books]
    if not books:
        return []
    columns = (
        *(Column("cloud", names_row=True), Column("price book"), Column("prices", right=True)),
        *(Column("dates"), Column("age")),
    )
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (book.cloud, book.origin, book.rows, book.dates, _mark_age(book)) for book in books
    )
    caption = "One row for each cloud service. Ages are counted to the day of this report."
    texts = [f"{book.cloud} ({book.origin}): {book.rows} prices, {book.dates}, {book.age}" for book in books]
    return [
        Heading("Where the prices come from", where=Where.PAGE),
        Table(columns, rows, caption, where=Where.PAGE),
        *build_list("Prices", texts, Where.RUNNING),
    ]


def _mark_age(book: BookLine) -> Cell:
    return ((book.age, *((" ", Span("stale", "mark")) if book.stale else ())),)


def _describe_numbers(recommendation: Recommendation) -> list[str]:
    """Return the figures that the cost of the first option of the headline rests on, largest share first."""
    best = recommendation.best(recommendation.objective)
    if best is None:
        return []
    return [
        f"{_name_value(number)}: {percent(number.share)} of the cost of "
        f"#{best.rank} ({usd(number.run_usd)}). {number.meaning[:1].upper()}{number.meaning[1:]}"
        + ("" if number.stated or number.source is None else f". Source: {number.source}")
        for number in sorted(recommendation.assumed_numbers, key=lambda each: -each.share)
    ]


def _name_value(number: AssumedNumber) -> str:
    """Return the name and the value of a figure, e.g. "startup_s = 90, as stated"."""
    if number.value is None:
        return f"{number.name} is not known"
    return f"{number.name} = {number.value:.6g}{', as stated' if number.stated else ''}"
