"""`trainfare prices update`: fetch today's prices; a cloud that fails keeps its last good ones."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager

import typer

from trainfare.cli.options import CacheFolder, Providers, TableOrJson
from trainfare.report.escape import terminal_text
from trainfare_core.errors import PricesUnavailableError
from trainfare_providers.update import PricesUpdate, Say, live_sources, update_clouds

__all__ = ["update", "update_table"]

FAILED_EXIT = PricesUnavailableError.exit_code


def update(provider: Providers = None, cache: CacheFolder = None, output: TableOrJson = "table") -> None:
    """Fetch today's prices; a cloud that fails keeps its last good prices and their age, and the exit code is 3."""
    from trainfare_providers.disk.cache import BookCache

    sources = live_sources(provider)
    with _progress([name for name, _ in sources]) as say:
        answer = update_clouds(sources, cache=BookCache(cache), say=say)
    sys.stdout.write(answer.to_json() if output == "json" else update_table(answer))
    if any(cloud.failed for cloud in answer.clouds):
        raise typer.Exit(FAILED_EXIT)


def update_table(answer: PricesUpdate) -> str:
    """Return the outcome for each cloud as text."""
    lines: list[str] = []
    for cloud in answer.clouds:
        when = "" if cloud.fetched_at is None else f", fetched {cloud.fetched_at:%Y-%m-%d %H:%M} UTC"
        state = "updated" if cloud.refreshed else "kept as they were"
        kept = f"{state}: {cloud.rows:,} prices{when}" if cloud.rows else "no live prices"
        lines.append(f"{cloud.provider}: {kept}")
        lines += [
            f"  {one.service}: read {one.rows_read:,} = accepted {one.accepted:,} + filtered {one.filtered:,} + "
            f"quarantined {one.quarantined:,}{' (degraded)' if one.degraded else ''}"
            for one in cloud.services
        ]
        lines += [f"  note: {note}" for note in cloud.notes]
        lines += [f"  failed: {cloud.problem}"] if cloud.problem else []
    failed = [cloud.provider for cloud in answer.clouds if cloud.failed]
    if failed:
        lines.append(
            f"{', '.join(failed)} failed; `trainfare prices status` shows which prices are used instead"
        )
    return "\n".join(terminal_text(line) for line in lines) + "\n"


@contextmanager
def _progress(names: list[str]) -> Generator[Say]:
    """Show the progress of each cloud on standard error: live on a terminal, else one line for each step."""
    if not sys.stderr.isatty():
        yield lambda name, what: print(terminal_text(f"{name}: {what}"), file=sys.stderr)  # noqa: T201
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks = {name: bars.add_task(f"{terminal_text(name)}: waiting", total=1) for name in names}

        def say(name: str, what: str) -> None:
            done = 1 if what == "done" else 0
            bars.update(tasks[name], description=terminal_text(f"{name}: {what}"), completed=done)

        yield say
