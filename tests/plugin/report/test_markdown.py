"""The report as Markdown, read back by a real Markdown parser."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

from markdown_it import MarkdownIt
from markdown_it.token import Token

from builders.profiles import profile
from builders.recommendations import (
    hostile_recommendation,
    make_measured_step,
    no_answer,
    option,
    recommendation,
)
from builders.reports import render_markdown
from trainfare.report.escape import terminal_text

TODAY = date(2026, 11, 24)
_PARSER = MarkdownIt("gfm-like", {"html": True})


def _tables(text: str) -> list[list[list[str]]]:
    tables: list[list[list[str]]] = []
    tokens = _PARSER.parse(text)
    for index, token in enumerate(tokens):
        if token.type == "table_open":
            tables.append([])
        elif token.type == "tr_open":
            tables[-1].append([])
        elif token.type in {"td_open", "th_open"}:
            tables[-1][-1].append("".join(child.content for child in tokens[index + 1].children or ()))
    return tables


def _inline(text: str) -> list[Token]:
    return [
        child for token in _PARSER.parse(text) if token.type == "inline" for child in token.children or ()
    ]


def test_the_table_has_every_option_with_every_column() -> None:
    """One row for each option, with the same numbers as the page."""
    ranking = _tables(render_markdown(recommendation(), as_of=TODAY))[0]
    assert ranking[0] == [
        "#", "machine", "accelerators", "cloud", "region", "purchase", "run time", "run cost", "per hour", "memory",
        "bound by", "price date", "marks",
    ]  # fmt: skip
    assert [row[0] for row in ranking[1:]] == [str(rank) for rank in range(1, 10)]
    assert ranking[1] == [
        "1", "1 × g6.2xlarge", "1 × L4-24GB", "AWS", "us-east-1c", "spot", "13.2 h [10.2 – 17.1 h]", "$5.15 [$3.60 – $7.37]",
        "$0.39", "14.2 of 22.5 GiB [13.1 – 15.3]", "compute", "2026-07-20, 127 days old",
        "cheapest, on front, spot, stale",
    ]  # fmt: skip


def test_hostile_names_keep_their_cells_and_become_nothing_else(
    record_property: Callable[[str, object], None],
) -> None:
    """Same tables, rows and cells; no link, image, code span or element but the footer's; the text is the name."""
    hostile = hostile_recommendation()
    text = render_markdown(hostile, profile=profile(notes=("![x](y) <b>",)), as_of=TODAY)
    tables = _tables(text)
    assert len(tables) == len(_tables(render_markdown(recommendation(), as_of=TODAY)))
    assert len(tables[0]) == len(hostile.options) + 1
    record_property(
        "{} cells of Markdown tables of hostile names", sum(len(row) for table in tables for row in table)
    )
    record_property(
        "{} more than their columns, 0 allowed",
        sum(len(row) - len(table[0]) for table in tables for row in table),
    )
    assert all(len(row) == len(table[0]) for table in tables for row in table)
    for item, row in zip(hostile.options, tables[0][1:], strict=True):
        assert row[1].split() == terminal_text(f"1 × {item.instance_type}").split()
    kinds = {token.type for token in _inline(text)}
    assert kinds <= {"text", "text_special", "strong_open", "strong_close", "html_inline"}
    assert [token.content for token in _inline(text) if token.type == "html_inline"] == ["<sub>", "</sub>"]
    assert not any(token.type in {"html_block", "fence", "code_block", "hr"} for token in _PARSER.parse(text))


def test_no_answer_has_its_reason_and_no_table() -> None:
    """Without options there is a reason, what was rejected, and no empty ranking."""
    text = render_markdown(no_answer(), as_of=TODAY)
    assert "**No answer, because no machine can hold the job" in text
    assert [table[0][0] for table in _tables(text)] == ["why"]
    assert "misses by 4.7 GiB" in text


def test_measured_phases_are_listed() -> None:
    """What was measured stands beside what was predicted."""
    text = render_markdown(recommendation(), profile=profile(measured=make_measured_step()), as_of=TODAY)
    assert "- backward: 371 ms \\[369 – 377 ms\\]" in text


def test_a_long_ranking_is_cut_but_keeps_the_headline_options() -> None:
    """Twenty options and the headline options below them are listed; the rest is counted."""
    options = tuple(option(rank=rank, usd=float(rank), hours=60.0 - rank) for rank in range(1, 51))
    text = render_markdown(recommendation(options=options, fastest_rank=50), as_of=TODAY)
    assert [row[0] for row in _tables(text)[0][1:]] == [*map(str, range(1, 21)), "50"]
    assert "29 more are in the JSON output" in text
