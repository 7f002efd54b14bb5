"""The ranking of machines as a table, and what is said beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date
from typing import Final, TypeAlias

from trainfare.report.block_builders import build_table
from trainfare.report.blocks import Block, Cell, Chart, Column, Heading, Line, Span, Table, Text, Where
from trainfare.report.charts.cost_time import cost_time_chart
from trainfare.report.headline import picks
from trainfare.report.price_age import STALE_MEANING, price_age, price_date_of
from trainfare.report.rows import STALE, RankingRow, marks, plan_label
from trainfare.report.sections.beside import write_texts_beside
from trainfare.report.wording import (
    bound_label,
    chance_text,
    cloud_label,
    hardware_label,
    interval,
    machine_label,
    place_label,
    purchase_label,
    usd,
)
from trainfare_core.job_profile import JobProfile
from trainfare_core.recommendation import Interval, Option, Recommendation

_TERMINAL_ROWS: Final = 10
"""Rows of the ranking in a terminal: about one screen, at four lines each."""

_TEXT_ROWS: Final = 20
"""Rows of the ranking in Markdown; more would make a pull-request comment hard to scroll past. The JSON has all."""

_PAGE_ROWS: Final = 200
"""Options of a page, besides those of the headline: more make it larger than 2 MB and no clearer. The JSON has all."""

_KEY: Final = "ranking"
"""Of the table and its chart in a page."""

_LEGEND: Final = (
    "Brackets: 80 % interval. On front: no machine that runs the script unchanged is as good in mean cost, in the "
    "time of nine in ten runs and in the chance to keep the limits, and better in one. Needs porting: another "
    "backend, runtime or CPU architecture than the script's. A guess: too little such work was measured in its "
    f"vendor's software. {STALE_MEANING}"
)


def build_ranking_section(
    recommendation: Recommendation, profile: JobProfile | None, as_of: date, *, rows: int | None = None
) -> list[Block]:
    """
    Return the ranking: whole in a page, its first rows elsewhere.

    Args:
        recommendation: the ranked answer.
        profile: of the job, if available: says how often checkpoints are written.
        as_of: the day of the report, to which the ages of prices are counted.
        rows: exactly so many in a terminal and in Markdown; None: the usual ones, and those of the headline.
    """
    beside = write_texts_beside(recommendation, profile)
    ranked = build_ranking_rows(recommendation, as_of)
    if not ranked:
        return [Text(text, where=Where.RUNNING) for text in beside]
    in_terminal, in_text = (select_rows(ranked, usual, rows) for usual in (_TERMINAL_ROWS, _TEXT_ROWS))
    in_page = select_rows(ranked, _PAGE_ROWS)

    def legend(shown: Sequence[RankingRow], elsewhere: str) -> str:
        more = len(ranked) - len(shown)
        rest = f" {more:,} more are in the {elsewhere}." if more else ""
        return f"{describe_order(recommendation)}.{rest} {_LEGEND}"

    terminal_legend = legend(in_terminal, "HTML page and the JSON output")
    narrow_note = " Memory and the step's bottleneck are shown from 100 columns on."
    return [
        *_build_chart(recommendation, [row.option for row in in_page]),
        Heading("Ranked machines", where=Where.PAGE),
        *_build_tables(in_page, in_terminal, in_text, legend(in_page, "JSON output")),
        Text(terminal_legend, "dim", Where.WIDE_TERMINAL),
        Text(terminal_legend + narrow_note, "dim", Where.NARROW_TERMINAL),
        Text(legend(in_text, "JSON output"), where=Where.TEXT),
        *map(Text, beside),
    ]


def build_ranking_rows(recommendation: Recommendation, as_of: date) -> tuple[RankingRow, ...]:
    """Return every ranked option as a row, with its titles in the headline as its first marks."""
    titles: dict[int, tuple[str, ...]] = {}
    for title, option in picks(recommendation):
        words = title.removesuffix(" after porting").split(" and ")
        titles[option.rank] = (*titles.get(option.rank, ()), *(() if option.needs_porting else words))
    marks_of = [marks(option, as_of) for option in recommendation.options]
    # What every row says tells none from another; the legend says it once.
    shared = {STALE} if len(marks_of) > 1 and all(STALE in found for found in marks_of) else set[str]()
    rows: list[RankingRow] = []
    for option, found in zip(recommendation.options, marks_of, strict=True):
        named = titles.get(option.rank, ())
        own = tuple(mark for mark in found if mark not in shared)
        rows.append(RankingRow(option, named, (*named, *own), price_age(price_date_of(option), as_of).text))
    return tuple(rows)


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
    return [row for index, row in enumerate(rows) if index < usual or bool(row.titles)]


def describe_order(recommendation: Recommendation) -> str:
    """Return how many options are listed of how many, and in what order."""
    shown, total = len(recommendation.options), recommendation.options_total
    by = f"{recommendation.objective.replace('_', ' ')} first"
    return (
        f"{shown:,} of {total:,} feasible options, {by}"
        if total > shown
        else f"{shown:,} option{'' if shown == 1 else 's'}, {by}"
    )


def list_page_options(recommendation: Recommendation) -> list[Option]:
    """Return the options that a page has: the best, and those of the headline."""
    named = {option.rank for _, option in picks(recommendation)}
    options = enumerate(recommendation.options)
    return [option for index, option in options if index < _PAGE_ROWS or option.rank in named]


def _build_chart(recommendation: Recommendation, options: Sequence[Option]) -> list[Block]:
    named = frozenset(option.rank for _, option in picks(recommendation))
    per_1000_steps = recommendation.basis == "per_1000_steps"
    title = "Cost against time"
    caption = (
        "Lower left is better. Bars are 80 % intervals. The dashed line is the Pareto front: no other machine that "
        "runs the script unchanged is both cheaper and faster."
    )

    def draw() -> str:
        return cost_time_chart(options, ranks=named, per_1000_steps=per_1000_steps)

    return [Heading(title, where=Where.PAGE), Chart(draw, title, caption, key=_KEY)]


def _stack_interval(value: Interval, unit: str, behind: str = "") -> tuple[Span, Span]:
    """Return the median, with what stands behind it, and below it the interval."""
    median, both_ends = interval(value, unit)
    return Span(f"{median}{behind}", "strong", value.mid), Span(f"[{both_ends}]", "range")


def _stack_cost(row: RankingRow) -> tuple[Span, Span]:
    return _stack_interval(row.option.run_usd, "usd")


def _stack_time(row: RankingRow) -> tuple[Span, Span]:
    return _stack_interval(row.option.run_hours, "h:auto")


def _stack_memory(row: RankingRow) -> tuple[Span, Span]:
    return _stack_interval(row.option.memory_gib, "gib", f" of {row.option.device_memory_gib:.3g} GiB")


def _stack_machine(row: RankingRow) -> Cell:
    marked = tuple(part for mark in row.marks for part in (", ", Span(mark, "mark")))[1:]
    return Span(machine_label(row.option), "strong"), hardware_label(row.option), marked, ()


def _name_machine(row: RankingRow) -> Cell:
    marked = (tuple(Span(mark, "mark") for mark in row.marks),) if row.marks else ()
    return machine_label(row.option), hardware_label(row.option), plan_label(row.option), *marked


def _stack_price(row: RankingRow) -> Cell:
    option = row.option
    return (
        f"{cloud_label(option)} {place_label(option)}",
        f"{purchase_label(option.purchase_option)}, {usd(option.usd_per_hour)}/h",
        Span(f"{price_date_of(option).text}, {row.price_age}", "dim"),
    )


def _show_chance(row: RankingRow) -> str:
    return chance_text(row.option.probability_within)


def _list_chance(row: RankingRow) -> tuple[Line, ...]:
    chance = _show_chance(row)
    return (Span(f"within limits: {chance}", "dim"),) if chance else ()


def _stack_both(row: RankingRow) -> Cell:
    cost, cost_range = _stack_cost(row)
    time, time_range = _stack_time(row)
    return (cost, " in ", time), cost_range, time_range, *_list_chance(row)


_Field: TypeAlias = tuple[Column, Callable[[RankingRow], Cell]]

_FIRST_FIELDS: Final[tuple[_Field, ...]] = (
    (Column("#", right=True, folds=False), lambda row: str(row.option.rank)),
    (Column("machine, accelerators"), _stack_machine),
    (Column("cloud, purchase, price"), _stack_price),
)
_NARROW_FIELDS: Final[tuple[_Field, ...]] = (
    *_FIRST_FIELDS,
    (Column("run $ and time", right=True), _stack_both),
)
_TIME: Final[_Field] = Column("run time", right=True, sorts=True), _stack_time
_COST: Final[_Field] = Column("run cost", right=True, sorts=True), _stack_cost
_HOURLY: Final[_Field] = (
    Column("per hour", right=True, sorts=True),
    lambda row: (Span(usd(row.option.usd_per_hour), value=row.option.usd_per_hour),),
)
_BOUND: Final[_Field] = Column("bound by"), lambda row: bound_label(row.option.bound_by)
_WIDE_FIELDS: Final[tuple[_Field, ...]] = (
    *_FIRST_FIELDS,
    (Column("run $", right=True), lambda row: (*_stack_cost(row), *_list_chance(row))),
    _TIME,
    (
        Column("memory, bound by"),
        lambda row: (
            *_stack_memory(row),
            bound_label(row.option.bound_by),
            Span(plan_label(row.option), "dim"),
        ),
    ),
)


def _build_tables(
    ranked: Sequence[RankingRow],
    in_terminal: Sequence[RankingRow],
    in_text: Sequence[RankingRow],
    caption: str,
) -> tuple[Table, Table, Table, Table]:
    """Return the ranking for a page, a wide and a narrow terminal, and running text."""
    has_chance = any(row.option.probability_within is not None for row in ranked)
    in_page: tuple[_Field | None, ...] = (
        (Column("#", right=True, label="rank", sorts=True), lambda row: str(row.option.rank)),
        (Column("machine", names_row=True, sorts=True), _name_machine),
        (
            Column("where", sorts=True),
            lambda row: (
                cloud_label(row.option),
                place_label(row.option),
                purchase_label(row.option.purchase_option),
            ),
        ),
        *(_COST, _TIME, _HOURLY),
        (Column("within limits", right=True, sorts=True), _show_chance) if has_chance else None,
        (
            Column("memory", sorts=True),
            lambda row: (replace(_stack_memory(row)[0], role="exact"), _stack_memory(row)[1]),
        ),
        (
            Column("price date", sorts=True),
            lambda row: (Span(price_date_of(row.option).text, "exact"), row.price_age),
        ),
    )
    running: tuple[_Field | None, ...] = (
        (Column("#", right=True), lambda row: str(row.option.rank)),
        (Column("machine"), lambda row: machine_label(row.option)),
        (Column("accelerators"), lambda row: hardware_label(row.option)),
        (Column("cloud"), lambda row: cloud_label(row.option)),
        (Column("region"), lambda row: place_label(row.option)),
        (Column("purchase"), lambda row: purchase_label(row.option.purchase_option)),
        *(_TIME, _COST, _HOURLY),
        (Column("memory"), _stack_memory),
        _BOUND,
        (Column("price date"), lambda row: f"{price_date_of(row.option).text}, {row.price_age}"),
        (Column("within limits"), _show_chance) if has_chance else None,
        (Column("marks"), lambda row: ", ".join(row.marks)),
    )
    return (
        build_table(
            ranked,
            in_page,
            caption=caption,
            picked=lambda row: bool(row.titles),
            key=_KEY,
            where=Where.PAGE,
            row_key=lambda row: row.option.rank,
        ),
        build_table(in_terminal, _WIDE_FIELDS, where=Where.WIDE_TERMINAL),
        build_table(in_terminal, _NARROW_FIELDS, where=Where.NARROW_TERMINAL),
        build_table(in_text, running, where=Where.TEXT),
    )
