"""
Everything the product says as text: for terminals, pull requests and browsers.

The report of a ranking is built as blocks (`sections`) and shown by a renderer of blocks (`render`). Renderers are
loaded where they are used, so that the command line starts without rich and jinja2.
"""

from __future__ import annotations

from datetime import date
from typing import IO, TYPE_CHECKING, Final

if TYPE_CHECKING:
    from trainfare.report.blocks import Block
    from trainfare_core.job_profile import JobProfile
    from trainfare_core.recommendation import Recommendation

__all__ = ["print_terminal", "render_html", "render_markdown", "render_terminal"]

_SCREEN_WIDTH: Final = 100
"""Columns of the first screen at most: longer lines are hard to read."""


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
        width: columns; None is 120, and 100 for the first screen. Below 100 some columns of the table are left out,
            with a note.
        rows: of the ranking; None: the best, and those of the headline.
        details: the whole report, not its first screen alone.
    """
    from trainfare.report.render.terminal import DEFAULT_WIDTH, format_terminal

    columns = width or (DEFAULT_WIDTH if details else _SCREEN_WIDTH)
    blocks = _build(recommendation, profile, as_of, columns, rows, details=details)
    return format_terminal(blocks, width=columns)


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
    from trainfare.report.render.terminal import DEFAULT_WIDTH, print_blocks

    print_blocks(
        lambda width: _build(recommendation, profile, as_of, width, rows, details=details),
        file=file,
        usual_width=DEFAULT_WIDTH if details else _SCREEN_WIDTH,
    )


def render_markdown(
    recommendation: Recommendation,
    *,
    profile: JobProfile | None = None,
    as_of: date,
    rows: int | None = None,
) -> str:
    """
    Return the report as GitHub-flavoured Markdown.

    Args:
        recommendation: the ranked answer.
        profile: the profile of the job, if available.
        as_of: the day of the report, to which the ages of prices are counted.
        rows: of the ranking; None: the best, and those of the headline.
    """
    from trainfare.report.render.markdown import format_markdown
    from trainfare.report.sections import build_report

    return format_markdown(build_report(recommendation, profile, as_of, rows=rows))


def render_html(recommendation: Recommendation, *, profile: JobProfile | None = None, as_of: date) -> str:
    """
    Return the report as an HTML page.

    Without matplotlib the charts are left out, and the page says how to install it.

    Args:
        recommendation: the ranked answer.
        profile: the profile of the job, if available.
        as_of: the day of the report, to which the ages of prices are counted.
    """
    from trainfare.report.render.page import format_page
    from trainfare.report.sections import build_report, name_page

    return format_page(build_report(recommendation, profile, as_of), title=name_page(recommendation))


def _build(
    recommendation: Recommendation,
    profile: JobProfile | None,
    as_of: date,
    width: int,
    rows: int | None,
    *,
    details: bool,
) -> list[Block]:
    if details:
        from trainfare.report.sections import build_report

        return build_report(recommendation, profile, as_of, rows=rows)
    from trainfare.report.first_screen import build_first_screen

    return build_first_screen(recommendation, profile=profile, as_of=as_of, width=min(width, _SCREEN_WIDTH))
