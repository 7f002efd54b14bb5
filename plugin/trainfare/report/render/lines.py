"""Blocks as plain lines for a terminal, one for each paragraph and item, as the answers of checks are shown."""

from __future__ import annotations

from collections.abc import Iterable

from trainfare.report.blocks import Block, Bullets, Line, Table, Text, join_lines, select_blocks
from trainfare.report.escape import terminal_text
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
            lines.append(_escape_line(block.line))
        elif isinstance(block, Bullets):
            lines += [f"{block.lead}{_escape_line(item)}" for item in block.items]
        elif isinstance(block, Table):
            right = {column.name for column in block.columns if column.right}
            names = [column.name for column in block.columns]
            lines.append(
                table_text(
                    names, [list(map(join_lines, row)) for row in block.rows], right=right, width=width
                )
            )
    return "".join(f"{line}\n" for line in lines)


def _escape_line(line: Line) -> str:
    return terminal_text(join_lines((line,)))
