"""
Load prices from the plug-ins, a lock and the user's own prices, and check that they are not too old.

Plug-ins are those of the entry-point group `trainfare.providers`. Each is loaded separately: a broken one is
named in the answer, and only its own prices are missing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from trainfare_core.errors import InputError, PricesUnavailableError, TrainfareError
from trainfare_providers.plugins import ProviderEntry, entries_with_prices

if TYPE_CHECKING:
    from trainfare.prices.lock import LockHeader
    from trainfare_core.prices.book import PriceBook

OnStale: TypeAlias = Literal["warn", "fail"]
OWN_PRICES_VARIABLE: Final = "TRAINFARE_OWN_PRICES"
"""Environment variable with the file that every command and FareMeter use by default."""

_UPDATE: Final = "run `trainfare prices update`"


def _now() -> datetime:
    return datetime.now(tz=timezone.utc)


@dataclass(frozen=True, slots=True)
class PriceChoice:
    """
    Choice of the prices to use.

    Attributes:
        lock: a lock file: its prices and no others.
        own_prices: a TOML file of discounts and rates; None takes the one that TRAINFARE_OWN_PRICES names, if any.
        allow_stale: rank with live prices that were fetched more than 30 days ago.
        max_price_age_days: oldest price to decide with; None is the lock's own limit, and none without a lock.
        on_stale: what happens beyond that limit; None is the lock's own setting, and "warn" without a lock.
        now: the moment to which ages are counted; an aware datetime.
    """

    lock: Path | None = None
    own_prices: Path | None = None
    allow_stale: bool = False
    max_price_age_days: float | None = None
    on_stale: OnStale | None = None
    now: datetime = field(default_factory=_now)


@dataclass(frozen=True, slots=True)
class LoadedPrices:
    """
    Prices of the plug-ins or of the lock.

    Attributes:
        book: all prices together.
        problems: a sentence for every plug-in that failed, sorted.
        notes: sentences on the prices for the reader of an answer; the same on every day.
        as_of: what the ages in a report are counted to: now, and with a lock the day on which it was locked, so
            that a commit with its lock gives the same bytes on every day.
        lock: the header of the lock that was used.
        own_prices_sha256: of the file of own prices that was used.
        own_prices: a phrase for each discount and rate of it, which are notes too.
    """

    book: PriceBook
    problems: tuple[str, ...]
    notes: tuple[str, ...] = ()
    as_of: datetime = field(default_factory=_now)
    lock: LockHeader | None = None
    own_prices_sha256: str | None = None
    own_prices: tuple[str, ...] = ()


def load_prices(
    entries: Iterable[ProviderEntry] | None = None, choice: PriceChoice | None = None
) -> LoadedPrices:
    """
    Load every price plug-in that can have prices, each in its own `try`, or the lock instead.

    Args:
        entries: the plug-ins; None takes the installed ones of the group `trainfare.providers`.
        choice: lock, own prices and the moment; None is no lock, the default own prices, and now.

    Raises:
        PricesUnavailableError: no plug-in is installed, or none of them gave any price.
        PriceLockError: the lock is damaged, edited or not there.
        InputError: own prices that cannot be used, or a lock together with own prices.
    """
    chosen = choice or PriceChoice()
    if chosen.lock is not None:
        return _load_locked(chosen, chosen.lock)
    loaded = _of_plugins(entries, chosen)
    own_path = chosen.own_prices or os.environ.get(OWN_PRICES_VARIABLE)
    return _with_own(loaded, Path(own_path), chosen) if own_path else loaded


def _of_plugins(entries: Iterable[ProviderEntry] | None, chosen: PriceChoice) -> LoadedPrices:
    from trainfare_core.prices.book import PriceBook
    from trainfare_providers.derived_rows import add_azure_ml

    books: list[PriceBook] = []
    problems: list[str] = []
    for entry in entries_with_prices(entries):
        book = _book_or_problem(entry)
        if isinstance(book, PriceBook):
            books.append(book)
        else:
            problems.append(book)
    if not any(len(book) for book in books):
        why = "; ".join(problems) or "no price source is installed: install trainfare again"
        raise PricesUnavailableError(f"there are no prices: {why}")
    book = add_azure_ml(PriceBook.concat(books))
    return LoadedPrices(book, tuple(problems), _snapshot_note(book), chosen.now)


def _snapshot_note(book: PriceBook) -> tuple[str, ...]:
    import polars as pl

    from trainfare_core.prices.facts import facts_by_service
    from trainfare_core.prices.precedence import SNAPSHOT, is_unlisted

    # What a newer list lacks says so in its own row.
    shipped = facts_by_service(book.frame.filter(pl.col("origin") == SNAPSHOT, ~is_unlisted()))
    if shipped.is_empty():
        return ()
    names = ", ".join(f"{row['provider']}/{row['service']}" for row in shipped.iter_rows(named=True))
    dates = f"{min(shipped['oldest'].to_list())} to {max(shipped['newest'].to_list())}"
    return (
        f"prices of {names} are those of the snapshot that trainfare ships, dated {dates}: {_UPDATE} for today's",
    )


def _with_own(loaded: LoadedPrices, path: Path, chosen: PriceChoice) -> LoadedPrices:
    from trainfare.prices.own_prices_file import read_own_prices
    from trainfare_core.prices.own_prices import apply_own

    file = read_own_prices(path)
    applied = apply_own(loaded.book, file.prices, day=chosen.now.date())
    return LoadedPrices(
        applied.book,
        loaded.problems,
        (*(f"own {note}" for note in applied.notes), *loaded.notes),
        loaded.as_of,
        own_prices_sha256=file.sha256,
        own_prices=applied.notes,
    )


def _load_locked(chosen: PriceChoice, path: Path) -> LoadedPrices:
    from trainfare.prices.lock import read_lock
    from trainfare_core.prices.freshness import end_of_day

    if chosen.own_prices is not None:
        msg = (
            "--own-prices with --lock: a lock holds the prices already; write a new one with "
            "`trainfare prices lock --own-prices FILE`"
        )
        raise InputError(msg)
    lock = read_lock(path)
    own_note = " with own prices" if lock.header.own_prices_sha256 else ""
    note = (
        f"prices are those locked on {lock.header.locked_on.isoformat()}{own_note}: {lock.header.rows:,} rows, "
        f"SHA-256 {lock.sha256[:16]}"
    )
    return LoadedPrices(lock.book, (), (note,), end_of_day(lock.header.locked_on), lock.header)


def age_warnings(loaded: LoadedPrices, used: PriceBook, chosen: PriceChoice) -> tuple[str, ...]:
    """
    Check that the prices of a request are not too old.

    Live prices that were fetched more than 30 days ago, or by a clock that cannot be right, are not ranked unless
    `allow_stale`. The shipped snapshot and a lock are shown with their date; only `max_price_age_days` limits
    their age.

    Args:
        loaded: what `load_prices` returned.
        used: those of its prices that the filters of the request keep.
        chosen: limits and the moment.

    Returns:
        warnings.

    Raises:
        PricesUnavailableError: too old; the message names the services and the options that help.
        InputError: a limit that is not a number of days.
    """
    from trainfare_core.prices.freshness import USABLE_DAYS, with_ages

    limit_days, on_stale = _limit(loaded, chosen)
    aged = with_ages(used.frame, chosen.now)
    warnings: list[str] = []
    if loaded.lock is None:
        outlived = aged.filter("outlived")
        if not outlived.is_empty():
            text = (
                f"live prices of {_make_names(outlived, with_options=True)} were fetched more than {USABLE_DAYS} days "
                f"ago, or by a clock that was wrong: {_UPDATE}"
            )
            if not chosen.allow_stale:
                msg = (
                    f"{text}, leave them out by --provider or --purchase, or rank with them by --allow-stale"
                )
                raise PricesUnavailableError(msg)
            warnings.append(text)
    if limit_days is not None:
        warnings += _past_limit(aged, limit_days, on_stale, locked=loaded.lock is not None)
    return tuple(warnings)


def _limit(loaded: LoadedPrices, chosen: PriceChoice) -> tuple[float | None, OnStale]:
    limit = chosen.max_price_age_days
    if limit is not None and not 0 <= limit <= 1e6:
        raise InputError(f"--max-price-age-days {limit}: give a number of days that is not negative")
    if loaded.lock is None:
        return limit, chosen.on_stale or "warn"
    return (
        loaded.lock.max_price_age_days if limit is None else limit,
        chosen.on_stale or loaded.lock.on_stale,
    )


def _past_limit(aged: Any, limit_days: float, on_stale: OnStale, *, locked: bool) -> list[str]:
    import polars as pl

    within = (pl.col("age_hours") <= (limit_days + 1) * 24.0 - 1e-9).fill_null(value=False)
    old = aged.filter(~within)
    if old.is_empty():
        return []
    oldest = old["age_hours"].max()
    age = "of unknown age" if oldest is None else f"up to {int(float(oldest) // 24):,} days old"
    what = "locked prices" if locked else "prices"
    text = (
        f"{old.height:,} of {aged.height:,} {what} ({_make_names(old)}) are past the limit of "
        f"{limit_days:g} days: {age}; "
        + ("write a new lock with `trainfare prices lock`" if locked else _UPDATE)
    )
    if on_stale == "fail":
        raise PricesUnavailableError(text)
    return [text]


def _make_names(rows: Any, *, with_options: bool = False) -> str:
    columns = ["provider", "service", *(["purchase_option"] if with_options else [])]
    names = rows.select(columns).unique().sort(columns).iter_rows()
    return ", ".join(" ".join((f"{provider}/{service}", *option)) for provider, service, *option in names)


def _book_or_problem(entry: ProviderEntry) -> PriceBook | str:
    """Load one plug-in; a failure is returned as a sentence."""
    from trainfare_core.prices.book import PriceBook

    try:
        book: object = entry.load()().load()
    except TrainfareError as error:
        return f"price source {entry.name!r} gave nothing: {error}"
    except (Exception, SystemExit) as error:  # noqa: BLE001 - foreign code: a plug-in may fail in any way
        # Only the kind of the error: a foreign message may hold a URL with its key.
        return f"price source {entry.name!r} is broken ({type(error).__name__}): update or remove it"
    if not isinstance(book, PriceBook):
        return f"price source {entry.name!r} gave nothing: it returned {type(book).__name__} instead of a PriceBook"
    return book
