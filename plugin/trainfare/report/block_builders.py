"""Blocks that several answers and sections build alike: tables of rows, lists with and without a title."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TypeVar

from trainfare.report.blocks import Bar, Bars, Block, Bullets, Cell, Column, Heading, Line, Table, Text, Where

Row = TypeVar("Row")


def build_table(
    rows: Sequence[Row],
    fields: Iterable[tuple[Column, Callable[[Row], Cell]] | None],
    *,
    caption: str = "",
    picked: Callable[[Row], bool] | None = None,
    key: str = "",
    where: Where = Where.EVERYWHERE,
    row_key: Callable[[Row], int] | None = None,
) -> Table:
    """
    Return a table of rows of one kind.

    Args:
        rows: what each row is about.
        fields: columns, each with the function that returns its cell; None: no column.
        caption: on top of the table, in a page.
        picked: whether the headline names a row.
        key: of a long table.
        where: it is shown.
        row_key: of the `Details` that a row opens.
    """
    shown = [field for field in fields if field is not None]
    cells = [[read(row) for _, read in shown] for row in rows]
    named = frozenset(index for index, row in enumerate(rows) if picked is not None and picked(row))
    columns = tuple(column for column, _ in shown)
    return Table(columns, cells, caption, named, key, where, tuple(map(row_key, rows)) if row_key else ())


def build_answer(
    title: str,
    names: Sequence[str],
    rows: Sequence[Sequence[str]],
    right: Collection[str],
    *,
    sentence: str = "",
    above: Sequence[str] = (),
    below: Sequence[str] = (),
) -> list[Block]:
    """
    Return an answer of one table, with sentences above and below it.

    Args:
        title: of its page.
        names: of the columns.
        rows: of texts; empty: no table.
        right: names of the columns that are aligned to the right.
        sentence: the answer, where only a page has one.
        above: the answer, and what else comes before the table.
        below: notes.
    """
    columns = tuple(Column(name, right=name in right, names_row=name == names[0]) for name in names)
    return [
        Heading(title, level=1, where=Where.TITLED),
        *([Text(sentence, "answer", Where.TITLED)] if sentence else []),
        *(Text(text, "" if index else "answer") for index, text in enumerate(above)),
        *([Table(columns, rows)] if rows else []),
        *map(Text, below),
    ]


def build_list(
    title: str,
    items: Iterable[Line],
    where: Where = Where.EVERYWHERE,
    *,
    hanging: bool = True,
    on_paper: bool = True,
) -> list[Block]:
    """Return a section with a list, see `Bullets` and `Heading`; empty where it has no item."""
    bullets = Bullets(tuple(items), hanging=hanging, where=where)
    return [Heading(title, where=where, on_paper=on_paper), bullets] if bullets.items else []


def build_notes(
    notes: Iterable[Line], lead: str = "  note: ", where: Where = Where.EVERYWHERE
) -> list[Block]:
    """Return a list without a title; empty where it has no item."""
    bullets = Bullets(tuple(notes), lead, where=where)
    return [bullets] if bullets.items else []


def build_bars(
    label: str,
    names: Sequence[str],
    rows: Iterable[tuple[str, Sequence[float], str]],
    *,
    whole: float | None = None,
) -> Bars:
    """
    Return bars without the parts that none of them has.

    Args:
        label: see `Bars`.
        names: of all parts.
        rows: name, size of each part, and text at the end of each bar.
        whole: size of a bar of full length; 1: parts are shares of it already; None: every bar has full length.
    """
    bars = [
        Bar(name, tuple(part / (whole or sum(parts) or 1.0) for part in parts), text)
        for name, parts, text in rows
    ]
    used = [index for index in range(len(names)) if any(bar.shares[index] > 0 for bar in bars)]
    drawn = tuple(Bar(bar.name, tuple(bar.shares[index] for index in used), bar.text) for bar in bars)
    return Bars(label, tuple(names[index] for index in used), drawn, whole in (None, 1.0))
