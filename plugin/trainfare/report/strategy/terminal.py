"""A strategy answer in a terminal."""

from __future__ import annotations

import io
from datetime import date
from typing import IO, Final

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from trainfare.report.escape import terminal_text
from trainfare.report.strategy.rows import StrategyRow, StrategyText, strategy_text
from trainfare_core.methods.answer import MethodsAnswer

__all__ = ["print_strategy", "render_strategy"]

WIDTH: Final = 120
_ASCII = str.maketrans({"×": "x", "–": "-"})
_RULE: Final = box.Box("    \n    \n -- \n    \n    \n    \n    \n    \n", ascii=True)


def render_strategy(answer: MethodsAnswer, *, as_of: date, width: int | None = None) -> str:
    """
    Return the answer as plain text: no colour, no control bytes, the same bytes for the same input.

    Args:
        answer: the answer.
        as_of: the day of the report, against which the prices' age is counted.
        width: columns; None is 120.
    """
    console = Console(
        file=io.StringIO(), width=width or WIDTH, color_system=None, legacy_windows=False, _environ={}
    )
    _print(console, strategy_text(answer, as_of))
    written = console.file
    text = written.getvalue() if isinstance(written, io.StringIO) else ""
    return "".join(f"{line.rstrip()}\n" for line in text.splitlines())


def print_strategy(answer: MethodsAnswer, *, as_of: date, file: IO[str] | None = None) -> None:
    """
    Print the answer; a terminal gets colour (unless NO_COLOR is set) and its own width.

    Args:
        answer: the answer.
        as_of: the day of the report.
        file: to print to; None is standard output.
    """
    _print(Console(file=file), strategy_text(answer, as_of))


def _print(console: Console, text: StrategyText) -> None:
    style = "bold green" if text.kind == "train" else "bold yellow"
    console.print(_text(text.headline, style))
    if text.rows:
        console.print()
        console.print(_table(text))
    for row in text.rows:
        if row.picked:
            _details(console, row)
    _bullets(console, "Left out", text.left_out)
    _bullets(console, "What may change this answer", text.doubts)
    _bullets(console, "A pilot", text.pilot)
    _bullets(console, "Assumed", text.assumptions)
    _bullets(console, "Prices", text.books)


def _table(text: StrategyText) -> Table:
    table = Table(box=_RULE, pad_edge=False, show_edge=False, header_style="bold")
    for name in ("strategy", "cost to target", "time", "expected", "reaches", "cheapest"):
        table.add_column(name)
    if text.shows_within:
        table.add_column("within", overflow="fold")
    table.add_column(f"against {text.reference}" if text.reference else "quality", overflow="fold")
    table.add_column("machine", overflow="fold")
    for row in text.rows:
        cells = [
            row.name, f"{row.cost[0]}\n[{row.cost[1]}]", f"{row.time[0]}\n[{row.time[1]}]", row.expected,
            row.reach, row.cheapest, *([row.within] if text.shows_within else []), row.quality,
            f"{row.machine}\n{row.hardware}",
        ]  # fmt: skip
        table.add_row(*(_text(cell) for cell in cells), style="bold" if row.picked else "")
    return table


def _details(console: Console, row: StrategyRow) -> None:
    lines = (
        f"{row.machine}: {row.hardware}, {row.place}",
        f"trains {row.trained} parameters, {row.work}",
        row.samples,
        f"settings, in this order: {'; '.join(row.knobs)}",
        row.evidence,
        *row.notes,
    )
    _bullets(console, row.name[:1].upper() + row.name[1:], lines)


def _bullets(console: Console, title: str, lines: tuple[str, ...]) -> None:
    if not lines:
        return
    console.print()
    console.print(_text(title, "bold"))
    for line in lines:
        console.print(Padding(_text(f"- {line}"), (0, 0, 0, 2)))


def _text(text: str, style: str = "") -> Text:
    return Text("\n".join(terminal_text(line) for line in text.split("\n")).translate(_ASCII), style=style)
