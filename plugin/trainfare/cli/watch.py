"""`trainfare watch`: follow a run that FareMeter measures, from another terminal."""

from __future__ import annotations

import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from trainfare.report.escape import terminal_text
from trainfare_core.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_EVERY_S: Final = 1.0
"""Chosen: the meter writes every five seconds."""


def watch(
    folder: Annotated[
        Path,
        typer.Argument(metavar="RUN_DIR", help="folder of the run's logger, or the one above it"),
    ],
    *,
    once: Annotated[bool, typer.Option("--once", help="print how far it is now, and end")] = False,
) -> None:
    """Follow a run that FareMeter measures: steps, dollars, projection, time left, MFU."""
    states = follow_run(folder)
    if once:
        sys.stdout.write(_format_lines(next(states)))
    elif sys.stdout.isatty():
        from rich.live import Live
        from rich.text import Text

        with Live(auto_refresh=False) as screen:
            for rows in states:
                screen.update(Text(_format_lines(rows).rstrip()), refresh=True)
    else:
        before = ""
        for rows in states:
            line = ", ".join(f"{name} {text}" for name, text in rows)
            if line != before:
                sys.stdout.write(f"{terminal_text(line)}\n")
                sys.stdout.flush()
            before = line


def follow_run(
    folder: Path,
    now: Callable[[], datetime] = lambda: datetime.now(tz=timezone.utc),
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[list[tuple[str, str]]]:
    """
    Yield what is known of the newest run in a folder, each second until it has ended, with how it ended.

    Args:
        folder: with the file of the run, or with the folders of several, or with Lightning's folder of those.
        now: the time.
        sleep: waits for some seconds.

    Raises:
        InputError: no run has written there, or its file cannot be read.
    """
    from trainfare.ledger.run_status import FILE_NAME, find_status_files, read_status

    try:
        files = find_status_files(folder) or find_status_files(folder / "lightning_logs")
    except OSError as error:
        raise InputError(f"{folder}: {error.strerror}") from error
    if not files:
        what = "FareMeter writes it from the first step on, unless it has report=False"
        raise InputError(f"{folder}: no {FILE_NAME} here or in a folder below: {what}")
    path, over = files[0], False
    while not over:
        if not path.exists():
            yield [("run", "FareMeter had a fault and is off; the training goes on without it")]
            return
        status = read_status(path)
        over = status.is_over()
        yield status.list_rows(now())
        if not over:
            sleep(_EVERY_S)


def _format_lines(rows: list[tuple[str, str]]) -> str:
    return "".join(f"{name:<9}{terminal_text(text)}\n" for name, text in rows)
