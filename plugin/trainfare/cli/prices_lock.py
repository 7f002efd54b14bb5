"""`trainfare prices lock`: write the exact prices that a repository's checks use to a file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from trainfare.cli.limit_options import LockFilterOptions
from trainfare.cli.option_groups import group_options
from trainfare.cli.options import AllowStale, AsOf, OwnPrices, moment
from trainfare.cli.output import warn
from trainfare.prices.lock import LOCK_FILE, LockHeader, lock_text, read_lock
from trainfare.prices.sources import OnStale, PriceChoice
from trainfare_core._version import __version__
from trainfare_core.errors import InputError, PriceLockError


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
