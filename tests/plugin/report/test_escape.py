"""Escaping of untrusted text for every output."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Callable, Iterable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from builders.recommendations import HOSTILE_NAMES
from trainfare.report.escape import csv_cell, markdown_text, terminal_text


def _www(_linkify: object, text: str, place: int) -> int:
    """Return how many characters after "www." are part of a link."""
    rest = text[place:]
    return len(rest.split()[0]) if rest[:1].isalnum() else 0


_MARKDOWN = MarkdownIt("gfm-like", {"html": True})
assert _MARKDOWN.linkify is not None
# GitHub links "www." and addresses with a scheme. Other names with a dot stay text there: "train.py", "0.al".
# It links e-mail addresses after every escape is resolved, so no escape of ours could pass that rule.
_MARKDOWN.linkify.set({"fuzzy_link": False, "fuzzy_email": False})
_MARKDOWN.linkify.add("www.", {"validate": _www})
_TEXT = st.text(max_size=60) | st.sampled_from(HOSTILE_NAMES)
_NASTY = st.text(alphabet="\x1b[]()<>|`*_~\\&;#!\n\r\t =+-@:/.$0123456789mwA\x9b\x07\u202e", max_size=30)


def _join_texts(tokens: Iterable[Token]) -> str:
    """Return the text that is shown, without the spaces of no width that keep references from being made."""
    shown = "".join(token.content for token in tokens)
    assert not re.search(r"(?<!\w)@\w|(?<!&)#\d|!\d|\bGH-\d", shown, re.IGNORECASE)
    return shown.replace("\u200b", "")


def test_ordinary_names_stay_as_they_are() -> None:
    """Nothing is lost or added in the names that clouds really use."""
    for name in ("p4d.24xlarge", "us-east-1", "H100-SXM-80GB", "tpu-v5e-4", "名前", "Zürich 1"):
        assert terminal_text(name) == name
        assert csv_cell(name) == name


@pytest.mark.parametrize(
    ("given_text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07name", "name"),
        ("\x1b]8;;https://evil.example\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x9b31mred", "red"),
        ("a\r\nb\tc\u2028d", "a b c d"),
        ("\u202eexe.\u2066gnp\u200f\u200b\ufeff", "exe.gnp"),
        ("a\x00b\x7fc\ud800d\ufffe", "abcd"),
    ],
)
def test_terminal_text_drops_control_sequences(
    given_text: str, shown: str, record_property: Callable[[str, object], None]
) -> None:
    """Colours, titles, links, control bytes, marks that turn text around and lone surrogates are dropped."""
    assert terminal_text(given_text) == shown
    control = [char for char in given_text if unicodedata.category(char) in {"Cc", "Cf", "Cs", "Zl", "Zp"}]
    record_property("{} control and format characters kept from a terminal", len(control))


@settings(deadline=None)
@given(_TEXT | _NASTY)
def test_terminal_text_never_holds_a_control_byte(text: str) -> None:
    """Whatever comes in, one encodable line without control, format or surrogate characters comes out."""
    shown = terminal_text(text)
    assert not {unicodedata.category(char) for char in shown} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert shown.encode("utf-8").decode("utf-8") == shown
    assert terminal_text(shown) == shown


@settings(deadline=None)
@given(_TEXT | _NASTY)
@example("0.AL")
@example("see www.example.com and http://example.com")
def test_markdown_text_renders_as_the_text_itself(text: str) -> None:
    """In a list item it is one run of text: no link, image, code, emphasis, element or new block; same words."""
    tokens = _MARKDOWN.parse(f"- {markdown_text(text)}")
    inline = [child for token in tokens if token.type == "inline" for child in token.children or ()]
    assert {token.type for token in tokens} <= {
        "bullet_list_open", "list_item_open", "paragraph_open", "inline", "paragraph_close", "list_item_close", "bullet_list_close",
    }  # fmt: skip
    assert {token.type for token in inline} <= {"text", "text_special"}
    assert _join_texts(inline).split() == terminal_text(text).split()


@settings(deadline=None)
@given(_TEXT | _NASTY, _TEXT | _NASTY)
def test_markdown_text_stays_in_its_table_cell(first: str, second: str) -> None:
    """Two cells of any text are two cells."""
    table = f"| a | b |\n| --- | --- |\n| {markdown_text(first)} | {markdown_text(second)} |\n"
    tokens = _MARKDOWN.parse(table)
    assert sum(token.type == "td_open" for token in tokens) == 2
    cells = [token.children or [] for token in tokens if token.type == "inline"][2:]
    for text, children in zip((first, second), cells, strict=True):
        assert {token.type for token in children} <= {"text", "text_special"}
        assert _join_texts(children).split() == terminal_text(text).split()


@pytest.mark.parametrize(
    "text",
    ["# x", "- x", "+ x", "* x", "> x", "1. x", "1) x", "24.", "---", "===", "=", "    x", "[x]: /y", "~~~"],
)
def test_markdown_text_opens_no_block(text: str, record_property: Callable[[str, object], None]) -> None:
    """A heading, list, quote, rule, code or link definition at the start of a name is a plain paragraph."""
    tokens = _MARKDOWN.parse(markdown_text(text))
    paragraph = ["paragraph_open", "inline", "paragraph_close"]
    assert [token.type for token in tokens] == paragraph
    assert "".join(child.content for child in tokens[1].children or ()) == text.strip()
    opened = [token.type for token in _MARKDOWN.parse(text)] != paragraph
    record_property("{} names that are a block of Markdown by themselves shown as text", int(opened))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("@octocat", "@&#8203;octocat"),
        ("by @octo/team (#12, GH-3, !4)", "by @&#8203;octo/team \\(#&#8203;12, GH-&#8203;3, !&#8203;4\\)"),
        ("a@b.example", "a@b.example"),
        ("C# 1!", "C# 1!"),
    ],
)
def test_a_name_mentions_nobody_and_refers_to_no_issue(text: str, shown: str) -> None:
    """A model with such a name would notify people by the comment; an address and a language stay as they are."""
    assert markdown_text(text) == shown


def test_markdown_maths_cannot_open() -> None:
    """A pair of dollar signs in a name is no formula where Markdown renders maths; prices keep theirs."""
    assert markdown_text("$x$ for $12.40") == "&#36;x&#36; for $12.40"


@pytest.mark.parametrize(
    "text", ["=cmd()", "+1", "-1+cmd()", "@SUM(A1)", "\t=x", "\r=x", "\n=x", "  =x", "\x1b[0m=x"]
)
def test_a_spreadsheet_never_runs_a_cell(text: str, record_property: Callable[[str, object], None]) -> None:
    """A formula, also behind blanks, control bytes or colours, gets an apostrophe before it."""
    assert csv_cell(text).startswith("'")
    record_property("{} formulas written to CSV as text", 1)


@settings(deadline=None)
@given(_TEXT | _NASTY)
def test_csv_cells_survive_a_csv_reader_and_start_no_formula(text: str) -> None:
    """Through a writer and a reader the cell is the same, and what a spreadsheet trims starts no formula."""
    out = io.StringIO()
    csv.writer(out).writerow([csv_cell(text), "next"])
    assert next(csv.reader(io.StringIO(out.getvalue()))) == [csv_cell(text), "next"]
    assert csv_cell(text).strip()[:1] not in {"=", "+", "-", "@"}
