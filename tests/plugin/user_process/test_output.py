"""What the user's code prints, on standard error."""

from __future__ import annotations

import os
import sys

import pytest

from trainfare.user_process.output import forward


def show(text: bytes, limit_bytes: int = 100) -> None:
    """Show what a process has printed."""
    reader, writer = os.pipe()
    os.write(writer, text)
    os.close(writer)
    forward(os.fdopen(reader, "rb"), limit_bytes)
    sys.stderr.write("error: it ended\n")


@pytest.mark.parametrize("text", [b"working...", b"working...\n", b"working...\r", b"working...\xc3", b""])
def test_an_error_that_follows_begins_a_line(text: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever stands before it: a comment finds the reason at the start of a line."""
    show(text)
    shown = capsys.readouterr().err
    assert shown.splitlines()[-1] == "error: it ended"
    assert "\n\n" not in shown


def test_what_is_left_out_is_counted_on_a_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    """Beyond the limit nothing is shown, and the number of bytes is."""
    show(b"x" * 130)
    assert capsys.readouterr().err.splitlines() == [
        "x" * 100, "warning: 30 bytes more that the TARGET printed are not shown", "error: it ended",
    ]  # fmt: skip


def test_lines_of_libraries_are_counted_and_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """Also one between two halves of a line of the script's, and one that was cut off by the end."""
    show(b"loa\x1eSeed set to 3\nding\n\x1eFutureWarning: old\nmine\n\x1ehal")
    assert capsys.readouterr().err.splitlines() == [
        "loading",
        "mine",
        "note: 2 messages of the script's libraries, not shown: TRAINFARE_DEBUG=1 shows them",
        "error: it ended",
    ]
