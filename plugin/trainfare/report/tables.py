"""A table of text cells as plain text."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterable, Sequence
from typing import Final

from trainfare.report.escape import terminal_text

UNLIMITED_WIDTH: Final = 1000
"""Columns for output that is not a terminal: wider than any of our tables, so that no cell is folded."""


def table_text(
    names: Sequence[str], rows: Iterable[Sequence[str]], *, right: Collection[str] = (), width: int
) -> str:
    """
    Return a table as plain text, without blank lines or blanks at the ends of lines.

    Args:
        names: of the columns.
        rows: cells of each row; control characters are removed here.
        right: names of the columns that are aligned to the right.
        width: of the table; cells that do not fit are folded.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in names:
        table.add_column(name, justify="right" if name in right else "left", overflow="fold")
    for cells in rows:
        table.add_row(*(Text(terminal_text(cell)) for cell in cells))
    text = io.StringIO()
    Console(file=text, width=width, highlight=False, color_system=None).print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines() if line.strip())
