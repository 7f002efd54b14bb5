"""
`refresh`: ask one cloud for its prices, judge them, and keep them if they may replace the last good ones.

Whatever fails, the last good prices stay as they are, with the age they have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from typing import Protocol, runtime_checkable

import polars as pl

from trainfare_core.errors import FetchError, PricesUnavailableError
from trainfare_core.offers import BOOK_SCHEMA, PriceBook
from trainfare_core.price_intake import Intake, Tally
from trainfare_providers.cache import BookCache, BookFacts, CachedBook
from trainfare_providers.http import Outlet
from trainfare_providers.sanity import judge

__all__ = ["FetchedRows", "LiveSource", "RefreshResult", "load_last_good", "refresh"]


@dataclass(frozen=True, slots=True)
class FetchedRows:
    """
    What one cloud service's price source gave: rows_read is rows + filtered + quarantined.

    Attributes:
        provider: cloud.
        service: of that cloud.
        rows: the columns of `price_intake.BOOK_SCHEMA`; numbers may be decimal text; observed_on is the day the
            price took effect, sku the SKU or meter id, source a URL without secrets, fetched_at ISO 8601 UTC
            (blank: the time of the refresh), source_class "price_api".
        filtered: source rows that the parser left out by rule.
        quarantined: source rows that the parser could not read.
        notes: sentences for people, e.g. that spot prices need credentials and were left out.
    """

    provider: str
    service: str
    rows: pl.DataFrame
    filtered: tuple[Tally, ...] = ()
    quarantined: tuple[Tally, ...] = ()
    notes: tuple[str, ...] = ()


@runtime_checkable
class LiveSource(Protocol):
    """
    A cloud whose prices can be fetched; also a `PriceProvider` by its `load`.

    Attributes:
        name: of the provider and its price file: lower-case letters, digits, - and _.
        needs: environment variables it can use.
        budget_s: seconds that one refresh may take in all.
    """

    name: str
    needs: tuple[str, ...]
    budget_s: float

    def fetch(self, outlet: Outlet) -> tuple[FetchedRows, ...]:
        """
        Ask the cloud.

        Raises:
            PricesUnavailableError: it did not answer; a part that needs credentials and has none is a note.
        """
        ...

    def load(self) -> PriceBook:
        """Return the last good prices on disk; an empty book where there are none."""
        ...


@dataclass(frozen=True, slots=True)
class RefreshResult:
    """
    What became of one refresh.

    Attributes:
        provider: name of the source.
        refreshed: new prices are kept now; else the last good ones stay.
        rows: prices kept now.
        fetched_at: when the prices kept now were fetched; None where there are none.
        intakes: what became of every row that this refresh read; of the last good one where it read nothing.
        notes: sentences for people.
        problem: why nothing was refreshed, or that it could not be kept.
    """

    provider: str
    refreshed: bool
    rows: int
    fetched_at: datetime | None
    intakes: tuple[Intake, ...] = ()
    notes: tuple[str, ...] = ()
    problem: str | None = None

    @property
    def degraded(self) -> bool:
        """More than 5 % of the rows of some service are quarantined."""
        return any(intake.degraded for intake in self.intakes)


def load_last_good(name: str, cache: BookCache | None = None) -> PriceBook:
    """Return the last good prices of a cloud from disk; an empty book, silently, where nothing was fetched."""
    cached = (cache or BookCache()).read(name)
    return PriceBook.empty() if cached is None else cached.book


def refresh(
    source: LiveSource,
    *,
    cache: BookCache,
    now: datetime,
    outlet: Outlet | None = None,
    progress: Callable[[str], None] | None = None,
) -> RefreshResult:
    """
    Fetch, judge, and replace the last good prices if the new ones may.

    Args:
        source: a cloud.
        cache: where its last good prices are.
        now: the time, with its zone; what is kept is dated by it.
        outlet: the way out; None makes one with the source's own budget, and closes it.
        progress: told in a few words what is being done.

    Raises:
        MissingExtraError: a package that the source needs is not installed.
        KeyboardInterrupt: Ctrl-C; nothing has changed.
    """
    say = progress or _say_nothing
    with cache.lock(source.name):
        last = cache.read(source.name)
        say("asking for prices")
        try:
            fetched = _fetch(source, outlet)
            say("checking what came")
            rows, intakes = _judged(source.name, fetched, last, now)
        except PricesUnavailableError as error:
            return _kept(source.name, last, str(error))
        if rows.is_empty():
            return _kept(source.name, last, f"{source.name}: not one usable price came", intakes)
        notes = tuple(dict.fromkeys(note for one in fetched for note in one.notes))
        facts = BookFacts(fetched_at=now, tool_version=_tool_version(), intakes=intakes, notes=notes)
        say("keeping them")
        if not cache.write(source.name, rows, facts):
            return _kept(source.name, last, f"{source.name}: the new prices could not be written", intakes)
        return RefreshResult(source.name, True, rows.height, now, intakes, notes)


def _fetch(source: LiveSource, outlet: Outlet | None) -> tuple[FetchedRows, ...]:
    if outlet is not None:
        return source.fetch(outlet)
    with Outlet(source.name, budget_s=source.budget_s) as own:
        return source.fetch(own)


def _judged(
    name: str, fetched: Iterable[FetchedRows], last: CachedBook | None, now: datetime
) -> tuple[pl.DataFrame, tuple[Intake, ...]]:
    parts = tuple(fetched)
    if not parts:
        raise FetchError(name, "it gave no price list; update trainfare")
    rows = pl.concat([_whole(part, now) for part in parts], how="vertical")
    judged = judge(rows, last_good=None if last is None else last.book.frame, origin=name)
    return judged.rows, _with_parsers_counts(name, judged.intakes, parts)


def _whole(part: FetchedRows, now: datetime) -> pl.DataFrame:
    """Return the rows as text in every column, dated where they are not, so that they can be put together."""
    stamp = now.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    columns: list[pl.Expr] = []
    for column, kind in BOOK_SCHEMA.items():
        there = column in part.rows.columns
        value = pl.col(column).cast(pl.String) if there else pl.lit(None, dtype=pl.String).alias(column)
        if kind is pl.Boolean:
            value = pl.col(column).cast(pl.Boolean) if there else pl.lit(False).alias(column)
        columns.append(value.fill_null(stamp) if column == "fetched_at" else value)
    return part.rows.select(columns)


def _with_parsers_counts(
    name: str, intakes: tuple[Intake, ...], parts: tuple[FetchedRows, ...]
) -> tuple[Intake, ...]:
    """Add what the parsers left out and could not read to what became of the rows they gave."""
    found = {(one.provider, one.service): one for one in intakes}
    for part in parts:
        key = (part.provider, part.service)
        was = found.get(key, Intake(name, *key, 0, 0))
        more = sum(tally.rows for tally in (*part.filtered, *part.quarantined))
        found[key] = replace(
            was,
            rows_read=was.rows_read + more,
            filtered=(*was.filtered, *part.filtered),
            quarantined=(*was.quarantined, *part.quarantined),
        )
    return tuple(found[key] for key in sorted(found))


def _kept(
    name: str, last: CachedBook | None, problem: str, intakes: tuple[Intake, ...] = ()
) -> RefreshResult:
    if last is None:
        return RefreshResult(name, False, 0, None, intakes, (), problem)
    facts = last.facts
    return RefreshResult(
        name, False, len(last.book), facts.fetched_at, intakes or facts.intakes, facts.notes, problem
    )


def _say_nothing(_: str) -> None:
    """Nobody watches."""


def _tool_version() -> str:
    try:
        return version("trainfare")
    except PackageNotFoundError:
        return ""
