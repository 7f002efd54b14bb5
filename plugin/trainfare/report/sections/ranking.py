"""The ranking of machines as a table, and what is said beside it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Final

from trainfare.report.blocks import Block, Cell, Chart, Column, Heading, Line, Span, Table, Text, Where
from trainfare.report.charts.cost_time import cost_time_chart
from trainfare.report.headline import picks
from trainfare.report.price_age import STALE_MEANING
from trainfare.report.rows import RankingRow, ranking_row
from trainfare.report.sections.beside import texts_beside
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
    beside = texts_beside(recommendation, as_of)
    ranked = ranking_rows(recommendation, as_of)
    if not ranked:
        return [Text(text, where=Where.RUNNING) for text in beside]
    in_terminal, in_text = (best_rows(ranked, usual, rows) for usual in (_TERMINAL_ROWS, _TEXT_ROWS))

    def legend(shown: Sequence[RankingRow], elsewhere: str) -> str:
        more = len(ranked) - len(shown)
        rest = f" {more:,} more are in the {elsewhere}." if more else ""
        return f"{order_text(recommendation)}.{rest} {_LEGEND}"

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


def ranking_rows(recommendation: Recommendation, as_of: date) -> tuple[RankingRow, ...]:
    """Return every ranked option as a row, with its titles in the headline as its first marks."""
    titles: dict[int, tuple[str, ...]] = {}
    for title, option in picks(recommendation):
        words = title.removesuffix(" after porting").split(" and ")
        titles[option.rank] = (*titles.get(option.rank, ()), *(() if option.needs_porting else words))
    return tuple(ranking_row(option, as_of, titles.get(option.rank, ())) for option in recommendation.options)


def best_rows(rows: Sequence[RankingRow], usual: int, asked: int | None = None) -> list[RankingRow]:
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


def order_text(recommendation: Recommendation) -> str:
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


def _strong(value: tuple[str, str]) -> tuple[Span, Span]:
    """Return the median, and below it the interval."""
    return Span(value[0], "strong"), Span(f"[{value[1]}]", "range")


def _build_terminal_tables(rows: Sequence[RankingRow]) -> tuple[Table, Table]:
    """Return the ranking for a wide and for a narrow terminal."""
    wide: list[Sequence[Cell]] = []
    narrow: list[Sequence[Cell]] = []
    for row in rows:
        (usd, usd_range), (time, time_range) = _strong(row.run_usd), _strong(row.run_time)
        marks = tuple(part for mark in row.marks for part in (", ", Span(mark, "mark")))[1:]
        price = Span(f"{row.price_date}, {row.price_age}", "dim")
        where = (f"{row.cloud} {row.region}", f"{row.purchase}, {row.usd_per_hour}/h", price)
        chance: tuple[Line, ...] = (Span(f"within limits: {row.chance}", "dim"),) if row.chance else ()
        memory = (*_strong(row.memory), row.bound_by, Span(row.plan, "dim"))
        first = (row.rank, (Span(row.machine, "strong"), row.hardware, marks, ()), where)
        wide.append((*first, (usd, usd_range, *chance), (time, time_range), memory))
        narrow.append((*first, ((usd, " in ", time), usd_range, time_range, *chance)))
    columns = (
        Column("#", right=True, folds=False),
        *(Column("machine, accelerators"), Column("cloud, purchase, price")),
    )
    run = (Column("run $", right=True), Column("run time", right=True), Column("memory, bound by"))
    return (
        Table((*columns, *run), wide, where=Where.WIDE_TERMINAL),
        Table((*columns, Column("run $ and time", right=True)), narrow, where=Where.NARROW_TERMINAL),
    )


def _build_text_table(rows: Sequence[RankingRow], *, has_chance: bool) -> Table:
    columns = (
        Column("#", right=True),
        *map(Column, ("machine", "accelerators", "cloud", "region", "purchase")),
        *(Column(name, right=True) for name in ("run time", "run cost", "per hour")),
        *map(Column, ("memory", "bound by", "price date")),
        *([Column("within limits")] if has_chance else []),
        Column("marks"),
    )
    cells: list[list[Cell]] = [
        [
            *(row.rank, row.machine, row.hardware, row.cloud, row.region, row.purchase),
            *(_strong(row.run_time), _strong(row.run_usd), row.usd_per_hour, _strong(row.memory)),
            *(row.bound_by, f"{row.price_date}, {row.price_age}"),
            *([row.chance] if has_chance else []),
            ", ".join(row.marks),
        ]
        for row in rows
    ]
    return Table(columns, cells, where=Where.TEXT)


def _build_page_table(rows: Sequence[RankingRow], caption: str, *, has_chance: bool) -> Table:
    columns = (
        Column("#", right=True, label="rank"),
        *(Column("machine", names_row=True), Column("where")),
        *(Column(name, right=True) for name in ("run cost", "run time", "per hour")),
        *([Column("within limits", right=True)] if has_chance else []),
        *map(Column, ("memory", "bound by", "price date", "marks")),
    )
    cells: list[list[Cell]] = [
        [
            row.rank,
            (row.machine, row.hardware, row.plan),
            (row.cloud, row.region, row.purchase),
            *(_strong(row.run_usd), _strong(row.run_time), row.usd_per_hour),
            *([row.chance] if has_chance else []),
            (Span(row.memory[0], "exact"), Span(f"[{row.memory[1]}]", "range")),
            row.bound_by,
            (Span(row.price_date, "exact"), row.price_age),
            (tuple(Span(mark, "mark") for mark in row.marks),),
        ]
        for row in rows
    ]
    picked = frozenset(index for index, row in enumerate(rows) if row.in_headline)
    return Table(columns, cells, caption, picked, "ranking", Where.PAGE)
