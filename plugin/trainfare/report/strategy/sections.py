"""The report of a strategy answer, built once as blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import date
from typing import Final, TypeAlias

from trainfare.report.block_builders import build_bars, build_list, build_table
from trainfare.report.blocks import Bars, Block, Cell, Column, Heading, Line, Span, Table, Text, Tone, Where
from trainfare.report.facts import BookLine, book_line
from trainfare.report.strategy.rows import (
    StrategyRow,
    build_strategy_rows,
    describe_pilot,
    explain_left_out,
    use_labels,
)
from trainfare.report.wording import usd
from trainfare_core.methods.answer import MethodsAnswer
from trainfare_core.methods.methods import METHODS

_Field: TypeAlias = tuple[Column, Callable[[StrategyRow], Cell]] | None
_TONES: Final[dict[str, Tone]] = {"train": "good answer", "pilot": "doubtful answer", "none": "no answer"}


def build_strategy_report(answer: MethodsAnswer, as_of: date) -> list[Block]:
    """
    Return the whole report.

    Args:
        answer: the answer.
        as_of: the day of the report, against which the prices' age is counted.
    """
    rows = build_strategy_rows(answer)
    return [
        Heading(("How to train ", answer.name), level=1, where=Where.TITLED),
        Text(use_labels(answer.sentence), _TONES[answer.kind]),
        *(_build_strategies_section(answer, rows) if rows else []),
        *(block for row in rows if row.picked for block in _build_details(row)),
        *_build_list("Left out", explain_left_out(answer)),
        *_build_list("What may change this answer", map(use_labels, answer.doubts)),
        *_build_list("A pilot", describe_pilot(answer)),
        *_build_list("Assumed", map(use_labels, answer.assumptions)),
        *_build_list("Prices", (_describe_book(book_line(book, as_of)) for book in answer.price_books)),
    ]


def _build_list(title: str, items: Iterable[str], where: Where = Where.EVERYWHERE) -> list[Block]:
    return build_list(title, items, where, hanging=False)


def _build_strategies_section(answer: MethodsAnswer, rows: Sequence[StrategyRow]) -> list[Block]:
    reference = "" if answer.reference is None else METHODS[answer.reference].label
    return [
        Heading("Strategies", where=Where.PAGE),
        _build_bars(answer),
        *_build_tables(rows, reference),
    ]


def _build_bars(answer: MethodsAnswer) -> Bars:
    costs = [
        (METHODS[line.strategy].label, (line.usd.mid,), usd(line.usd.mid))
        for line in answer.lines
        if line.usd is not None
    ]
    whole = max(usd for _, (usd,), _ in costs) or None
    return build_bars("Cost to the target", ("median cost to the target",), costs, whole=whole)


def _build_tables(rows: Sequence[StrategyRow], reference: str) -> tuple[Table, Table]:
    """Return the strategies for a page, and in the width of a terminal."""
    has_within = any(row.within for row in rows)
    in_page: tuple[_Field, ...] = (
        (Column("strategy", names_row=True), lambda row: (row.name, f"{row.trained} trained")),
        (Column("cost to target", right=True), lambda row: _stack_interval(row.cost)),
        (Column("time", right=True), lambda row: _stack_interval(row.time)),
        (Column("expected"), lambda row: row.expected),
        (Column("reaches", right=True), lambda row: row.reach),
        (Column("cheapest", right=True), lambda row: row.cheapest),
        (Column("within limits", right=True), lambda row: row.within) if has_within else None,
        (Column(f"quality against {reference}", label="quality"), lambda row: (row.quality, row.evidence)),
        (Column("machine"), lambda row: (row.machine, row.hardware, row.place, row.work)),
        (Column("settings"), lambda row: ("; ".join(row.knobs), row.samples)),
    )
    short: tuple[_Field, ...] = (
        (Column("strategy", folds=False), lambda row: row.name),
        (Column("cost to target", folds=False), lambda row: _stack_interval(row.cost)),
        (Column("time", folds=False), lambda row: _stack_interval(row.time)),
        (Column("expected", folds=False), lambda row: row.expected),
        (Column("reaches", folds=False), lambda row: row.reach),
        (Column("cheapest", folds=False), lambda row: row.cheapest),
        (Column("within"), lambda row: row.within) if has_within else None,
        (Column(f"against {reference}" if reference else "quality"), lambda row: row.quality),
        (Column("machine"), lambda row: (row.machine, row.hardware)),
    )
    caption = (
        'Best first. Brackets contain the central 80 %. "Expected" adds the cost of falling back where the target is '
        "missed."
    )
    return (
        build_table(rows, in_page, caption=caption, picked=_is_picked, key="strategies", where=Where.PAGE),
        build_table(rows, short, picked=_is_picked, where=Where.RUNNING),
    )


def _is_picked(row: StrategyRow) -> bool:
    return row.picked


def _stack_interval(value: tuple[str, str]) -> tuple[Line, ...]:
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
    return _build_list(row.name[:1].upper() + row.name[1:], lines, Where.RUNNING)


def _describe_book(book: BookLine) -> str:
    return f"{book.cloud}: {book.rows} prices of {book.dates}, {book.age}{', STALE' if book.stale else ''}"
