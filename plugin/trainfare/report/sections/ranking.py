"""The ranking of machines as a table, and what is said beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from typing import Final, TypeAlias

from trainfare.report.block_builders import build_table
from trainfare.report.blocks import Block, Cell, Chart, Column, Heading, Line, Span, Table, Text, Where
from trainfare.report.charts.cost_time import cost_time_chart
from trainfare.report.headline import picks
from trainfare.report.price_age import STALE_MEANING
from trainfare.report.rows import RankingRow, ranking_row
from trainfare.report.sections.beside import write_texts_beside
from trainfare_core.recommendation import Recommendation

_TERMINAL_ROWS: Final = 10
"""Rows of the ranking in a terminal: about one screen, at four lines each."""

_TEXT_ROWS: Final = 20
"""Rows of the ranking in Markdown; more would make a pull-request comment hard to scroll past. The JSON has all."""

_LEGEND: Final = (
    "Brackets: 80 % interval. On front: no machine that runs the script unchanged is as good in mean cost, in the "
    "time of nine in ten runs and in the chance to keep the limits, and better in one. Needs porting: another "
    f"backend, runtime or CPU architecture than the script's. {STALE_MEANING}"
)


def build_ranking_section(
    recommendation: Recommendation, as_of: date, *, rows: int | None = None
) -> list[Block]:
    """
    Return the ranking: whole in a page, its first rows elsewhere.

    Args:
        recommendation: the ranked answer.
        as_of: the day of the report, to which the ages of prices are counted.
        rows: exactly so many in a terminal and in Markdown; None: the usual ones, and those of the headline.
    """
    beside = write_texts_beside(recommendation, as_of)
    ranked = build_ranking_rows(recommendation, as_of)
    if not ranked:
        return [Text(text, where=Where.RUNNING) for text in beside]
    in_terminal, in_text = (select_rows(ranked, usual, rows) for usual in (_TERMINAL_ROWS, _TEXT_ROWS))

    def legend(shown: Sequence[RankingRow], elsewhere: str) -> str:
        more = len(ranked) - len(shown)
        rest = f" {more:,} more are in the {elsewhere}." if more else ""
        return f"{describe_order(recommendation)}.{rest} {_LEGEND}"

    terminal_legend = legend(in_terminal, "HTML page and the JSON output")
    narrow_note = " Memory and the step's bottleneck are shown from 100 columns on."
    has_chance = any(option.probability_within is not None for option in recommendation.options)
    return [
        Heading("Ranked machines", where=Where.PAGE),
        _build_page_table(ranked, legend(ranked, ""), has_chance=has_chance),
        *_build_terminal_tables(in_terminal),
        Text(terminal_legend, "dim", Where.WIDE_TERMINAL),
        Text(terminal_legend + narrow_note, "dim", Where.NARROW_TERMINAL),
        _build_text_table(in_text, has_chance=has_chance),
        Text(legend(in_text, "JSON output"), where=Where.TEXT),
        *map(Text, beside),
        *_build_chart(recommendation),
    ]


def build_ranking_rows(recommendation: Recommendation, as_of: date) -> tuple[RankingRow, ...]:
    """Return every ranked option as a row, with its titles in the headline as its first marks."""
    titles: dict[int, tuple[str, ...]] = {}
    for title, option in picks(recommendation):
        words = title.removesuffix(" after porting").split(" and ")
        titles[option.rank] = (*titles.get(option.rank, ()), *(() if option.needs_porting else words))
    return tuple(ranking_row(option, as_of, titles.get(option.rank, ())) for option in recommendation.options)


def select_rows(rows: Sequence[RankingRow], usual: int, asked: int | None = None) -> list[RankingRow]:
    """
    Return the first rows of the ranking.

    Args:
        rows: all of them.
        usual: rows where none were asked for; the options of the headline that rank below them are added.
        asked: exactly so many rows.
    """
    if asked is not None:
        return list(rows[:asked])
    return [row for index, row in enumerate(rows) if index < usual or row.in_headline]


def describe_order(recommendation: Recommendation) -> str:
    """Return how many options are listed of how many, and in what order."""
    shown, total = len(recommendation.options), recommendation.options_total
    by = f"{recommendation.objective.replace('_', ' ')} first"
    return (
        f"{shown:,} of {total:,} feasible options, {by}"
        if total > shown
        else f"{shown:,} option{'' if shown == 1 else 's'}, {by}"
    )


def _build_chart(recommendation: Recommendation) -> list[Block]:
    named = frozenset(option.rank for _, option in picks(recommendation))
    per_1000_steps = recommendation.basis == "per_1000_steps"
    title = "Cost against time"
    caption = (
        "Lower left is better. Bars are 80 % intervals. The dashed line is the Pareto front: no other machine that "
        "runs the script unchanged is both cheaper and faster."
    )

    def draw() -> str:
        return cost_time_chart(recommendation.options, named=named, per_1000_steps=per_1000_steps)

    return [Heading(title, where=Where.PAGE), Chart(draw, title, caption)]


def _stack_interval(value: tuple[str, str]) -> tuple[Span, Span]:
    """Return the median, and below it the interval."""
    return Span(value[0], "strong"), Span(f"[{value[1]}]", "range")


def _stack_machine(row: RankingRow) -> Cell:
    marks = tuple(part for mark in row.marks for part in (", ", Span(mark, "mark")))[1:]
    return Span(row.machine, "strong"), row.hardware, marks, ()


def _stack_price(row: RankingRow) -> Cell:
    price = Span(f"{row.price_date}, {row.price_age}", "dim")
    return f"{row.cloud} {row.region}", f"{row.purchase}, {row.usd_per_hour}/h", price


def _list_chance(row: RankingRow) -> tuple[Line, ...]:
    return (Span(f"within limits: {row.chance}", "dim"),) if row.chance else ()


def _stack_both(row: RankingRow) -> Cell:
    (usd, usd_range), (time, time_range) = _stack_interval(row.run_usd), _stack_interval(row.run_time)
    return (usd, " in ", time), usd_range, time_range, *_list_chance(row)


_Field: TypeAlias = tuple[Column, Callable[[RankingRow], Cell]] | None

_FIRST_FIELDS: Final[tuple[_Field, ...]] = (
    (Column("#", right=True, folds=False), lambda row: row.rank),
    (Column("machine, accelerators"), _stack_machine),
    (Column("cloud, purchase, price"), _stack_price),
)


def _build_terminal_tables(rows: Sequence[RankingRow]) -> tuple[Table, Table]:
    """Return the ranking for a wide and for a narrow terminal."""
    wide: tuple[_Field, ...] = (
        *_FIRST_FIELDS,
        (Column("run $", right=True), lambda row: (*_stack_interval(row.run_usd), *_list_chance(row))),
        (Column("run time", right=True), lambda row: _stack_interval(row.run_time)),
        (
            Column("memory, bound by"),
            lambda row: (*_stack_interval(row.memory), row.bound_by, Span(row.plan, "dim")),
        ),
    )
    narrow: tuple[_Field, ...] = (*_FIRST_FIELDS, (Column("run $ and time", right=True), _stack_both))
    return (
        build_table(rows, wide, where=Where.WIDE_TERMINAL),
        build_table(rows, narrow, where=Where.NARROW_TERMINAL),
    )


def _build_text_table(rows: Sequence[RankingRow], *, has_chance: bool) -> Table:
    fields: tuple[_Field, ...] = (
        (Column("#", right=True), lambda row: row.rank),
        (Column("machine"), lambda row: row.machine),
        (Column("accelerators"), lambda row: row.hardware),
        (Column("cloud"), lambda row: row.cloud),
        (Column("region"), lambda row: row.region),
        (Column("purchase"), lambda row: row.purchase),
        (Column("run time", right=True), lambda row: _stack_interval(row.run_time)),
        (Column("run cost", right=True), lambda row: _stack_interval(row.run_usd)),
        (Column("per hour", right=True), lambda row: row.usd_per_hour),
        (Column("memory"), lambda row: _stack_interval(row.memory)),
        (Column("bound by"), lambda row: row.bound_by),
        (Column("price date"), lambda row: f"{row.price_date}, {row.price_age}"),
        (Column("within limits"), lambda row: row.chance) if has_chance else None,
        (Column("marks"), lambda row: ", ".join(row.marks)),
    )
    return build_table(rows, fields, where=Where.TEXT)


def _build_page_table(rows: Sequence[RankingRow], caption: str, *, has_chance: bool) -> Table:
    fields: tuple[_Field, ...] = (
        (Column("#", right=True, label="rank"), lambda row: row.rank),
        (Column("machine", names_row=True), lambda row: (row.machine, row.hardware, row.plan)),
        (Column("where"), lambda row: (row.cloud, row.region, row.purchase)),
        (Column("run cost", right=True), lambda row: _stack_interval(row.run_usd)),
        (Column("run time", right=True), lambda row: _stack_interval(row.run_time)),
        (Column("per hour", right=True), lambda row: row.usd_per_hour),
        (Column("within limits", right=True), lambda row: row.chance) if has_chance else None,
        (Column("memory"), lambda row: (Span(row.memory[0], "exact"), _stack_interval(row.memory)[1])),
        (Column("bound by"), lambda row: row.bound_by),
        (Column("price date"), lambda row: (Span(row.price_date, "exact"), row.price_age)),
        (Column("marks"), lambda row: (tuple(Span(mark, "mark") for mark in row.marks),)),
    )
    return build_table(
        rows,
        fields,
        caption=caption,
        picked=lambda row: row.in_headline,
        key="ranking",
        where=Where.PAGE,
    )
