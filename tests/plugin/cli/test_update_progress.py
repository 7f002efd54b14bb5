"""The progress of `prices update`: bytes, rows and region; bars on a terminal, lines in a log, nothing for a program."""

from __future__ import annotations

import io

import pytest

from trainfare.cli.prices_update import LINE_BYTES, plain_lines, step_text, update_progress
from trainfare_providers.http.progress import Step


class Terminal(io.StringIO):
    """Text that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("step", "text"),
    [
        (Step("asking for prices"), "aws: asking for prices"),
        (
            Step("reading AmazonEC2", "us-east-1", 312_400_000, 1_245_000_000, 120_000),
            "aws: reading AmazonEC2 us-east-1: 312 of 1,245 MB, 120,000 rows",
        ),
        (
            Step("reading the price list", "", 2_340_000, None, 3000),
            "aws: reading the price list: 2.3 MB, 3,000 rows",
        ),
        (Step("reading \x1b[31mred"), "aws: reading red"),
    ],
)
def test_step_has_region_bytes_and_rows(step: Step, text: str) -> None:
    """What is not known is left out; control bytes do not reach the terminal."""
    assert step_text("aws", step) == text


def test_log_has_a_line_for_each_file_and_each_hundred_megabytes() -> None:
    """Twelve thousand chunks of 3 GB make thirty lines; two clouds do not hide each other."""
    stream = io.StringIO()
    say = plain_lines(stream)
    chunk = 256 * 1024
    for at in range(0, 3 * 10**9, chunk):
        say("aws", Step("reading AmazonEC2", "us-east-1", at, 3 * 10**9, at // 500))
        say("azure", Step("reading the price list"))
    say("aws", Step("reading AmazonEC2", "us-east-2", chunk, 10**9))
    lines = stream.getvalue().splitlines()
    assert len([line for line in lines if "us-east-1" in line]) == 3 * 10**9 // LINE_BYTES
    assert len([line for line in lines if line.startswith("azure")]) == 1
    assert lines[-1] == "aws: reading AmazonEC2 us-east-2: 0 of 1,000 MB"


def test_progress_is_plain_where_there_is_no_terminal() -> None:
    stream = io.StringIO()
    with update_progress(["aws"], stream, quiet=False) as say:
        say("aws", Step("asking for prices"))
    assert stream.getvalue() == "aws: asking for prices\n"


def test_terminal_gets_bars_that_vanish() -> None:
    """Text of a cloud is no markup."""
    stream = Terminal()
    with update_progress(["aws"], stream, quiet=False) as say:
        say("aws", Step("reading [bold]AmazonEC2", "us-east-1", 50_000_000, 100_000_000, 9000))
    assert "reading [bold]AmazonEC2 us-east-1: 50 of 100 MB, 9,000 rows" in stream.getvalue()
    assert stream.getvalue().rstrip().endswith(("\x1b[2K", "\x1b[?25h", "\x1b[1A\x1b[2K"))


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_program_that_asked_for_json_gets_no_progress(stream: io.StringIO) -> None:
    with update_progress(["aws"], stream, quiet=True) as say:
        say("aws", Step("asking for prices"))
    assert stream.getvalue() == ""
