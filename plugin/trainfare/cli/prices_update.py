"""`trainfare prices update`: ask the clouds for today's prices; a cloud that fails keeps its last good ones."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from trainfare.cli.price_options import JsonOrTable
from trainfare.report.escape import terminal_text
from trainfare_core.errors import PricesUnavailableError
from trainfare_providers.update import PricesUpdate, Say, live_sources, update_clouds

__all__ = ["update", "update_table"]

FAILED_EXIT = PricesUnavailableError.exit_code


def update(
    provider: Annotated[list[str] | None, typer.Option(help="cloud, e.g. aws; may be repeated")] = None,
    cache: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="folder of the price files; default: TRAINFARE_PRICE_CACHE, or yours"
        ),
    ] = None,
    output: Annotated[JsonOrTable, typer.Option("--format", help="table or json")] = JsonOrTable.table,
) -> None:
    """Fetch today's prices; exit 3 if a cloud failed, whose last good prices then stay with their age."""
    from trainfare_providers.disk.cache import BookCache

    sources = live_sources(provider)
    with _progress([name for name, _ in sources]) as say:
        answer = update_clouds(sources, cache=BookCache(cache), say=say)
    sys.stdout.write(answer.to_json() if output is JsonOrTable.json else update_table(answer))
    if any(cloud.failed for cloud in answer.clouds):
        raise typer.Exit(FAILED_EXIT)


def update_table(answer: PricesUpdate) -> str:
    """Return what became of each cloud as text."""
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
        lines.append(f"{', '.join(failed)} failed; `trainfare prices status` says what is used instead")
    return "\n".join(terminal_text(line) for line in lines) + "\n"


@contextmanager
def _progress(names: list[str]) -> Generator[Say]:
    """Show on standard error what each cloud is doing: live bars on a terminal, else a line a step."""
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
