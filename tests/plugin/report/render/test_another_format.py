"""The recipe "Add an output format": a renderer of blocks that the product does not have, with all of a report."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from datetime import date

import pytest

from builders.profiles import profile
from builders.recommendations import hostile_recommendation, make_measured_step, no_answer, recommendation
from builders.reports import render_markdown
from trainfare.report.blocks import (
    Block,
    Bullets,
    Heading,
    Line,
    Table,
    Text,
    View,
    join_lines,
    select_blocks,
)
from trainfare.report.escape import csv_cell, terminal_text
from trainfare.report.sections import build_report
from trainfare_core.recommendation import Recommendation

TODAY = date(2026, 11, 24)
_MEASURED = profile(measured=make_measured_step())


def format_csv(blocks: Iterable[Block], view: View = "text") -> str:
    """Return the blocks as CSV: a row for each paragraph, item and row of a table, its kind first."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")

    def write(kind: str, *cells: Line) -> None:
        writer.writerow([kind, *(csv_cell(join_lines((cell,))) for cell in cells)])

    for block in select_blocks(blocks, view):
        if isinstance(block, Heading | Text):
            write(type(block).__name__, block.line)
        elif isinstance(block, Bullets):
            for item in block.items:
                write("item", item)
        elif isinstance(block, Table):
            write("columns", *(column.name for column in block.columns))
            for row in block.rows:
                write("row", *map(join_lines, row))
    return text.getvalue()


def rows_of(answer: Recommendation, view: View = "text") -> list[list[str]]:
    text = format_csv(build_report(answer, _MEASURED, TODAY), view)
    return list(csv.reader(io.StringIO(text)))


def test_a_renderer_of_blocks_shows_a_whole_recommendation() -> None:
    """Every number of the Markdown stands in a format that was written without a look at machines or prices."""
    rows = rows_of(recommendation())
    assert rows[0] == ["Heading", "What it costs to train gpt"]
    titles = [row[1] for row in rows if row[0] == "Heading"]
    markdown = render_markdown(recommendation(), profile=_MEASURED, as_of=TODAY)
    assert titles == [line.lstrip("# ") for line in markdown.splitlines() if line.startswith("#")]
    tables = [line for line in markdown.splitlines() if line.startswith("| ")]
    assert sum(row[0] in ("columns", "row") for row in rows) == sum("---" not in line for line in tables)
    items = [line for line in markdown.splitlines() if line.startswith("- ")]
    assert sum(row[0] == "item" for row in rows) == len(items)
    first = next(row for row in rows if row[:2] == ["row", "1"])
    assert first[2:5] == ["1 × g6.2xlarge", "1 × L4-24GB", "AWS"]
    assert "$5.15 [$3.60 – $7.37]" in first


@pytest.mark.parametrize("view", ["terminal", "text", "page"])
def test_each_view_has_the_facts_of_the_report(view: View) -> None:
    """A format may follow any of the three views: each has the answer, every section and tables as wide as their rows."""
    rows = rows_of(recommendation(), view)
    text = " ".join(cell for row in rows for cell in row)
    for fact in (
        "Train now.",
        "misses by 4.7 GiB",
        "egress is not priced",
        "Trace coverage: 99.9 %",
        "$66.60",
    ):
        assert fact in text
    width = 0
    for kind, *cells in rows:
        width = len(cells) if kind == "columns" else width
        assert kind != "row" or len(cells) == width


def test_nothing_of_an_empty_ranking_is_a_table() -> None:
    """Without options there is a reason and what was rejected, and no block of what there is not."""
    rows = rows_of(no_answer())
    assert [row[1] for row in rows if row[0] == "columns"] == ["why"]
    assert any(row[1].startswith("No answer, because") for row in rows)


def test_blocks_are_not_escaped() -> None:
    """Names reach a renderer as they are, so that each escapes them once; this one makes them harmless by itself."""
    hostile = hostile_recommendation()
    blocks = build_report(hostile, _MEASURED, TODAY)
    (table, *_) = (block for block in select_blocks(blocks, "text") if isinstance(block, Table))
    shown = [row[1] for row in rows_of(hostile) if row[0] == "row"][: len(table.rows)]
    assert [join_lines(row[1]) for row in table.rows] == [
        f"1 × {option.instance_type}" for option in hostile.options
    ]
    assert shown == [join_lines(row[0]) for row in table.rows]
    names = [row[2] for row in rows_of(hostile) if row[0] == "row"][: len(table.rows)]
    assert names == [csv_cell(terminal_text(join_lines(row[1]))) for row in table.rows]
