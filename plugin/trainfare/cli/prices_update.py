"""`trainfare prices update`: fetch today's prices; a cloud that fails keeps its last good ones."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from trainfare.cli.limit_options import option_of
from trainfare.cli.option_groups import Format, group_options
from trainfare.cli.options import CacheFolder
from trainfare.cli.update_progress import update_progress
from trainfare.report.escape import terminal_text
from trainfare_core.errors import PricesUnavailableError
from trainfare_providers.update import CloudUpdate, PricesUpdate, live_sources, update_clouds

FAILED_EXIT = PricesUnavailableError.exit_code


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
        raise typer.Exit(FAILED_EXIT)


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
