"""The report as GitHub-flavoured Markdown, for pull requests, wikis and chat."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Final

from trainfare.report.escape import markdown_text
from trainfare.report.later_years import OUTLOOK_COLUMNS, OutlookSummary
from trainfare.report.rows import COST_COLUMNS, FRONT_COLUMNS, PART_NAMES, RankingRow
from trainfare.report.summary import FRONT_TITLE, REJECTION_COLUMNS, ReportSummary, summarize
from trainfare_core.job_profile import JobProfile
from trainfare_core.recommendation import Recommendation

__all__ = ["render_markdown"]

_ROWS: Final = 20
"""Rows of the ranking; more would make a pull-request comment hard to scroll past. The JSON has all of them."""


def render_markdown(
    recommendation: Recommendation,
    *,
    profile: JobProfile | None = None,
    as_of: date,
    rows: int | None = None,
) -> str:
    """
    Return the report as Markdown.

    Args:
        recommendation: the ranked answer.
        profile: the profile of the job, if available.
        as_of: the day of the report, to which the ages of prices are counted.
        rows: of the ranking; None: the best, and those of the headline.
    """
    summary = summarize(recommendation, profile, as_of)
    constraints = f"Constraints: {summary.constraints}." if summary.constraints else ""
    blocks = [
        f"## {markdown_text(f'What it costs to train {summary.job_name}')}",
        f"**{markdown_text(summary.headline)}**",
        *([] if summary.outlook is None else [_verdict(summary.outlook)]),
        *(
            markdown_text(line)
            for line in (summary.basis_note, f"{', '.join(summary.job)}.", constraints)
            if line
        ),
        *_ranking(summary, rows),
        *(markdown_text(text) for text in summary.beside),
        *_outlook(summary.outlook),
        *_steps(summary),
        *_costs(summary),
        *_front(summary),
        *_rejections(summary),
        *(block for title, lines in summary.lists() for block in _section(title, lines)),
        f"<sub>{markdown_text(summary.made_by)}</sub>",
    ]
    return "\n\n".join(blocks) + "\n"


def _section(title: str, lines: Sequence[str]) -> list[str]:
    if not lines:
        return []
    return [f"### {markdown_text(title)}", "\n".join(f"- {markdown_text(line)}" for line in lines)]


def _table(header: Sequence[str], right: frozenset[int], rows: Sequence[Sequence[str]]) -> str:
    """Return a table; cells are plain text and escaped here."""
    rules = ["---:" if index in right else "---" for index in range(len(header))]
    escaped = ([markdown_text(cell) for cell in cells] for cells in (header, *rows))
    head, *body = (f"| {' | '.join(cells)} |" for cells in escaped)
    return "\n".join([head, f"| {' | '.join(rules)} |", *body])


def _ranking(summary: ReportSummary, rows: int | None) -> list[str]:
    if not summary.rows:
        return []
    shown = summary.best_rows(_ROWS, rows)
    header = [
        *("#", "machine", "accelerators", "cloud", "region", "purchase", "run time", "run cost", "per hour"),
        *("memory", "bound by", "price date", *(["within limits"] if summary.shows_chance else []), "marks"),
    ]
    table = _table(header, frozenset({0, 6, 7, 8}), [_cells(row, summary.shows_chance) for row in shown])
    more = len(summary.rows) - len(shown)
    rest = f" {more:,} more are in the JSON output." if more else ""
    return [table, markdown_text(f"{summary.order}.{rest} {summary.legend}")]


def _cells(row: RankingRow, shows_chance: bool) -> list[str]:  # noqa: FBT001 - private and positional by nature
    chance = [row.chance] if shows_chance else []
    return [
        row.rank,
        row.machine,
        row.hardware,
        row.cloud,
        row.region,
        row.purchase,
        f"{row.run_time[0]} [{row.run_time[1]}]",
        f"{row.run_usd[0]} [{row.run_usd[1]}]",
        row.usd_per_hour,
        f"{row.memory[0]} [{row.memory[1]}]",
        row.bound_by,
        f"{row.price_date}, {row.price_age}",
        *chance,
        ", ".join(row.marks),
    ]


def _verdict(outlook: OutlookSummary) -> str:
    return f"**{markdown_text(outlook.verdict)}.** {markdown_text(outlook.sentence)}"


def _outlook(outlook: OutlookSummary | None) -> list[str]:
    if outlook is None:
        return []
    table = _table(OUTLOOK_COLUMNS, frozenset(range(1, len(OUTLOOK_COLUMNS))), outlook.rows)
    notes = "\n".join(f"- {markdown_text(note)}" for note in outlook.notes)
    return ["### What it costs later", table, markdown_text(outlook.caption), notes]


def _steps(summary: ReportSummary) -> list[str]:
    if not summary.steps:
        return []
    header = ["#", "machine", "step", *PART_NAMES, "hidden communication"]
    rows = [
        [line.rank, line.machine, f"{line.step[0]} [{line.step[1]}]", *line.shares, line.hidden]
        for line in summary.steps
    ]
    right = frozenset({0, *range(2, len(header))})
    return ["### Where the step's time goes", _table(header, right, rows)]


def _rejections(summary: ReportSummary) -> list[str]:
    if not summary.rejections:
        return []
    table = _table(REJECTION_COLUMNS, frozenset({1, 2}), [line.cells for line in summary.rejections])
    return ["### Not ranked", table]


def _front(summary: ReportSummary) -> list[str]:
    if not summary.front:
        return []
    return [f"### {FRONT_TITLE}", _table(FRONT_COLUMNS, frozenset({0, 3, 4, 5}), summary.front)]


def _costs(summary: ReportSummary) -> list[str]:
    if not summary.costs:
        return []
    right = frozenset({0, *range(2, len(COST_COLUMNS))})
    return ["### What the cost consists of", _table(COST_COLUMNS, right, summary.costs)]
