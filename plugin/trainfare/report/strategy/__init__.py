"""The report of `trainfare strategy`."""

from __future__ import annotations

from datetime import date
from typing import IO, TYPE_CHECKING

from trainfare.report.strategy.pilots import render_pilots
from trainfare.report.strategy.sections import build_strategy_report

if TYPE_CHECKING:
    from trainfare_core.methods.answer import MethodsAnswer

__all__ = [
    "build_strategy_report",
    "print_strategy",
    "render_pilots",
    "render_strategy",
    "render_strategy_html",
]


def render_strategy(answer: MethodsAnswer, *, as_of: date, width: int | None = None) -> str:
    """
    Return the answer as plain text: no colour, no control bytes, the same bytes for the same input.

    Args:
        answer: the answer.
        as_of: the day of the report, against which the prices' age is counted.
        width: columns; None is 120.
    """
    from trainfare.report.render.terminal import DEFAULT_WIDTH, format_terminal

    return format_terminal(build_strategy_report(answer, as_of), width=width or DEFAULT_WIDTH)


def print_strategy(answer: MethodsAnswer, *, as_of: date, file: IO[str] | None = None) -> None:
    """
    Print the answer; a terminal gets colour (unless NO_COLOR is set) and its own width.

    Args:
        answer: the answer.
        as_of: the day of the report.
        file: to print to; None is standard output.
    """
    from trainfare.report.render.terminal import print_blocks

    print_blocks(lambda _width: build_strategy_report(answer, as_of), file=file)


def render_strategy_html(answer: MethodsAnswer, *, as_of: date) -> str:
    """
    Return the page. Without matplotlib the chart is left out and the page says how to get it.

    Args:
        answer: the answer.
        as_of: the day of the report, against which the prices' age is counted.
    """
    from trainfare.report.render.page import format_page

    return format_page(build_strategy_report(answer, as_of), title=f"{answer.name}: how to train it")
