"""The report as text for a terminal: headline, ranking, outlook, breakdown, assumptions and prices."""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Sequence
from datetime import date
from typing import IO, Final

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from trainfare.report.escape import terminal_text
from trainfare.report.first_screen import first_screen
from trainfare.report.later_years import OUTLOOK_COLUMNS, OutlookSummary
from trainfare.report.rows import COST_COLUMNS, FRONT_COLUMNS, PART_NAMES, RankingRow
from trainfare.report.summary import FRONT_TITLE, REJECTION_COLUMNS, ReportSummary, summarize
from trainfare_core.job_profile import JobProfile
from trainfare_core.recommendation import Recommendation

__all__ = ["DEFAULT_WIDTH", "print_terminal", "render_terminal"]

DEFAULT_WIDTH: Final = 120
"""Columns where the output is not a terminal, fixed so that the same input gives the same bytes."""

SCREEN_WIDTH: Final = 100
"""Columns of the first screen at most: longer lines are hard to read."""

_EMPHASIS: Final = {"": "", "strong": "bold", "dim": "dim", "warning": "yellow"}
_ASCII = str.maketrans({"×": "x", "–": "-"})
_STYLES = {
    "cheapest": "bold green",
    "fastest": "bold green",
    "best value": "bold green",
    "on front": "green",
    "spot": "cyan",
    "needs porting": "yellow",
    "arm64 host": "yellow",
    "stale": "red",
}
_RULE: Final = box.Box("    \n    \n -- \n    \n    \n    \n    \n    \n", ascii=True)
_WIDE: Final = 100
"""From this width on cost, time and memory have columns of their own; at 99 and below cells would be folded."""

_ROWS: Final = 10
"""Rows of the ranking: about one screen, at four lines each."""

_STEP_COLUMNS: Final = 3
"""Options in the breakdown of the step: as many as fit beside each other in 80 columns; the page has more."""


def render_terminal(
    recommendation: Recommendation,
    *,
    profile: JobProfile | None = None,
    as_of: date,
    width: int | None = None,
    rows: int | None = None,
    details: bool = True,
) -> str:
    """
    Return the report as plain text without colour or control bytes.

    Args:
        recommendation: the ranked answer.
        profile: the profile of the job, if available.
        as_of: the day of the report, to which the ages of prices are counted.
        width: columns; None is DEFAULT_WIDTH, and 100 for the first screen. Below 100 some columns of the table are
            left out, with a note.
        rows: of the ranking; None: the best, and those of the headline.
        details: the whole report, not its first screen alone.
    """
    usual = DEFAULT_WIDTH if details else SCREEN_WIDTH
    console = Console(
        file=io.StringIO(), width=width or usual, color_system=None, legacy_windows=False, _environ={}
    )
    if details:
        _print(console, summarize(recommendation, profile, as_of), rows)
    else:
        _print_first_screen(console, recommendation, profile, as_of)
    return _written(console)


def print_terminal(
    recommendation: Recommendation,
    *,
    profile: JobProfile | None = None,
    as_of: date,
    file: IO[str] | None = None,
    rows: int | None = None,
    details: bool = True,
) -> None:
    """
    Print the report, with colour and the terminal's width where `file` is a terminal (NO_COLOR is honoured).

    Args:
        recommendation: the ranked answer.
        profile: the profile of the job, if available.
        as_of: the day of the report, to which the ages of prices are counted.
        file: where to; None is standard output. Characters it cannot encode are replaced, never an error.
        rows: of the ranking; None: the best, and those of the headline.
        details: the whole report, not its first screen alone.
    """
    stream = sys.stdout if file is None else file
    if not stream.isatty():
        text = render_terminal(recommendation, profile=profile, as_of=as_of, rows=rows, details=details)
    else:
        width = shutil.get_terminal_size((DEFAULT_WIDTH, 24)).columns
        console = Console(file=io.StringIO(), force_terminal=True, width=width, legacy_windows=False)
        if details:
            _print(console, summarize(recommendation, profile, as_of), rows)
        else:
            _print_first_screen(console, recommendation, profile, as_of)
        text = _written(console)
    encoding = getattr(stream, "encoding", None) or "utf-8"
    stream.write(text.encode(encoding, "replace").decode(encoding))


def _written(console: Console) -> str:
    text = console.file.getvalue() if isinstance(console.file, io.StringIO) else ""
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"


def _print_first_screen(
    console: Console, recommendation: Recommendation, profile: JobProfile | None, as_of: date
) -> None:
    width = min(console.width, SCREEN_WIDTH)
    for line in first_screen(recommendation, profile=profile, as_of=as_of, width=width):
        console.print(_text(line.text, _EMPHASIS[line.emphasis]), soft_wrap=False)


def _print(console: Console, summary: ReportSummary, rows: int | None) -> None:
    console.print(_text(summary.headline, "bold" if summary.has_options else "bold red"), soft_wrap=False)
    if summary.outlook is not None:
        console.print(
            Text(". ").join((_text(summary.outlook.verdict, "bold"), _text(summary.outlook.sentence)))
        )
    if summary.basis_note:
        console.print(_text(summary.basis_note, "yellow"))
    console.print(_text(f"Job {summary.job_name}: {', '.join(summary.job)}.", "dim"))
    if summary.constraints:
        console.print(_text(f"Constraints: {summary.constraints}.", "dim"))
    if summary.rows:
        console.print()
        shown = summary.best_rows(_ROWS, rows)
        console.print(_ranking(shown, console.width))
        console.print(_text(_legend(summary, len(shown), console.width), "dim"))
    for text in summary.beside:
        console.print(_text(text))
    if summary.outlook is not None:
        _section(console, "What it costs later", _outlook(console, summary.outlook))
    if summary.steps:
        _section(console, "Where the step's time goes", _steps(summary))
    if summary.costs:
        _section(console, "What the cost consists of", _costs(summary))
    if summary.front:
        _section(console, FRONT_TITLE, _front(summary))
    if summary.rejections:
        _section(console, "Not ranked", _rejections(summary))
    for title, lines in summary.lists():
        if lines:
            _section(console, title, _bullets(console, lines))
    console.print()
    console.print(_text(summary.made_by, "dim"))


def _text(text: str, style: str = "") -> Text:
    return Text(terminal_text(text).translate(_ASCII), style=style)


def _section(console: Console, title: str, content: RenderableType) -> None:
    console.print()
    console.print(_text(title, "bold"))
    console.print(Padding(content, (0, 0, 0, 2), expand=False))


def _bullets(console: Console, lines: Sequence[str]) -> Text:
    """Return the lines as a list, wrapped behind their dashes to the width that a section has."""
    wrapped = (_text(line).wrap(console, console.width - 4, overflow="fold") for line in lines)
    return Text("\n").join(
        Text("  " if index else "- ") + part for parts in wrapped for index, part in enumerate(parts)
    )


def _table() -> Table:
    return Table(box=_RULE, show_edge=False, pad_edge=False, padding=(0, 1), header_style="bold")


def _ranking(rows: Sequence[RankingRow], width: int) -> Table:
    table = _table()
    table.add_column("#", justify="right")
    table.add_column("machine, accelerators", overflow="fold")
    table.add_column("cloud, purchase, price", overflow="fold")
    if width >= _WIDE:
        for title in ("run $", "run time"):
            table.add_column(title, justify="right", overflow="fold")
        table.add_column("memory, bound by", overflow="fold")
    else:
        table.add_column("run $ and time", justify="right", overflow="fold")
    for row in rows:
        table.add_row(*_cells(row, width))
    return table


def _cells(row: RankingRow, width: int) -> list[Text]:
    chance = [_text(f"within limits: {row.chance}", "dim")] if row.chance else []
    marks = Text(", ").join(_text(mark, _STYLES.get(mark, "")) for mark in row.marks)
    cells = [
        _text(row.rank),
        _lines(_text(row.machine, "bold"), _text(row.hardware), marks, Text()),
        _lines(
            _text(f"{row.cloud} {row.region}"),
            _text(f"{row.purchase}, {row.usd_per_hour}/h"),
            _text(f"{row.price_date}, {row.price_age}", "dim"),
        ),
    ]
    (dollars, dollar_range), (time, time_range) = _bracketed(row.run_usd), _bracketed(row.run_time)
    if width < _WIDE:
        both = Text(" in ").join((dollars, time))
        return [*cells, _lines(both, dollar_range, time_range, *chance)]
    memory = _lines(*_bracketed(row.memory), _text(row.bound_by), _text(row.plan, "dim"))
    return [*cells, _lines(dollars, dollar_range, *chance), _lines(time, time_range), memory]


def _lines(*parts: Text) -> Text:
    return Text("\n").join(parts)


def _bracketed(value: tuple[str, str]) -> tuple[Text, Text]:
    return _text(value[0], "bold"), _text(f"[{value[1]}]", "dim")


def _legend(summary: ReportSummary, shown: int, width: int) -> str:
    more = len(summary.rows) - shown
    rest = f" {more:,} more are in the HTML page and the JSON output." if more > 0 else ""
    narrow = "" if width >= _WIDE else " Memory and the step's bottleneck are shown from 100 columns on."
    return f"{summary.order}.{rest} {summary.legend}{narrow}"


def _outlook(console: Console, outlook: OutlookSummary) -> Group:
    table = _table()
    for index, name in enumerate(OUTLOOK_COLUMNS):
        table.add_column(name, justify="right" if index else "left", overflow="fold")
    for line in outlook.rows:
        table.add_row(*(_text(cell) for cell in line))
    return Group(_text(outlook.caption, "dim"), table, _bullets(console, outlook.notes))


def _steps(summary: ReportSummary) -> Table:
    """Return the parts of the step, one column for each of the best options."""
    lines = summary.steps[:_STEP_COLUMNS]
    table = _table()
    table.add_column("share of the step")
    for line in lines:
        table.add_column(_text(f"#{line.rank} {line.machine}"), justify="right", overflow="fold")
    for name, *shares in zip(PART_NAMES, *(line.shares for line in lines), strict=True):
        table.add_row(_text(name), *map(_text, shares))
    table.add_row(_text("whole step"), *(_text(line.step[0]) for line in lines))
    return table


def _costs(summary: ReportSummary) -> Table:
    """Return the parts of the cost, one column for each of the best options."""
    shown = summary.costs[:_STEP_COLUMNS]
    table = _table()
    table.add_column("USD")
    for rank, machine, *_ in shown:
        table.add_column(_text(f"#{rank} {machine}"), justify="right", overflow="fold")
    for name, *amounts in zip(COST_COLUMNS[2:], *(line[2:] for line in shown), strict=True):
        table.add_row(_text(name), *map(_text, amounts))
    return table


def _front(summary: ReportSummary) -> Table:
    table = _table()
    for index, name in enumerate(FRONT_COLUMNS):
        table.add_column(name, justify="left" if index in (1, 2) else "right", overflow="fold")
    for line in summary.front:
        table.add_row(*map(_text, line))
    return table


def _rejections(summary: ReportSummary) -> Table:
    table = _table()
    for index, name in enumerate(REJECTION_COLUMNS):
        table.add_column(name, justify="right" if index in (1, 2) else "left", overflow="fold")
    for line in summary.rejections:
        table.add_row(*map(_text, line.cells))
    return table
