"""Blocks as text for a terminal."""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import IO, Final

from rich import box
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text as RichText

from trainfare.report.blocks import (
    Block,
    Bullets,
    Heading,
    Line,
    Role,
    Span,
    Table,
    Text,
    Tone,
    select_blocks,
    split_cell,
    split_line,
)
from trainfare.report.escape import terminal_text

_ASCII: Final = str.maketrans({"×": "x", "–": "-"})
_TONES: Final[dict[Tone, str]] = {
    "dim": "dim",
    "warning": "yellow",
    "answer": "bold",
    "good answer": "bold green",
    "doubtful answer": "bold yellow",
    "no answer": "bold red",
    "footer": "dim",
}
_ROLES: Final[dict[Role, str]] = {"strong": "bold", "dim": "dim", "range": "dim"}
_MARKS: Final = {
    "cheapest": "bold green",
    "fastest": "bold green",
    "best value": "bold green",
    "on front": "green",
    "spot": "cyan",
    "needs porting": "yellow",
    "arm64 host": "yellow",
    "stale": "red",
}
_RULE: Final = box.Box("    \n    \n -- \n    \n    \n    \n    \n    \n", ascii=True)
_INDENT: Final = 2
"""Blanks before what stands under a heading."""


def format_terminal(blocks: Iterable[Block], *, width: int) -> str:
    """
    Return the blocks as plain text without colour or control bytes.

    Args:
        blocks: of the report.
        width: columns; what does not fit is wrapped or folded.
    """
    console = Console(file=io.StringIO(), width=width, color_system=None, legacy_windows=False, _environ={})
    return _print(console, blocks)


def print_blocks(build: Callable[[int], Sequence[Block]], *, file: IO[str] | None, usual_width: int) -> None:
    """
    Print blocks, with colour and the terminal's width where `file` is a terminal (NO_COLOR is honoured).

    Args:
        build: returns the blocks for so many columns.
        file: where to; None is standard output. Characters it cannot encode are replaced, never an error.
        usual_width: columns where `file` is not a terminal.
    """
    stream = sys.stdout if file is None else file
    if not stream.isatty():
        text = format_terminal(build(usual_width), width=usual_width)
    else:
        width = shutil.get_terminal_size((120, 24)).columns
        console = Console(file=io.StringIO(), force_terminal=True, width=width, legacy_windows=False)
        text = _print(console, build(width))
    encoding = getattr(stream, "encoding", None) or "utf-8"
    stream.write(text.encode(encoding, "replace").decode(encoding))


def _print(console: Console, blocks: Iterable[Block]) -> str:
    """Print the blocks on a console that keeps what it prints, and return that."""
    indent = 0
    for block in select_blocks(blocks, "terminal", console.width):
        footer = isinstance(block, Text) and block.tone == "footer"
        if footer or isinstance(block, Heading):
            indent = 0
        if footer or isinstance(block, Heading) or (isinstance(block, Table) and not indent):
            console.print()
        for content in _show(block, console, indent):
            console.print(Padding(content, (0, 0, 0, indent), expand=False) if indent else content)
        if isinstance(block, Heading):
            indent = _INDENT
    written = console.file
    text = written.getvalue() if isinstance(written, io.StringIO) else ""
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"


def _show(block: Block, console: Console, indent: int) -> list[RenderableType]:
    match block:
        case Heading():
            return [_escape_line(block.line, "bold")]
        case Text():
            return [_escape_line(block.line, _TONES.get(block.tone, ""))]
        case Table():
            return [_show_table(block)]
        case Bullets(hanging=True):
            return [_hang([_escape_line(item) for item in block.items], console, console.width - indent - 2)]
        case Bullets():
            return [RichText("- ") + _escape_line(item) for item in block.items]
        case _:
            return []


def _escape_span(span: Span) -> RichText:
    """Return a piece of a line; this is the one place where text is escaped for a terminal."""
    style = _MARKS.get(span.text, "") if span.role == "mark" else _ROLES.get(span.role, "")
    return RichText(terminal_text(span.text).translate(_ASCII), style=style)


def _escape_line(line: Line, style: str = "") -> RichText:
    return RichText(style=style).join(map(_escape_span, split_line(line)))


def _hang(items: Sequence[RichText], console: Console, width: int) -> RichText:
    """Return items as a list, wrapped behind their dashes."""
    wrapped = (item.wrap(console, width, overflow="fold") for item in items)
    return RichText("\n").join(
        RichText("  " if index else "- ") + part for parts in wrapped for index, part in enumerate(parts)
    )


def _show_table(block: Table) -> RichTable:
    table = RichTable(box=_RULE, show_edge=False, pad_edge=False, padding=(0, 1), header_style="bold")
    for column in block.columns:
        table.add_column(
            _escape_line(column.name),
            justify="right" if column.right else "left",
            overflow="fold" if column.folds else "ellipsis",
        )
    for index, row in enumerate(block.rows):
        cells = (RichText("\n").join(map(_escape_line, split_cell(cell))) for cell in row)
        table.add_row(*cells, style="bold" if index in block.picked else "")
    return table
