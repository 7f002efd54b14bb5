"""A table of text cells as plain text."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterable, Sequence
from textwrap import wrap
from typing import Final

from trainfare.report.escape import terminal_text

UNLIMITED_WIDTH: Final = 1000
"""Columns for output that is not a terminal: wider than any of our tables, so that no cell is folded."""

_BETWEEN: Final = 3
"""Blanks between two columns of rich's box SIMPLE_HEAD; there is one at each end of a line."""


def table_text(
    names: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    right: Collection[str] = (),
    width: int,
    optional: Sequence[str] = (),
    wrapped: Collection[str] | None = None,
) -> str:
    """
    Return a table as plain text, without blank lines or blanks at the ends of lines.

    Args:
        names: of the columns.
        rows: cells of each row; control characters are removed here.
        right: names of the columns that are aligned to the right.
        width: of the table; cells that do not fit are folded.
        optional: names of the columns that a narrow table leaves out, the first of them first; a line says which.
        wrapped: names of the columns whose cells may be wrapped between words, before a column is left out; None: all.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    columns = {
        name: [terminal_text(cell) for cell in cells]
        for name, cells in zip(names, zip(*rows, strict=True), strict=True)
    } or {name: [] for name in names}
    kept = [] if wrapped is None else [name for name in columns if name not in wrapped]
    widths = {name: _longest([name, *cells], name not in kept) for name, cells in columns.items()}
    left_out: list[str] = []
    while (room := width + 1 - sum(_BETWEEN + least for least in widths.values())) < 0 and len(
        left_out
    ) < len(optional):
        left_out.append(optional[len(left_out)])
        del widths[left_out[-1]], columns[left_out[-1]]
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name, cells in columns.items():
        more = min(room, _longest([name, *cells], False) - widths[name])
        room -= more
        fixed = widths[name] + more if wrapped is not None and room >= 0 else None
        table.add_column(name, justify="right" if name in right else "left", overflow="fold", width=fixed)
    for cells in zip(*columns.values(), strict=True):
        table.add_row(*map(Text, cells))
    text = io.StringIO()
    Console(file=text, width=width, highlight=False, color_system=None).print(table)
    lines = [line.rstrip() for line in text.getvalue().splitlines() if line.strip()]
    if left_out:
        lines += wrap(f"not shown in {width} columns: {', '.join(left_out)}", width)
    return "\n".join(lines)


def _longest(texts: Iterable[str], of_words: bool) -> int:  # noqa: FBT001 - named by the caller's sentence
    """Return the columns of the longest text, or of the longest word of any."""
    from rich.cells import cell_len

    return max(cell_len(part) for text in texts for part in (text.split() if of_words else [text]) or [""])
