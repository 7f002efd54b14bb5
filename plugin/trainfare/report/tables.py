"""A rich table as plain text."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["UNLIMITED_WIDTH", "table_text"]

UNLIMITED_WIDTH: Final = 1000
"""Columns for output that is not a terminal: wider than any of our tables, so that no cell is folded."""


def table_text(table: Table, *, width: int) -> str:
    """Return a rich table as plain text, without blank lines or blanks at the ends of lines."""
    from rich.console import Console

    text = io.StringIO()
    Console(file=text, width=width, highlight=False, color_system=None).print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines() if line.strip())
