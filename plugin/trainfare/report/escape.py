"""
Escaping of untrusted text (instance, region, model and plug-in names) for terminal, Markdown and CSV.

HTML and SVG use `terminal_text` first, then jinja2's autoescape or ElementTree.
"""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Iterable

_ANSI = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor moves
    r"|(?:\x1b[\]P^_]|[\x9d\x90\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)"  # OSC: titles, links
)
_UNSAFE_CATEGORIES = frozenset({"Cc", "Cf", "Cs"})
_NONCHARACTERS = frozenset({"\ufffe", "\uffff"})
_SPACES = re.compile(r"[\t\n\x0b\x0c\r\x1c-\x1e\x85\u2028\u2029]+")
_MARKDOWN = str.maketrans(
    {
        "\\": "&#92;",
        "|": "&#124;",
        "`": "&#96;",
        "&": "&amp;",
        "<": "&lt;",
        ">": "&gt;",
        **{mark: f"\\{mark}" for mark in "[]()*_~"},
    }
)
_BLOCK_START = re.compile(r"^(?=[#+=-])|^(\d+)(?=\.(?:\s|$))")
_AUTOLINK = re.compile(r":(?=//)|(?<=www)\.|\$(?!\d)", re.IGNORECASE)  # bare URLs; $maths$, but not $12
_REFERENCE = re.compile(r"(?<!\w)@(?=\w)|(?<!&)#(?=\w)|!(?=\d)|(?<=\bGH-)(?=\d)", re.IGNORECASE)
"""Where GitHub, GitLab and Azure DevOps begin a mention of a person, an issue, a work item or a merge request."""
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")


def terminal_text(text: str) -> str:
    """
    Return `text` as one line without characters that control a terminal, browser or editor.

    ANSI sequences, control bytes, bidirectional and zero-width marks and lone surrogates are dropped; line
    breaks and tabs become one space.
    """
    if text.isascii() and text.isprintable():
        return text
    flat = _SPACES.sub(" ", _ANSI.sub("", text))
    return "".join(
        char
        for char in flat
        if unicodedata.category(char) not in _UNSAFE_CATEGORIES and char not in _NONCHARACTERS
    )


def markdown_text(text: str) -> str:
    """
    Return `text` escaped so that GitHub Markdown shows it literally in a table cell, list item or sentence.

    It cannot end the cell, open a link, image, code span, emphasis, HTML element or a new block, mention a person or
    refer to an issue: a code host looks for those in what it shows, where a space without width stands between.
    """
    line = terminal_text(text).strip().translate(_MARKDOWN)
    line = _REFERENCE.sub(r"\g<0>&#8203;", line)
    line = _AUTOLINK.sub(lambda match: f"&#{ord(match[0])};", line)
    return _BLOCK_START.sub(r"\1\\", line)


def csv_cell(text: str) -> str:
    """
    Return `text` for a CSV cell that no spreadsheet reads as a formula.

    A leading `= + - @`, tab or line break (also behind spaces) gets an apostrophe before it; control bytes
    are dropped. Quoting and commas are the csv writer's work. For text only: write numbers as numbers.
    """
    safe = terminal_text(text)
    starts = (text[:1], text.lstrip()[:1], safe.lstrip()[:1])
    return f"'{safe}" if any(start in _FORMULA_STARTS for start in starts if start) else safe


def csv_text(names: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """Return rows under the names of their columns as CSV; texts as of `csv_cell`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([csv_cell(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
    return text.getvalue()
