"""
Blocks that a report consists of: built once for each section, and shown by every renderer.

A renderer knows blocks and nothing of machines or prices. Texts are not escaped here: each renderer escapes what it
writes. A block that only some forms of a report have says so by its `where`: a terminal is narrow, running text such as
Markdown has neither stacked cells nor charts, and a page has both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, Literal, TypeAlias

View: TypeAlias = Literal["terminal", "text", "page"]
Role: TypeAlias = Literal["", "strong", "dim", "exact", "range", "mark"]
"""How a piece of text is shown: exact is not broken across lines, range is an interval, mark is a label of a row."""

Tone: TypeAlias = Literal[
    "",
    "dim",
    "warning",
    "answer",
    "good answer",
    "doubtful answer",
    "no answer",
    "outlook",
    "facts",
    "footer",
]
"""What a paragraph is to its reader; the answers are the headline of a report."""


_WIDE: Final = 100
"""From this width on cost, time and memory have columns of their own; at 99 and below cells would be folded."""


class Where(Enum):
    """
    Which forms of a report have a block: some views, and of terminals those of some widths.

    A terminal and a text are RUNNING; a text and a page have titles, so what only they have is TITLED.
    """

    EVERYWHERE = ("terminal", "text", "page"), 0, None
    RUNNING = ("terminal", "text"), 0, None
    TITLED = ("text", "page"), 0, None
    TERMINAL = ("terminal",), 0, None
    WIDE_TERMINAL = ("terminal",), _WIDE, None
    NARROW_TERMINAL = ("terminal",), 0, _WIDE - 1
    TEXT = ("text",), 0, None
    PAGE = ("page",), 0, None

    def shows(self, view: View, width: int | None) -> bool:
        """Return whether a form of a report has the block; `width` is None where lines have no end."""
        views, min_width, max_width = self.value
        return view in views and (width is None or min_width <= width <= (max_width or width))


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of a line, with its own blanks; a cell that begins with a `value` is sorted by it in a page."""

    text: str
    role: Role = ""
    value: float | None = None


Line: TypeAlias = str | Span | tuple[str | Span, ...]
"""A text, or pieces behind each other."""

Cell: TypeAlias = str | tuple[Line, ...]
"""A text, or lines under each other."""


@dataclass(frozen=True, slots=True)
class Heading:
    """The title of the report (level 1) or of a section of it (level 2); paper has room for the first sections only."""

    line: Line
    level: int = 2
    where: Where = Where.EVERYWHERE
    on_paper: bool = True


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph."""

    line: Line
    tone: Tone = ""
    where: Where = Where.EVERYWHERE


@dataclass(frozen=True, slots=True)
class Bullets:
    """
    A list.

    Attributes:
        items: of the list.
        lead: before each item where a list is plain lines, e.g. "note: ".
        hanging: a terminal indents the further lines of an item.
        where: it is shown.
    """

    items: tuple[Line, ...]
    lead: str = ""
    hanging: bool = True
    where: Where = Where.EVERYWHERE


@dataclass(frozen=True, slots=True)
class Column:
    """
    A column of a table.

    Attributes:
        name: its title.
        right: cells are aligned to the right.
        names_row: cells say what their row is about.
        label: a shorter title, beside each cell of a narrow page; None: `name`.
        folds: cells are broken where there is no room.
        sorts: rows can be sorted by it, in a page: by the values of its cells, or by their texts.
    """

    name: str
    right: bool = False
    names_row: bool = False
    label: str | None = None
    folds: bool = True
    sorts: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """
    A table.

    Attributes:
        columns: of the table.
        rows: a cell for each column.
        caption: on top of it, in a page.
        picked: indexes of the rows that the headline names.
        key: of a long table, unique in a page.
        where: it is shown.
        row_keys: of the `Details` that each row opens, in a page; empty: rows open nothing.
    """

    columns: tuple[Column, ...]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    picked: frozenset[int] = frozenset()
    key: str = ""
    where: Where = Where.EVERYWHERE
    row_keys: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Chart:
    """
    A chart.

    Attributes:
        draw: returns it as an `<svg>` element whose texts are escaped; ImportError where matplotlib is missing.
        label: what it shows, for screen readers.
        caption: below it.
        where: it is shown.
        key: of the table whose rows are its points; "": of none.
    """

    draw: Callable[[], str]
    label: str
    caption: str = ""
    where: Where = Where.PAGE
    key: str = ""


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar: its name, the share of its length that each part has, and what stands at its end."""

    name: str
    shares: tuple[float, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Bars:
    """
    Bars that are split into the same parts; the numbers are in a table below them.

    Attributes:
        label: what they show, for screen readers.
        names: of the parts.
        bars: from top to bottom.
        of_whole: parts have their share of the bar's length in them; not where bars differ in length.
        where: they are shown.
    """

    label: str
    names: tuple[str, ...]
    bars: tuple[Bar, ...]
    of_whole: bool
    where: Where = Where.PAGE


@dataclass(frozen=True, slots=True)
class Card:
    """An option in large type; pairs are (median, 80 % interval)."""

    title: str
    cost: tuple[str, str]
    time: tuple[str, str]
    name: str
    place: str
    marks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Cards:
    """The best options beside each other."""

    cards: tuple[Card, ...]
    where: Where = Where.PAGE


@dataclass(frozen=True, slots=True)
class Code:
    """Text to copy, e.g. a command; `label` says what it is."""

    text: str
    label: str
    where: Where = Where.PAGE


@dataclass(frozen=True, slots=True)
class Details:
    """
    What there is to say of a row, closed until it is asked for.

    Attributes:
        key: of the row.
        title: of it.
        facts: names and values; a page is filtered by cloud, region, purchase, accelerator and porting.
        blocks: below them.
        where: it is shown.
    """

    key: int
    title: str
    facts: tuple[tuple[str, str], ...]
    blocks: tuple[Block, ...]
    where: Where = Where.PAGE


Block: TypeAlias = Heading | Text | Bullets | Table | Chart | Bars | Cards | Code | Details


def select_blocks(blocks: Iterable[Block], view: View, width: int | None = None) -> Iterator[Block]:
    """
    Yield the blocks that a form of a report has.

    Args:
        blocks: of the report.
        view: the form.
        width: columns of a terminal; None where lines have no end.
    """
    return (block for block in blocks if block.where.shows(view, width))


def split_line(line: Line) -> tuple[Span, ...]:
    """Return the pieces of a line."""
    parts = line if isinstance(line, tuple) else (line,)
    return tuple(Span(part) if isinstance(part, str) else part for part in parts)


def split_cell(cell: Cell) -> tuple[tuple[Span, ...], ...]:
    """Return the lines of a cell."""
    return (split_line(cell),) if isinstance(cell, str) else tuple(map(split_line, cell))


def join_lines(cell: Cell) -> str:
    """Return the text of a cell, its lines joined by blanks."""
    return " ".join("".join(span.text for span in line) for line in split_cell(cell))
