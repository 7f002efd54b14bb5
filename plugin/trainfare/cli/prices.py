"""`trainfare prices ...`: fetch, check, lock and inspect the price book, and read the quotas of an account."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from trainfare.cli.limit_options import LockFilterOptions, option_of
from trainfare.cli.option_groups import Format, group_options
from trainfare.cli.options import (
    AllowStale,
    AsOf,
    CacheFolder,
    Force,
    LockFile,
    OwnPrices,
    PriceOptions,
    moment,
)
from trainfare.cli.output import check_writable, output_width, warn, write_answer
from trainfare.cli.prices_update import update
from trainfare.prices.lock import LOCK_FILE, LockHeader, lock_text, read_lock
from trainfare.prices.sources import OnStale, PriceChoice
from trainfare.prices.verify import PricesVerification, verify_prices, verify_snapshot
from trainfare.report.escape import terminal_text
from trainfare_core.errors import InputError, PriceLockError, PricesUnavailableError
from trainfare_core.installation import __version__

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


@group_options
def lock(
    *,
    only: LockFilterOptions,
    own_prices: OwnPrices = None,
    allow_stale: AllowStale = False,
    max_price_age_days: Annotated[
        int, typer.Option(min=0, help="commands that use the lock warn or fail once its prices are older")
    ] = 30,
    on_stale: Annotated[OnStale, typer.Option(help="what they do then")] = "warn",
    as_of: AsOf = None,
    out: Annotated[Path, typer.Option("--output", "-o", help="lock file to write")] = Path(LOCK_FILE),
    replace: Annotated[bool, typer.Option("--replace", help="overwrite an existing lock")] = False,
) -> None:
    """Write the prices that match, with their sources, dates and hashes, to a file for version control."""
    from trainfare.prices.sources import age_warnings, load_prices
    from trainfare_core.prices.listing import OfferFilters
    from trainfare_providers.disk.files import write_text

    _check_place(out, replace=replace)
    choice = PriceChoice(own_prices=own_prices, allow_stale=allow_stale, now=moment(as_of))
    loaded = load_prices(choice=choice)
    filter_options = only.keywords()
    names: dict[str, Any] = {name: filter_options.get(name) for name in OfferFilters.model_fields}
    filters = OfferFilters(**names).resolve(loaded.book)
    book = filters.apply(loaded.book)
    warn((*loaded.problems, *age_warnings(loaded, book, choice)))
    header = LockHeader(
        tool_version=__version__,
        locked_on=choice.now.date(),
        filters=filters,
        max_price_age_days=max_price_age_days,
        on_stale=on_stale,
        own_prices_sha256=loaded.own_prices_sha256,
        rows=max(1, len(book)),
    )
    text = lock_text(header, book)
    write_text(out, text)
    services = book.facts()
    oldest, newest = min(service.oldest for service in services), max(service.newest for service in services)
    sys.stdout.write(
        f"{out}: {len(book):,} prices dated {oldest} to {newest}, {len(text):,} bytes; "
        f"commit it, and use it with `--lock {out}`\n"
    )


def _check_place(out: Path, *, replace: bool) -> None:
    """
    Check that the lock can be written, before any price is read.

    Raises:
        InputError: a file exists that may not be replaced, or the folder does not exist.
    """
    if not out.parent.is_dir():
        raise InputError(f"--output {out}: there is no folder {out.parent}; make it first")
    if not out.exists() and not out.is_symlink():
        return
    if not replace:
        raise InputError(f"--output {out}: exists already; --replace overwrites it")
    try:
        read_lock(out)
    except PriceLockError as error:
        # A damaged lock may be replaced; a file that never was a lock may not.
        with out.open("rb") as file:
            ours = file.read(64).startswith(b'{"trainfare_lock": ')
        if not ours:
            raise InputError(
                f"--output {out}: is not a price lock; move it away or name another file"
            ) from error


for name, command in (
    ("update", update), ("verify", verify), ("lock", lock), ("quotas", quotas), ("status", status),
):  # fmt: skip
    app.command(name)(command)
