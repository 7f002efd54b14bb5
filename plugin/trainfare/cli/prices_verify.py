"""`trainfare prices verify`: check the price lists on this disk; exit 3 if one is damaged or implausible."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from trainfare.cli.option_groups import Format, group_options
from trainfare.cli.options import CacheFolder, LockFile
from trainfare.prices.verify import PricesVerification, verify_prices, verify_snapshot
from trainfare.report.escape import terminal_text
from trainfare_core.errors import InputError, PricesUnavailableError

FAILED_EXIT = PricesUnavailableError.exit_code


@group_options
def verify(
    *,
    lock: LockFile = None,
    snapshot: Annotated[
        bool, typer.Option("--snapshot", help="check every shipped price beside the others, and nothing else")
    ] = False,
    cache: CacheFolder = None,
    output: Format = "table",
) -> None:
    """Check hashes, schema, row counts and plausibility of every price list on disk; exit 3 if one fails."""
    from trainfare_providers.disk.cache import BookCache
    from trainfare_providers.snapshot import SnapshotProvider

    if snapshot and lock is not None:
        raise InputError("--snapshot checks the shipped prices alone: leave out --lock")
    if snapshot:
        answer = verify_snapshot(SnapshotProvider().load())
    else:
        answer = verify_prices(cache=BookCache(cache), lock=lock)
    sys.stdout.write(answer.to_json() if output == "json" else verify_table(answer))
    if any(price_list.findings for price_list in answer.lists):
        raise typer.Exit(FAILED_EXIT)


def verify_table(answer: PricesVerification) -> str:
    """Return one line for each price list, and below it one for each fault found and each oddity accepted."""
    lines: list[str] = []
    for price_list in answer.lists:
        state = "NOT SOUND" if price_list.findings else "sound" if price_list.rows else "nothing fetched"
        when = "" if price_list.fetched_at is None else f", fetched {price_list.fetched_at}"
        sha = "" if price_list.sha256 is None else f", SHA-256 {price_list.sha256[:16]}"
        lines.append(f"{price_list.name}: {state}: {price_list.rows:,} prices{when}{sha}")
        lines += [f"  {finding}" for finding in price_list.findings]
        lines += [f"  accepted: {count.rows:,} x {count.reason}" for count in price_list.accepted]
    return "\n".join(terminal_text(line) for line in lines) + "\n"
