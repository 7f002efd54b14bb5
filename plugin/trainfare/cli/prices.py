"""`trainfare prices ...`: fetch, check, lock and inspect the price book, and read the quotas of an account."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from trainfare.cli.limit_options import option_of
from trainfare.cli.option_groups import Format, group_options
from trainfare.cli.options import CacheFolder, Force, LockFile, PriceOptions
from trainfare.cli.output import check_writable, output_width, warn, write_answer
from trainfare.cli.prices_lock import lock
from trainfare.cli.prices_update import update
from trainfare.prices.verify import PricesVerification, verify_prices, verify_snapshot
from trainfare.report.escape import terminal_text
from trainfare_core.errors import InputError, PricesUnavailableError

app = typer.Typer(name="prices", help="Fetch, check, lock and inspect the price book.", no_args_is_help=True)


@app.callback()
def prices() -> None:
    """Inspect the prices that recommendations are made with."""


@group_options
def status(*, prices: PriceOptions, output: Format = "table") -> None:
    """Show rows, dates, ages and rejected rows of every cloud service: live, shipped or locked prices."""
    from trainfare.prices.sources import load_prices
    from trainfare.report.offers import status_table
    from trainfare_core.prices.status import price_status

    choice = prices.choice()
    loaded = load_prices(choice=choice)
    answer = price_status(loaded.book, as_of=choice.now, problems=loaded.problems, notes=loaded.notes)
    sys.stdout.write(answer.to_json() if output == "json" else status_table(answer, width=output_width()))


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
        raise typer.Exit(PricesUnavailableError.exit_code)


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


def quotas(
    provider: Annotated[list[str] | None, option_of("providers")] = None,
    out: Annotated[
        Path | None, typer.Option("--output", "-o", help="file to write; default: standard output")
    ] = None,
    *,
    force: Force = False,
) -> None:
    """Read what your cloud accounts may rent, and write the file that `recommend --quota` takes."""
    from trainfare.prices.quotas import account_quotas, quota_text
    from trainfare_providers.update import live_sources

    check_writable(out, force=force)
    account = account_quotas(live_sources(provider))
    warn(account.left_out)
    write_answer(quota_text(account.quotas, said=account.said), out)
    if out is not None:
        sys.stderr.write(f"rank what they allow: trainfare recommend JOB --quota {out}\n")


for name, command in (
    ("update", update), ("verify", verify), ("lock", lock), ("quotas", quotas), ("status", status),
):  # fmt: skip
    app.command(name)(command)
