"""`trainfare prices verify`: are the prices on this disk whole, and still credible? Exit 3 if not."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from trainfare.cli.price_options import JsonOrTable, Lock
from trainfare.prices.verify import PricesVerification, verify_prices
from trainfare.report.escape import terminal_text
from trainfare_core.errors import PricesUnavailableError

__all__ = ["verify", "verify_table"]

FAILED_EXIT = PricesUnavailableError.exit_code


def verify(
    price_lock: Lock = None,
    cache: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="folder of the price files; default: TRAINFARE_PRICE_CACHE, or yours"
        ),
    ] = None,
    output: Annotated[JsonOrTable, typer.Option("--format", help="table or json")] = JsonOrTable.table,
) -> None:
    """Check hashes, schema, counts and sanity of every price list on disk; exit 3 if one is not sound."""
    from trainfare_providers.disk.cache import BookCache

    answer = verify_prices(cache=BookCache(cache), lock=price_lock)
    sys.stdout.write(answer.to_json() if output is JsonOrTable.json else verify_table(answer))
    if any(one.findings for one in answer.lists):
        raise typer.Exit(FAILED_EXIT)


def verify_table(answer: PricesVerification) -> str:
    """Return one line a price list, and one for each thing that is wrong."""
    lines: list[str] = []
    for one in answer.lists:
        state = "NOT SOUND" if one.findings else "sound" if one.rows else "nothing fetched"
        when = "" if one.fetched_at is None else f", fetched {one.fetched_at}"
        sha = "" if one.sha256 is None else f", SHA-256 {one.sha256[:16]}"
        lines.append(f"{one.name}: {state}: {one.rows:,} prices{when}{sha}")
        lines += [f"  {finding}" for finding in one.findings]
    return "\n".join(terminal_text(line) for line in lines) + "\n"
