"""
An answer as a report, which has every format.

The report of a ranking is built as blocks (`sections`) and shown by a renderer of blocks (`render`). Renderers are
loaded where they are used, so that the command line starts without rich and jinja2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import IO, TYPE_CHECKING, Final

if TYPE_CHECKING:
    from trainfare.report.blocks import Block
    from trainfare.report.sections.plans import PlanFiles
    from trainfare_core.job_profile import JobProfile
    from trainfare_core.ledger.run_record import RunRecord
    from trainfare_core.recommendation import Recommendation

_SCREEN_WIDTH: Final = 100
"""Columns of the first screen at most: longer lines are hard to read."""


@dataclass(frozen=True, slots=True)
class Report:
    """
    An answer that can be shown in every format.

    Attributes:
        build: returns its blocks for so many columns of a terminal.
        title: of its page.
        width: columns where the output is not a terminal, fixed so that the same input gives the same bytes.
    """

    build: Callable[[int], list[Block]]
    title: str
    width: int = 120

    def as_terminal(self, width: int | None = None) -> str:
        """Return plain text without colour or control bytes; below 100 columns a table may leave some out."""
        from trainfare.report.render.terminal import format_terminal

        columns = width or self.width
        return format_terminal(self.build(columns), width=columns)

    def print_terminal(self, file: IO[str] | None = None) -> None:
        """
        Print the report, with colour and the terminal's width where `file` is a terminal (NO_COLOR is honoured).

        Args:
            file: where to; None is standard output. Characters it cannot encode are replaced, never an error.
        """
        from trainfare.report.render.terminal import print_blocks

        print_blocks(self.build, file=file, usual_width=self.width)

    def as_markdown(self) -> str:
        """Return GitHub-flavoured Markdown."""
        from trainfare.report.render.text import format_markdown

        return format_markdown(self.build(self.width))

    def as_page(self) -> str:
        """Return an HTML page; without matplotlib the charts are left out, and it says how to install it."""
        from trainfare.report.render.page import format_page

        return format_page(self.build(self.width), title=self.title)


def report_ranking(
    recommendation: Recommendation,
    profile: JobProfile | None,
    as_of: date,
    *,
    rows: int | None = None,
    details: bool = True,
    last_runs: Sequence[RunRecord] = (),
    files: Sequence[PlanFiles] = (),
) -> Report:
    """
    Return the report of a ranking.

    Args:
        recommendation: the ranked answer.
        profile: the profile of the job, if available.
        as_of: the day of the report, to which the ages of prices are counted.
        rows: of the ranking, but in a page; None: the best, and those of the headline.
        details: the whole report, not its first screen alone, which is for a terminal.
        last_runs: of the job, from a ledger that is named: see `trainfare.ledger.earlier_runs.list_last_runs`.
        files: that start the named plans, for a page: see `trainfare.export.export_named_plans`.
    """
    title = f"{recommendation.job.name}: what it costs to train"
    if details:
        from trainfare.report.ledger import build_last_runs
        from trainfare.report.sections import build_report

        return Report(
            lambda _width: [
                *build_report(recommendation, profile, as_of, rows=rows, files=files),
                *build_last_runs(last_runs),
            ],
            title,
        )
    from trainfare.report.first_screen import build_first_screen

    return Report(
        lambda width: build_first_screen(
            recommendation, profile=profile, as_of=as_of, width=min(width, _SCREEN_WIDTH)
        ),
        title,
        _SCREEN_WIDTH,
    )
