"""
`trainfare prices update`: fetch today's prices; a cloud that fails keeps its last good ones.

Its progress goes to standard error: live on a terminal, else plain lines.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Annotated, Final, TextIO

import typer

from trainfare.cli.limit_options import option_of
from trainfare.cli.option_groups import Format, group_options
from trainfare.cli.options import CacheFolder
from trainfare.report.escape import terminal_text
from trainfare_core.errors import PricesUnavailableError
from trainfare_providers.http.progress import Step
from trainfare_providers.update import CloudUpdate, PricesUpdate, Say, live_sources, update_clouds


@group_options
def update(
    provider: Annotated[list[str] | None, option_of("providers")] = None,
    cache: CacheFolder = None,
    output: Format = "table",
) -> None:
    """Fetch today's prices; a cloud that fails keeps its last good prices and their age, and the exit code is 3."""
    from trainfare_providers.disk.cache import BookCache

    sources = live_sources(provider)
    with update_progress([name for name, _ in sources], sys.stderr, quiet=output == "json") as say:
        answer = update_clouds(sources, cache=BookCache(cache), say=say)
    sys.stdout.write(answer.to_json() if output == "json" else update_table(answer))
    if any(cloud.failed for cloud in answer.clouds):
        raise typer.Exit(PricesUnavailableError.exit_code)


def update_table(answer: PricesUpdate) -> str:
    """Return the outcome as text: one line for a cloud that has no new prices, with those that are used instead."""
    lines: list[str] = []
    for cloud in answer.clouds:
        if not cloud.refreshed:
            lines.append(_describe_kept_prices(cloud))
            continue
        lines.append(f"{cloud.provider}: updated: {cloud.rows:,} prices{_describe_fetch(cloud)}")
        lines += [
            f"  {row.service}: read {row.rows_read:,} = accepted {row.accepted:,} + filtered {row.filtered:,} + "
            f"quarantined {row.quarantined:,}{' (degraded)' if row.degraded else ''}"
            for row in cloud.services
        ]
        lines += [f"  note: {note}" for note in cloud.notes]
        lines += [f"  failed: {cloud.problem}"] if cloud.problem else []
    return "\n".join(terminal_text(line) for line in lines) + "\n"


def _describe_kept_prices(cloud: CloudUpdate) -> str:
    """Return what failed, or what is missing to ask, and which prices of the cloud are used."""
    what = f"failed: {cloud.problem}" if cloud.problem else f"not asked: {'; '.join(cloud.notes)}"
    if cloud.rows:
        used = f"its {cloud.rows:,} prices{_describe_fetch(cloud)}, are used"
    elif cloud.snapshot_of is not None:
        used = f"prices of the snapshot of {cloud.snapshot_of} are used"
    else:
        used = "there are no prices of it"
    return f"{cloud.provider}: {what.replace(f'{cloud.provider}: ', '', 1)}; {used}"


def _describe_fetch(cloud: CloudUpdate) -> str:
    return "" if cloud.fetched_at is None else f", fetched {cloud.fetched_at:%Y-%m-%d %H:%M} UTC"


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
