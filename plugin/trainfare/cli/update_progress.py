"""The progress of `prices update` on standard error: live on a terminal, else plain lines."""

from __future__ import annotations

import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Final, TextIO

from trainfare.report.escape import terminal_text
from trainfare_providers.http.progress import Step
from trainfare_providers.update import Say

LINE_BYTES: Final = 100_000_000
"""Bytes between two lines of one file in a log: AWS's largest file, 3 GB, makes thirty lines. A chosen value."""


def step_text(name: str, step: Step) -> str:
    """Return what is being done for a cloud, with the region, bytes and rows where there are some."""
    counts: list[str] = []
    if step.bytes_total:
        counts.append(f"{step.bytes_read / 1e6:,.0f} of {step.bytes_total / 1e6:,.0f} MB")
    elif step.bytes_read:
        counts.append(f"{step.bytes_read / 1e6:,.1f} MB")
    if step.rows:
        counts.append(f"{step.rows:,} rows")
    what = f"{name}: {step.what}{f' {step.region}' if step.region else ''}"
    return terminal_text(f"{what}: {', '.join(counts)}" if counts else what)


def plain_lines(stream: TextIO) -> Say:
    """Return a `Say` that writes a line where something new begins, and one every `LINE_BYTES`."""
    seen: dict[str, tuple[str, str, int]] = {}
    one_at_a_time = threading.Lock()

    def say(name: str, step: Step) -> None:
        here = (step.what, step.region, step.bytes_read // LINE_BYTES)
        with one_at_a_time:
            if seen.get(name) == here:
                return
            seen[name] = here
            stream.write(step_text(name, step) + "\n")
            stream.flush()

    return say


@contextmanager
def update_progress(names: Sequence[str], stream: TextIO, *, quiet: bool) -> Generator[Say]:
    """
    Show the progress of each cloud.

    Args:
        names: of the clouds.
        stream: where it is shown; a terminal gets bars, anything else plain lines.
        quiet: nothing is shown.
    """
    if quiet:
        yield lambda _name, _step: None
        return
    if not stream.isatty():
        yield plain_lines(stream)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(file=stream), transient=True) as bars:
        tasks = {name: bars.add_task(f"{terminal_text(name)}: waiting", total=None) for name in names}

        def say(name: str, step: Step) -> None:
            total = 1 if step.what == "done" else step.bytes_total
            done = 1 if step.what == "done" else step.bytes_read if step.bytes_total else 0
            text = step_text(name, step).replace("[", "\\[")
            bars.update(tasks[name], description=text, total=total, completed=done)

        yield say
