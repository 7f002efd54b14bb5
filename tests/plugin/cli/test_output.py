"""What a terminal shows while a command works, and nothing else does."""

from __future__ import annotations

import io
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from trainfare.cli.output import output_width, show_wait


class Terminal(io.StringIO):
    """Text that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_terminal_shows_what_is_done_and_for_how_long_until_it_is_done() -> None:
    """Text of the user is no markup."""
    stream = Terminal()
    with show_wait("tracing [bold]train.py", stream, {}):
        pass
    assert "tracing [bold]train.py" in stream.getvalue()
    assert "0:00:00" in stream.getvalue()
    assert stream.getvalue().rstrip().endswith(("\x1b[2K", "\x1b[?25h"))


@pytest.mark.parametrize(
    ("stream", "environment"), [(io.StringIO(), {}), (Terminal(), {"CI": "true"})], ids=["pipe", "CI"]
)
def test_log_gets_nothing(stream: io.StringIO, environment: dict[str, str]) -> None:
    with show_wait("tracing train.py", stream, environment):
        pass
    assert stream.getvalue() == ""


def test_standard_output_is_the_answers_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """What is printed while a wait is shown stays where it was sent, and a second wait is not shown over the first."""
    stream, inner = Terminal(), Terminal()
    with show_wait("tracing a", stream, {}), show_wait("tracing b", inner, {}):
        sys.stdout.write("answer\n")
    assert capsys.readouterr().out == "answer\n"
    assert "answer" not in stream.getvalue()
    assert inner.getvalue() == ""
    with show_wait("tracing c", inner, {}):
        pass
    assert "tracing c" in inner.getvalue()


def test_an_exception_ends_what_is_shown() -> None:
    """The cursor is back, and the next wait is shown."""
    stream = Terminal()
    with pytest.raises(KeyboardInterrupt), show_wait("tracing a", stream, {}):
        raise KeyboardInterrupt
    assert "\x1b[?25h" in stream.getvalue()
    with show_wait("tracing b", stream, {}):
        pass
    assert "tracing b" in stream.getvalue()


LOOP = """
import signal, sys
print("here", file=sys.stderr)
signal.pause()
"""


@pytest.mark.own_start
@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_ctrl_c_on_a_terminal_is_one_line_and_leaves_no_file(tmp_path: Path) -> None:
    """A real terminal, on which the wait for the trace is shown until Ctrl-C; 130, and no part of the file that -o names."""
    (tmp_path / "t.py").write_text(LOOP, encoding="utf-8")
    ours, theirs = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if name != "CI"}
    with subprocess.Popen(
        [sys.executable, "-m", "trainfare", "profile", "t.py:job", "-o", "job.json", "--no-cache"],
        cwd=tmp_path,
        stderr=theirs,
        env={**environment, "TERM": "xterm"},
    ) as running:
        os.close(theirs)
        said = b""
        while b"here" not in said or b"tracing t.py:job" not in said:
            said += os.read(ours, 4096)
        running.send_signal(signal.SIGINT)
        after = b""
        try:
            while chunk := os.read(ours, 4096):
                after += chunk
        except OSError:  # Linux says so where the other end is closed
            pass
        assert running.wait() == 130
    os.close(ours)
    assert after.rstrip().endswith(b"interrupted")
    assert after.count(b"interrupted") == 1
    assert b"Traceback" not in after
    assert [path.name for path in tmp_path.iterdir() if path.name != "__pycache__"] == ["t.py"]


def test_a_pipe_has_the_columns_that_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """COLUMNS of the environment, which shells do not export by themselves; else lines have no end."""
    for text, columns in (("80", 80), ("0", 7), ("wide", 7), ("", 7)):
        monkeypatch.setenv("COLUMNS", text)
        assert output_width(7) == columns
