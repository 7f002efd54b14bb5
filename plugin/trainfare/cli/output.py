"""Where a command's text goes: standard output or a new file; warnings and progress go to standard error."""

from __future__ import annotations

import codecs
import os
import shutil
import sys
import threading
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO

from trainfare.report.escape import terminal_text
from trainfare.report.tables import UNLIMITED_WIDTH
from trainfare_core.errors import InputError

if TYPE_CHECKING:
    from trainfare.cli.option_groups import Format
    from trainfare.report import Report
    from trainfare.report.blocks import Block
    from trainfare_core.documents import Document


_WAITING: Final = threading.Lock()
"""Held while a wait is shown: two threads that wait would write over each other."""


def check_writable(out: Path | None, *, force: bool | None = None) -> None:
    """
    Check that `--output` names a new file in an existing folder; called before the work is done.

    Args:
        out: the file; None: standard output.
        force: an existing file is overwritten; None: the command has no `--force`.

    Raises:
        InputError: the file exists, or its folder does not.
    """
    if out is None:
        return
    if out.is_dir() or ((out.exists() or out.is_symlink()) and not force):
        overwrite = "" if force is None else ", or --force to overwrite it"
        raise InputError(f"--output {out}: exists already; name another file{overwrite}")
    if not out.parent.is_dir():
        raise InputError(f"--output {out}: there is no folder {out.parent}; make it first")


def write_answer(text: str, out: Path | None, *, references: bool = False) -> None:
    """
    Write a command's answer to a new file, or to standard output where `out` is None.

    Args:
        text: the answer.
        out: the file.
        references: whether it is HTML, XML or Markdown, where `&#8211;` is a character: standard output in another
            encoding than UTF-8 gets those.

    Raises:
        InputError: the file cannot be written.
    """
    if out is None:
        if references and codecs.lookup(sys.stdout.encoding or "utf-8").name != "utf-8":
            text = text.encode("ascii", "xmlcharrefreplace").decode("ascii")
        sys.stdout.write(text)
        return
    from trainfare_providers.disk.files import write_text

    write_text(out, text)
    sys.stderr.write(f"wrote {out}\n")


def write_report(report: Report, output: Format, out: Path | None) -> None:
    """
    Write a report as `write_answer` does; a table on a terminal has colour.

    Args:
        report: the report.
        output: its format: "html", "markdown" or "table".
        out: the file.
    """
    if output == "html":
        write_answer(report.as_page(), out, references=True)
    elif output == "markdown":
        write_answer(report.as_markdown(), out, references=True)
    elif out is None and sys.stdout.isatty():
        report.print_terminal()
    else:
        write_answer(report.as_terminal(), out)


def write_blocks(answer: Document, blocks: list[Block], output: Format) -> None:
    """Write an answer to standard output: its JSON, or its blocks as a page or as text in the terminal's width."""
    if output == "json":
        write_answer(answer.to_json(), None)
    elif output == "html":
        from trainfare.report.render.page import format_page

        write_answer(format_page(blocks), None, references=True)
    else:
        from trainfare.report.render.text import format_lines

        write_answer(format_lines(blocks, width=output_width()), None)


def warn(lines: Iterable[str]) -> None:
    """Write one warning a line to standard error."""
    for line in lines:
        sys.stderr.write(f"warning: {terminal_text(line)}\n")


def output_width(otherwise: int = UNLIMITED_WIDTH) -> int:
    """Return the columns of COLUMNS or of the terminal; `otherwise` where neither is there."""
    is_set = os.environ.get("COLUMNS", "").isdecimal() and int(os.environ["COLUMNS"]) > 0
    return shutil.get_terminal_size().columns if is_set or sys.stdout.isatty() else otherwise


@contextmanager
def show_wait(
    text: str, stream: TextIO | None = None, environment: Mapping[str, str] = os.environ
) -> Generator[None]:
    """
    Show on a terminal what is being done and for how long, while it is done.

    Args:
        text: what is being done.
        stream: where it is shown, if it is a terminal; None takes standard error.
        environment: variables of the process; nothing is shown where `CI` is set.
    """
    out = sys.stderr if stream is None else stream
    if environment.get("CI") or not out.isatty() or not _WAITING.acquire(blocking=False):
        yield
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn("line"), TextColumn("{task.description}"), TimeElapsedColumn())
    # Standard output is the answer's: rich would write it to standard error.
    progress = Progress(*columns, console=Console(file=out), transient=True, redirect_stdout=False)
    try:
        with progress:
            progress.add_task(escape(terminal_text(text)), total=None)
            yield
    finally:
        _WAITING.release()
