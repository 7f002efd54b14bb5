"""The report in a terminal."""

from __future__ import annotations

import io
import unicodedata
from datetime import date

import pytest

from builders.profiles import profile
from builders.recommendations import hostile_recommendation, make_measured_step, option, recommendation
from builders.reports import render_markdown, render_terminal
from trainfare.report import report_ranking
from trainfare.report.wording import PART_NAMES

TODAY = date(2026, 11, 24)


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    """The table folds instead of running over the edge, and every rank, price and interval stays."""
    text = render_terminal(recommendation(), as_of=TODAY, width=width)
    assert max(map(len, text.splitlines())) <= width
    for value in ("$66.60", "[$46.52 - $95.35]", "[7.27 - 12.1 h]", "2026-06-18"):
        assert value in text


def test_a_narrow_terminal_lists_the_columns_left_out() -> None:
    """Memory and what bounds the step are left out of a narrow table, and the legend says so."""
    assert "are shown from 100 columns on" in " ".join(
        render_terminal(recommendation(), as_of=TODAY, width=80).split()
    )
    assert "are shown from 100 columns on" not in " ".join(
        render_terminal(recommendation(), as_of=TODAY).split()
    )


@pytest.mark.parametrize("width", [80, 99, 100, 120])
def test_every_part_of_the_step_is_shown(width: int) -> None:
    """The breakdown of the step has all parts of three options and the whole step at every width."""
    text = render_terminal(recommendation(), as_of=TODAY, width=width)
    table = text.split("Where the step's time goes")[1].split("\n\n")[0]
    rows = [line for line in table.splitlines() if line.strip().startswith(PART_NAMES)]
    assert len(rows) == len(PART_NAMES)
    assert all(row.count(" %") == 3 for row in rows)
    assert "475 ms" in table.splitlines()[-1]


def test_hostile_names_leave_no_control_byte() -> None:
    """Nothing in the output but printable characters and line ends; names cannot open rich's markup either."""
    hostile = hostile_recommendation()
    text = render_terminal(
        hostile, profile=profile(measured=make_measured_step(), notes=("\x1b[2J",)), as_of=TODAY
    )
    assert {unicodedata.category(char) for char in text.replace("\n", "")} <= {
        category for category in _categories() if category[0] != "C"
    } | {"Co", "Cn"}
    assert "[bold]x" in render_terminal(
        recommendation(options=(option(instance_type="[bold]x"),)), as_of=TODAY
    )


def _categories() -> set[str]:
    return {unicodedata.category(chr(code)) for code in range(0x3000)}


def test_a_pipe_gets_plain_text() -> None:
    """Where the output is no terminal it is exactly the plain report."""
    out = io.StringIO()
    report_ranking(recommendation(), None, TODAY).print_terminal(out)
    assert out.getvalue() == render_terminal(recommendation(), as_of=TODAY)
    assert "\x1b" not in out.getvalue()


def test_a_terminal_gets_colour_unless_told_not_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """Colour codes on a terminal; none with NO_COLOR; none at all on a dumb one."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    assert "\x1b[36mspot" in _print_text()
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[36m" not in _print_text()
    monkeypatch.setenv("TERM", "dumb")
    assert "\x1b" not in _print_text()


def _print_text() -> str:
    out = _Terminal()
    report_ranking(recommendation(), None, TODAY).print_terminal(out)
    return out.getvalue()


def test_an_ascii_terminal_gets_replacements_not_an_error() -> None:
    """Characters that the stream cannot encode are replaced; our own text is ASCII."""
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    report_ranking(recommendation(options=(option(instance_type="名前"),)), None, TODAY).print_terminal(out)
    out.flush()
    assert b"1 x ??" in raw.getvalue()
    assert render_terminal(
        recommendation(), profile=profile(measured=make_measured_step()), as_of=TODAY
    ).isascii()


def test_a_long_ranking_is_cut_but_keeps_the_headline_options() -> None:
    """Ten options are printed, and the fastest, which ranks below them; the rest is counted."""
    options = tuple(option(rank=rank, usd=float(rank), hours=30.0 - rank) for rank in range(1, 26))
    text = render_terminal(recommendation(options=options, fastest_rank=25), as_of=TODAY)
    ranks = [line.split()[0] for line in text.splitlines() if line[:2].strip().isdigit() and " x g6" in line]
    assert ranks[:11] == [*map(str, range(1, 11)), "25"]
    assert "14 more are in the HTML page and the JSON output" in " ".join(text.split())


def test_as_many_rows_are_shown_as_were_asked_for() -> None:
    """--limit 3 shows three rows, in the terminal and in Markdown, though the answer has more options."""
    options = tuple(option(rank=rank, usd=float(rank), hours=30.0 - rank) for rank in range(1, 26))
    answer = recommendation(options=options, fastest_rank=25)
    text = render_terminal(answer, as_of=TODAY, rows=3)
    lines = [line for line in text.splitlines() if line[:2].strip().isdigit() and " x g6" in line]
    assert [line.split()[0] for line in lines] == ["1", "2", "3"]
    assert "22 more are in the HTML page" in " ".join(text.split())
    marked = render_markdown(answer, as_of=TODAY, rows=3)
    assert "22 more are in the JSON output" in marked


def test_the_front_has_what_it_compares() -> None:
    """Mean cost, the hours of nine in ten runs and the chance, of the options on the front alone."""
    options = (
        option(rank=1, usd=10.0, hours=20.0, on_front=True, probability_within=0.9237),
        option(rank=2, usd=11.0, hours=21.0, instance_type="g6.4xlarge"),
    )
    for text in (
        render_terminal(recommendation(options=options), as_of=TODAY),
        render_markdown(recommendation(options=options), as_of=TODAY),
    ):
        front = text.partition("The front: mean cost, time and chance")[2].partition("Not ranked")[0]
        assert all(part in front for part in ("$10.20", "25.8 h", "92.4 %", "us-east-1"))
        assert "g6.4xlarge" not in front


def test_the_probability_is_shown_with_the_cost() -> None:
    """With a budget or deadline every option has the probability of keeping it."""
    assert "within limits: 97 %" in render_terminal(
        recommendation(options=(option(probability_within=0.97),)), as_of=TODAY
    )
