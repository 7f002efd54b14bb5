"""The report as Markdown (GitHub flavour): for pull requests, wikis and chat."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Final

from trainfare.report.escape import markdown_text
from trainfare.report.later import LATER_NAMES, Later
from trainfare.report.rows import COST_NAMES, PART_NAMES, Row
from trainfare.report.story import Story, tell
from trainfare_core.job_profile import JobProfile
from trainfare_core.recommendation import Recommendation

__all__ = ["render_markdown"]

_ROWS: Final = 20


def render_markdown(recommendation: Recommendation, *, profile: JobProfile | None = None, as_of: date) -> str:
    """
    Return the report as Markdown.

    Args:
        recommendation: the ranked answer.
        profile: the job it is for, when at hand.
        as_of: the day of the report, against which the prices' age is counted.
    """
    story = tell(recommendation, profile, as_of)
    asked = f"Asked: {story.asked}." if story.asked else ""
    blocks = [
        f"## {markdown_text(f'What it costs to train {story.job_name}')}",
        f"**{markdown_text(story.headline)}**",
        *([] if story.later is None else [_verdict(story.later)]),
        *(markdown_text(line) for line in (story.basis_note, f"{', '.join(story.job)}.", asked) if line),
        *_ranking(story),
        *_later(story.later),
        *_steps(story),
        *_costs(story),
        *_section(
            story.phases_caption, [f"{line.name}: {line.median} [{line.spread}]" for line in story.phases]
        ),
        *_section("Not ranked", [f"{each.reason}: {each.count}. {each.detail}" for each in story.rejections]),
        *_section("Assumed", story.assumptions),
        *_section(
            "Prices",
            [
                f"{book.cloud} ({book.origin}): {book.rows} prices, {book.dates}, {book.age}"
                for book in story.books
            ],
        ),
        *_section("About the profile", story.notes),
        f"<sub>{markdown_text(story.made_by)}</sub>",
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


def _ranking(story: Story) -> list[str]:
    if not story.rows:
        return []
    shown = [row for index, row in enumerate(story.rows) if index < _ROWS or row.is_answer]
    header = [
        "#",
        "machine",
        "accelerators",
        "cloud",
        "region",
        "purchase",
        "run time",
        "run cost",
        "per hour",
    ]
    header += ["memory", "bound by", "price of"] + (["chance"] if story.shows_chance else []) + ["marks"]
    table = _table(header, frozenset({0, 6, 7, 8}), [_cells(row, story.shows_chance) for row in shown])
    more = len(story.rows) - len(shown)
    rest = f" {more:,} more are in the JSON." if more else ""
    return [table, markdown_text(f"{story.order}.{rest} {story.legend}")]


def _cells(row: Row, shows_chance: bool) -> list[str]:  # noqa: FBT001 - private and positional by nature
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


def _verdict(later: Later) -> str:
    return f"**{markdown_text(later.verdict)}.** {markdown_text(later.sentence)}"


def _later(later: Later | None) -> list[str]:
    if later is None:
        return []
    table = _table(LATER_NAMES, frozenset(range(1, len(LATER_NAMES))), [line.cells for line in later.lines])
    notes = "\n".join(f"- {markdown_text(note)}" for note in later.notes)
    return ["### What it costs later", table, markdown_text(later.caption), notes]


def _steps(story: Story) -> list[str]:
    if not story.steps:
        return []
    header = ["#", "machine", "step", *PART_NAMES, "hidden communication"]
    rows = [
        [line.rank, line.machine, f"{line.step[0]} [{line.step[1]}]", *line.shares, line.hidden]
        for line in story.steps
    ]
    right = frozenset({0, *range(2, len(header))})
    return ["### Where the step's time goes", _table(header, right, rows)]


def _costs(story: Story) -> list[str]:
    if not story.costs:
        return []
    header = ["#", "machine", *COST_NAMES]
    rows = [[line.rank, line.machine, *line.amounts] for line in story.costs]
    return ["### What the dollars are for", _table(header, frozenset({0, *range(2, len(header))}), rows)]
