"""`trainfare prices lock`: write down the exact prices that a repository decides with."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from trainfare.cli.price_options import (
    AllowStale,
    AsOf,
    OwnPricesOption,
    StaleAction,
    price_choice,
    warn,
)
from trainfare.prices.lock import LOCK_FILE, LockFilters, LockHeader, lock_text, read_lock
from trainfare_core._version import __version__
from trainfare_core.errors import InputError, PriceLockError

__all__ = ["lock"]


def lock(
    provider: Annotated[list[str] | None, typer.Option(help="cloud, e.g. aws; may be repeated")] = None,
    service: Annotated[list[str] | None, typer.Option(help="e.g. sagemaker; may be repeated")] = None,
    region: Annotated[list[str] | None, typer.Option(help="e.g. us-east-1; may be repeated")] = None,
    accelerator: Annotated[
        list[str] | None, typer.Option(help="e.g. H100, for all kinds of it; may be repeated")
    ] = None,
    purchase: Annotated[
        list[str] | None, typer.Option(help="on_demand, spot, reserved_1y, ...; may be repeated")
    ] = None,
    own_prices: OwnPricesOption = None,
    allow_stale: AllowStale = False,  # noqa: FBT002 - typer reads flags so
    max_price_age_days: Annotated[
        int, typer.Option("--max-price-age-days", min=0, help="commands with this lock warn or fail past it")
    ] = 30,
    on_stale: Annotated[
        StaleAction, typer.Option("--on-stale", help="what they do past that age")
    ] = StaleAction.warn,
    as_of: AsOf = None,
    out: Annotated[Path, typer.Option("--output", "-o", help="the lock to write")] = Path(LOCK_FILE),
    replace: Annotated[  # noqa: FBT002 - typer reads flags so
        bool, typer.Option("--replace", help="write over a lock that is there")
    ] = False,
) -> None:
    """Write the prices that match, with their sources, dates and hashes, to a file for version control."""
    from trainfare.prices.sources import age_warnings, load_prices
    from trainfare_providers.disk.files import write_text

    _check_place(out, replace=replace)
    choice = price_choice(
        lock=None,
        own_prices=own_prices,
        allow_stale=allow_stale,
        max_price_age_days=None,
        on_stale=None,
        as_of=as_of,
    )
    loaded = load_prices(choice=choice)
    filters = LockFilters(
        providers=loaded.book.resolve("provider", provider or None),
        services=loaded.book.resolve("service", service or None),
        regions=loaded.book.resolve("region", region or None),
        accelerators=loaded.book.resolve("accelerator", accelerator or None),
        purchase=loaded.book.resolve("purchase_option", purchase or None),
    )
    book = loaded.book.filter(
        providers=filters.providers,
        services=filters.services,
        regions=filters.regions,
        accelerators=filters.accelerators,
        purchase=filters.purchase,
    )
    warn((*loaded.problems, *age_warnings(loaded, book, choice)))
    header = LockHeader(
        tool_version=__version__,
        locked_on=choice.now.date(),
        filters=filters,
        max_price_age_days=max_price_age_days,
        on_stale=on_stale.value,
        own_prices_sha256=loaded.own_prices_sha256,
        rows=max(1, len(book)),
    )
    text = lock_text(header, book)
    write_text(out, text)
    dates = [facts.oldest for facts in book.facts()], [facts.newest for facts in book.facts()]
    sys.stdout.write(
        f"{out}: {len(book):,} prices of {min(dates[0])} to {max(dates[1])}, {len(text):,} bytes; "
        f"commit it, and decide with `--lock {out}`\n"
    )


def _check_place(out: Path, *, replace: bool) -> None:
    """
    Make sure that the lock may be written there, before any price is read.

    Raises:
        InputError: something is there that may not be replaced, or there is no such folder.
    """
    if not out.parent.is_dir():
        raise InputError(f"--output {out}: there is no folder {out.parent}; make it first")
    if not out.exists() and not out.is_symlink():
        return
    if not replace:
        raise InputError(f"--output {out}: exists already; --replace writes over it")
    try:
        read_lock(out)
    except PriceLockError as error:
        # A damaged lock is what one wants to replace; somebody else's file is not.
        with out.open("rb") as file:
            ours = file.read(64).startswith(b'{"trainfare_lock": ')
        if not ours:
            raise InputError(
                f"--output {out}: is no price lock; move it away or name another file"
            ) from error
