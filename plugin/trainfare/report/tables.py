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

    cells = [[terminal_text(cell) for cell in row] for row in rows]
    columns = [[name, *(row[index] for row in cells)] for index, name in enumerate(names)]
    folds = [wrapped is None or name in wrapped for name in names]
    widths = [_longest(column, fold) for column, fold in zip(columns, folds, strict=True)]
    shown, left_out = list(range(len(names))), list[str]()
    while (room := width + 1 - sum(_BETWEEN + widths[index] for index in shown)) < 0 and len(left_out) < len(
        optional
    ):
        left_out.append(optional[len(left_out)])
        shown.remove(names.index(left_out[-1]))
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for index in shown:
        more = min(room, _longest(columns[index], False) - widths[index])
        room -= more
        table.add_column(
            names[index],
            justify="right" if names[index] in right else "left",
            overflow="fold",
            width=widths[index] + more if wrapped is not None and room >= 0 else None,
        )
    for row in cells:
        table.add_row(*(Text(row[index]) for index in shown))
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
