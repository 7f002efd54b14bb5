"""The report of a strategy answer, built once as blocks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from typing import Final

from trainfare.report.blocks import (
    Block,
    Cell,
    Chart,
    Column,
    Heading,
    Line,
    Span,
    Table,
    Text,
    Tone,
    Where,
    build_list,
)
from trainfare.report.facts import BookLine, book_line
from trainfare.report.strategy.chart import strategy_chart
from trainfare.report.strategy.rows import StrategyRow, left_out_texts, pilot_texts, strategy_rows, use_labels
from trainfare_core.methods.answer import MethodsAnswer
from trainfare_core.methods.methods import METHODS

_TONES: Final[dict[str, Tone]] = {"train": "good answer", "pilot": "doubtful answer", "none": "no answer"}


def build_strategy_report(answer: MethodsAnswer, as_of: date) -> list[Block]:
    """
    Return the whole report.

    Args:
        answer: the answer.
        as_of: the day of the report, against which the prices' age is counted.
    """
    rows = strategy_rows(answer)
    return [
        Heading(("How to train ", answer.name), level=1, where=Where.TITLED),
        Text(use_labels(answer.sentence), _TONES[answer.kind]),
        *(_build_strategies_section(answer, rows) if rows else []),
        *(block for row in rows if row.picked for block in _build_details(row)),
        *_list("Left out", left_out_texts(answer)),
        *_list("What may change this answer", map(use_labels, answer.doubts)),
        *_list("A pilot", pilot_texts(answer)),
        *_list("Assumed", map(use_labels, answer.assumptions)),
        *_list("Prices", (_book(book_line(book, as_of)) for book in answer.price_books)),
    ]


def _list(title: str, items: Iterable[str], where: Where = Where.EVERYWHERE) -> list[Block]:
    return build_list(title, items, where, hanging=False)


def _build_strategies_section(answer: MethodsAnswer, rows: Sequence[StrategyRow]) -> list[Block]:
    reference = "" if answer.reference is None else METHODS[answer.reference].label
    has_within = any(row.within for row in rows)
    picked = frozenset(index for index, row in enumerate(rows) if row.picked)
    return [
        Heading("Strategies", where=Where.PAGE),
        _page_table(rows, reference, picked, has_within=has_within),
        _short_table(rows, reference, picked, has_within=has_within),
        Heading("Cost against quality", where=Where.PAGE),
        _chart(answer, reference),
    ]


def _chart(answer: MethodsAnswer, reference: str) -> Block:
    drawn = [line for line in answer.lines if line.usd is not None and line.quality is not None]
    if not drawn:
        return Text("The quality that the strategies reach here is unknown.", "dim", Where.PAGE)
    return Chart(lambda: strategy_chart(drawn, against=reference), "Cost against quality")


def _short_table(
    rows: Sequence[StrategyRow], reference: str, picked: frozenset[int], *, has_within: bool
) -> Table:
    """Return the strategies in the width of a terminal."""
    names = ("strategy", "cost to target", "time", "expected", "reaches", "cheapest")
    columns = (
        *(Column(name, folds=False) for name in names),
        *([Column("within")] if has_within else []),
        Column(f"against {reference}" if reference else "quality"),
        Column("machine"),
    )
    cells: tuple[tuple[Cell, ...], ...] = tuple(
        (
            *(row.name, _interval(row.cost), _interval(row.time), row.expected, row.reach, row.cheapest),
            *([row.within] if has_within else []),
            row.quality,
            (row.machine, row.hardware),
        )
        for row in rows
    )
    return Table(columns, cells, picked=picked, where=Where.RUNNING)


def _page_table(
    rows: Sequence[StrategyRow], reference: str, picked: frozenset[int], *, has_within: bool
) -> Table:
    columns = (
        Column("strategy", names_row=True),
        *(Column("cost to target", right=True), Column("time", right=True), Column("expected")),
        *(Column("reaches", right=True), Column("cheapest", right=True)),
        *([Column("within limits", right=True)] if has_within else []),
        Column(f"quality against {reference}", label="quality"),
        *(Column("machine"), Column("settings")),
    )
    cells: tuple[tuple[Cell, ...], ...] = tuple(
        (
            (row.name, f"{row.trained} trained"),
            *(_interval(row.cost), _interval(row.time), row.expected, row.reach, row.cheapest),
            *([row.within] if has_within else []),
            (row.quality, row.evidence),
            (row.machine, row.hardware, row.place, row.work),
            ("; ".join(row.knobs), row.samples),
        )
        for row in rows
    )
    caption = (
        'Best first. Brackets contain the central 80 %. "Expected" adds the cost of falling back where the target is '
        "missed."
    )
    return Table(columns, cells, caption, picked, "strategies", Where.PAGE)


def _interval(value: tuple[str, str]) -> tuple[Line, ...]:
    return value[0], Span(f"[{value[1]}]", "range")


def _build_details(row: StrategyRow) -> list[Block]:
    """Return what is known of the strategy that was picked."""
    lines = (
        f"{row.machine}: {row.hardware}, {row.place}",
        f"trains {row.trained} parameters, {row.work}",
        row.samples,
        f"settings, in this order: {'; '.join(row.knobs)}",
        row.evidence,
        *row.notes,
    )
    return _list(row.name[:1].upper() + row.name[1:], lines, Where.RUNNING)


def _book(book: BookLine) -> str:
    return f"{book.cloud}: {book.rows} prices of {book.dates}, {book.age}{', STALE' if book.stale else ''}"
