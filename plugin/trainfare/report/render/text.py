"""Blocks as text: plain lines for the answers of checks, and Markdown for pull requests, wikis and chat."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from trainfare.report.blocks import (
    Block,
    Bullets,
    Cell,
    Heading,
    Line,
    Span,
    Table,
    Text,
    join_lines,
    select_blocks,
    split_line,
)
from trainfare.report.escape import markdown_text, terminal_text
from trainfare.report.tables import UNLIMITED_WIDTH, table_text


def format_lines(blocks: Iterable[Block], *, width: int = UNLIMITED_WIDTH) -> str:
    """
    Return the blocks as plain text.

    Args:
        blocks: of the answer.
        width: of its tables, in columns.
    """
    lines: list[str] = []
    for block in select_blocks(blocks, "terminal", width):
        if isinstance(block, Text):
            lines.append(_clean_line(block.line))
        elif isinstance(block, Bullets):
            lines += [f"{block.lead}{_clean_line(item)}" for item in block.items]
        elif isinstance(block, Table):
            right = {column.name for column in block.columns if column.right}
            names = [column.name for column in block.columns]
            lines.append(
                table_text(
                    names, [list(map(join_lines, row)) for row in block.rows], right=right, width=width
                )
            )
    return "".join(f"{line}\n" for line in lines)


def _clean_line(line: Line) -> str:
    return terminal_text(join_lines((line,)))


def format_markdown(blocks: Iterable[Block]) -> str:
    """Return the blocks as Markdown."""
    parts = (part for block in select_blocks(blocks, "text") for part in _show(block))
    return "\n\n".join(parts) + "\n"


def _show(block: Block) -> Iterator[str]:
    match block:
        case Heading():
            yield f"{'#' * (block.level + 1)} {_escape_line(block.line)}"
        case Text(tone="answer" | "good answer" | "doubtful answer" | "no answer"):
            yield f"**{_escape_line(block.line)}**"
        case Text(tone="footer"):
            yield f"<sub>{_escape_line(block.line)}</sub>"
        case Text():
            yield _escape_line(block.line)
        case Bullets():
            yield "\n".join(f"- {_escape_line(item)}" for item in block.items)
        case Table():
            yield _show_table(block)
        case _:
            pass


def _escape_span(span: Span) -> str:
    """Return a piece of a line; this is the one place where text is escaped for Markdown."""
    text = markdown_text(span.text)
    if not text:
        return " " if span.text else ""
    before, after = " " * span.text.startswith(" "), " " * span.text.endswith(" ")
    return f"{before}{f'**{text}**' if span.role == 'strong' else text}{after}"


def _escape_line(line: Line) -> str:
    return "".join(map(_escape_span, split_line(line)))


def _show_table(table: Table) -> str:
    rules = ["---:" if column.right else "---" for column in table.columns]
    head = _show_row([column.name for column in table.columns])
    return "\n".join([head, f"| {' | '.join(rules)} |", *map(_show_row, table.rows)])


def _show_row(cells: Iterable[Cell]) -> str:
    return f"| {' | '.join(_escape_line(join_lines(cell)) for cell in cells)} |"
