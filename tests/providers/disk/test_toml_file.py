"""TOML of users: what is wrong, and on which line a key stands."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainfare_core.errors import InputError
from trainfare_providers.disk.toml_file import key_hint, line_of_key, parse_toml

TEXT = b'''# [jobs.a] in a comment
title = """
[jobs.a]
max_usd = 1
"""
list = [
  1,
  2,
]

[jobs.a]
target = "t"
max_usd = 5

[jobs."b.c"]
max_usd = 6
inline = { deep = 7 }

[[waivers]]
job = "a"

[[waivers]]
job = "b"
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("title",), 2),
        (("list",), 6),
        (("jobs",), 11),
        (("jobs", "a"), 11),
        (("jobs", "a", "max_usd"), 13),
        (("jobs", "b.c", "max_usd"), 16),
        (("jobs", "b.c", "inline", "deep"), 17),
        (("waivers", 0, "job"), 20),
        (("waivers", 1), 22),
        (("waivers", 1, "job"), 23),
        (("waivers", 2), None),
        (("jobs", "c"), None),
        (("title", "deeper"), None),
    ],
)
def test_the_line_is_that_of_the_statement(path: tuple[str | int, ...], line: int | None) -> None:
    """Comments, text and arrays of several lines are no keys; a value of several lines begins at its key."""
    assert line_of_key(TEXT, path) == line
    assert line_of_key(TEXT.replace(b"\n", b"\r\n"), path) == line


@pytest.mark.parametrize(
    ("value", "line"),
    [("[\n" + "1,\n" * 20_000 + "]", 20_004), ('"""\n' + "x = 1\n" * 20_000 + '"""', 20_004)],
)
def test_a_value_of_many_lines_takes_no_time_that_grows_with_their_square(value: str, line: int) -> None:
    """Each statement is parsed once; parsing the text up to each of its lines would take minutes."""
    content = f"# of a team\nlong = {value}\nlast = 1\n".encode()
    assert line_of_key(content, ("last",)) == line


def test_a_table_inside_an_array_of_tables_is_that_of_its_last_entry() -> None:
    """`[w.x]` after the second `[[w]]` belongs to the second entry, as do further arrays inside it."""
    content = b"[[w]]\n[[w]]\n[w.x]\nb = 1\n[[w.y]]\n[[w.y]]\nc = 2\n"
    assert line_of_key(content, ("w", 1, "x", "b")) == 4
    assert line_of_key(content, ("w", 0, "x")) is None
    assert line_of_key(content, ("w", 1, "y", 1, "c")) == 7


@pytest.mark.parametrize("text", ["[{}]", "{} = 1", "x = {{ {} = 1 }}", "[[{}]]"])
def test_a_key_of_very_many_parts_is_refused_before_it_is_parsed(text: str) -> None:
    """The parser takes minutes for a key of 100,000 parts."""
    content = text.format(".".join(["a"] * 100_000)).encode()
    with pytest.raises(InputError, match="nested deeper than 64 levels"):
        parse_toml(content, where="prices.toml")


def test_points_in_values_and_comments_are_no_parts_of_a_key() -> None:
    """An array of numbers on one line, a text and a comment may have any number of points."""
    content = f"numbers = [{'1.5, ' * 200}]\ntext = '{'a.' * 200}' # {'a.' * 200}\n".encode()
    assert parse_toml(content, where="f")["numbers"] == [1.5] * 200


_VALUES = st.sampled_from(["1", '"""\nx = 1\n"""', "[\n1,\n2]", "'''\n[a]\n\n'''", "{ z = 1 }"])


@given(st.lists(_VALUES, min_size=1, max_size=12), st.data())
def test_every_key_is_found_on_its_line(values: list[str], data: st.DataObject) -> None:
    """Wherever a key stands among values of any number of lines, its line is found."""
    lines: list[str] = []
    starts: list[int] = []
    for number, value in enumerate(values):
        lines += [""] * data.draw(st.integers(0, 2))
        starts.append(len(lines) + 1)
        lines += f"key{number} = {value}".split("\n")
    content = "\n".join(lines).encode()
    assert [line_of_key(content, (f"key{number}",)) for number in range(len(values))] == starts


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\xff", "utf-8"),
        (b"a = = 1", "line 1"),
        (b"a = " + b"[" * 5000, "nested deeper than 64"),
        (b"a." * 65 + b"b = 1", "nested deeper than 64"),
        (b"a." * 2000 + b"b = 1", "nested deeper than 64"),
        (b"a = " + b"9" * 5000, "digits"),
        (b"a = 1e99999999999999999999", "too large an exponent"),
    ],
)
def test_what_is_not_toml_is_named(content: bytes, words: str) -> None:
    """Neither bytes, syntax, depth nor digits end with another library's exception."""
    with pytest.raises(InputError, match=rf"file\.toml: not valid TOML: .*{words}"):
        parse_toml(content, where="file.toml", parse_float=Decimal)


def test_64_levels_are_read() -> None:
    """More than anybody writes."""
    assert parse_toml(b"a." * 63 + b"b = 1", where="file.toml")


def test_hint_names_a_near_key_or_all() -> None:
    """A typing error gets its correction; anything else gets the list."""
    assert key_hint("max_used", ["max_usd", "allow"]) == "did you mean max_usd?"
    assert key_hint("zzz", ["max_usd", "allow"]) == "known are: max_usd, allow"
