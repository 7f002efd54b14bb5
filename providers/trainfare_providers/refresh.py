"""
`refresh`: fetch the prices of one cloud, check them, and store them if they may replace the last good ones.

Whatever fails, the last good prices stay as they are, and so does their age.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Final, Protocol, runtime_checkable

import polars as pl

from trainfare_core.errors import FetchError, PricesUnavailableError
from trainfare_core.installation import __version__
from trainfare_core.prices.book import PriceBook, PriceProvider
from trainfare_core.prices.facts import Intake, ReasonCount
from trainfare_core.prices.intake import BOOK_SCHEMA
from trainfare_core.prices.precedence import UNLISTED_DAYS, is_unlisted, keep_unlisted
from trainfare_core.prices.sanity import CONFIRMABLE, LastPrices, why_not_replaced
from trainfare_core.recommendation import QuotaLimit
from trainfare_providers.disk.cache import BookCache
from trainfare_providers.disk.cached_book import CachedBook, read_book, write_book
from trainfare_providers.disk.checked_parquet import BookFacts
from trainfare_providers.http.client import HttpClient

_UNCONFIRMED: Final = "-unconfirmed"
_PART: Final = ["purchase_option", "region"]
_MACHINE: Final = [*_PART, "instance_type"]


@dataclass(frozen=True, slots=True)
class FetchedRows:
    """
    What a price source returned for one cloud service; rows read = rows + filtered + quarantined.

    Attributes:
        provider: cloud.
        service: of that cloud.
        rows: the columns of `price_intake.BOOK_SCHEMA`; numbers may be decimal text; observed_on is the day the
            price took effect, sku the SKU or meter id, source a URL without secrets, fetched_at ISO 8601 UTC
            (blank: the time of the refresh), source_class "price_api".
        filtered: source rows that are out of scope, by rule.
        quarantined: source rows that could not be read or trusted.
        notes: sentences for people, e.g. that spot prices need credentials and were left out.
    """

    provider: str
    service: str
    rows: pl.DataFrame
    filtered: tuple[ReasonCount, ...] = ()
    quarantined: tuple[ReasonCount, ...] = ()
    notes: tuple[str, ...] = ()


@runtime_checkable
class LiveSource(PriceProvider, Protocol):
    """
    A cloud whose prices can be fetched; its `load` gives the last good ones on disk, an empty book without them.

    Attributes:
        name: of the provider and its price file: lower-case letters, digits, - and _.
        needs: environment variables it can use.
        budget_s: seconds that one refresh may take in all.
    """

    needs: tuple[str, ...]
    budget_s: float

    def fetch(self, http: HttpClient) -> tuple[FetchedRows, ...]:
        """
        Fetch the prices.

        Args:
            http: the only way to make requests.

        Raises:
            PricesUnavailableError: no answer; a part whose credentials are missing is a note instead.
        """
        ...


@dataclass(frozen=True, slots=True)
class FetchedQuotas:
    """The quotas of an account, and sentences for people on those that could not be read."""

    limits: tuple[QuotaLimit, ...]
    notes: tuple[str, ...] = ()


@runtime_checkable
class QuotaSource(Protocol):
    """A cloud whose account can be asked what it may rent; its other attributes are those of `LiveSource`."""

    name: str
    budget_s: float

    def quotas(self, http: HttpClient, prices: PriceBook) -> FetchedQuotas:
        """
        Read the quotas of the account, all of them about machines that have a price.

        Args:
            http: the only way to make requests.
            prices: of this cloud.

        Raises:
            CannotTellError: there is no account to ask, or it may not read its quotas.
            FetchError: no answer.
        """
        ...


@dataclass(frozen=True, slots=True)
class RefreshResult:
    """
    The outcome of one refresh.

    Attributes:
        refreshed: new prices are stored; else the last good ones stay.
        rows: prices stored now.
        fetched_at: when those were fetched; None where there are none.
        intakes: counts of every row that this refresh read; of the last good one where it read nothing.
        notes: sentences for people.
        problem: what failed, or which service keeps its last good prices and why; None where nothing failed.
    """

    refreshed: bool
    rows: int
    fetched_at: datetime | None
    intakes: tuple[Intake, ...] = ()
    notes: tuple[str, ...] = ()
    problem: str | None = None


def load_last_good(name: str, cache: BookCache | None = None) -> PriceBook:
    """Return the last good prices of a cloud from disk; an empty book, without a warning, where there are none."""
    cached = read_book(cache or BookCache(), name)
    return PriceBook.empty() if cached is None else cached.book


def refresh(
    source: LiveSource,
    *,
    cache: BookCache,
    now: datetime,
    http: HttpClient,
    progress: Callable[[str], None] = lambda _: None,
) -> RefreshResult:
    """
    Fetch and check prices, and replace the last good ones if the new ones may.

    Args:
        source: a cloud.
        cache: where its last good prices are.
        now: an aware datetime; the stored prices are dated by it.
        http: sends the requests.
        progress: called with a few words on what is being done.

    Raises:
        MissingExtraError: a package that the source needs is not installed.
        KeyboardInterrupt: Ctrl-C; nothing has been stored.
    """
    with cache.lock(source.name):
        last = read_book(cache, source.name)
        progress("asking for prices")
        try:
            parts = source.fetch(http)
            progress("checking them")
            rows, result = _check_fetched_rows(source.name, parts, last, cache, now)
        except PricesUnavailableError as error:
            return _keep_last_prices(RefreshResult(False, 0, None, problem=str(error)), last)
        if not result.refreshed:
            # A source that was not asked because a key is missing says so in its notes; that is no failure.
            nothing = None if result.notes else f"{source.name}: no price list came"
            return _keep_last_prices(replace(result, problem=result.problem or nothing), last)
        progress("storing them")
        facts = BookFacts(
            fetched_at=now, tool_version=__version__, intakes=result.intakes, notes=result.notes
        )
        if not write_book(cache, source.name, rows, facts):
            problem = f"{source.name}: the new prices could not be written to {cache.folder}"
            return _keep_last_prices(replace(result, problem=problem), last)
        return result


def _keep_last_prices(result: RefreshResult, last: CachedBook | None) -> RefreshResult:
    """Return the outcome where the last good prices stay."""
    if last is None:
        return replace(result, refreshed=False, rows=0, fetched_at=None)
    return replace(
        result,
        refreshed=False,
        rows=len(last.book),
        fetched_at=last.facts.fetched_at,
        intakes=result.intakes or last.facts.intakes,
        notes=result.notes or last.facts.notes,
    )


def _check_fetched_rows(
    name: str, parts: tuple[FetchedRows, ...], last: CachedBook | None, cache: BookCache, now: datetime
) -> tuple[pl.DataFrame, RefreshResult]:
    """Return what to store, new rows and old ones where new ones are missing or may not replace them."""
    if not parts:
        raise FetchError(name, "it gave no price list; update trainfare")
    unconfirmed = read_book(cache, f"{name}{_UNCONFIRMED}")
    read = pl.concat([_as_text(part, now) for part in parts], how="vertical")
    before = (None if cached is None else cached.book.frame for cached in (last, unconfirmed))
    book = PriceBook.from_rows(read, origin=name, last=LastPrices(*before))
    _store_unconfirmed(cache, name, book, now)
    intakes = _with_parser_counts(name, book.intakes, parts)
    machines_read = read.select("provider", "service", *_MACHINE).unique()
    rows, result = _merge_services(book.rows, machines_read, intakes, last, now)
    notes = (*(note for part in parts for note in part.notes), *result.notes)
    return rows, replace(result, notes=tuple(dict.fromkeys(notes)))


def _store_unconfirmed(cache: BookCache, name: str, book: PriceBook, now: datetime) -> None:
    """Store the rows that the next fetch can confirm."""
    waiting = [rows.filter(pl.col("set_aside").is_in(CONFIRMABLE)) for rows in book.set_aside]
    height = sum(rows.height for rows in waiting)
    if not height:
        cache.discard(f"{name}{_UNCONFIRMED}")
        return
    counts = Intake(name, name, "unconfirmed", height, height)
    facts = BookFacts(fetched_at=now, intakes=(counts,))
    write_book(cache, f"{name}{_UNCONFIRMED}", pl.concat(waiting), facts)


def _merge_services(
    new: pl.DataFrame,
    machines_read: pl.DataFrame,
    intakes: tuple[Intake, ...],
    last: CachedBook | None,
    now: datetime,
) -> tuple[pl.DataFrame, RefreshResult]:
    """
    Replace old rows by new ones, service by service, where the new ones may.

    A part (service, purchase option, region) that was not asked for this time keeps its old prices and their date; so
    does a machine that the new list of its part lacks, marked and for `UNLISTED_DAYS`.
    """
    today = pl.lit(now.astimezone(timezone.utc).date())
    old = new.head(0) if last is None else last.book.frame.select(new.columns)
    before = (
        {} if last is None else {(intake.provider, intake.service): intake for intake in last.facts.intakes}
    )
    rows: list[pl.DataFrame] = []
    counts: list[Intake] = []
    problems: list[str] = []
    notes: list[str] = []
    replaced = False
    for intake in intakes:
        if not intake.rows_read:
            continue
        key = (intake.provider, intake.service)
        fresh, stored, here = (_of_service(frame, *key) for frame in (new, old, machines_read))
        asked = stored.join(here, on=_PART, how="semi")
        why = why_not_replaced(fresh, asked.filter(~is_unlisted()))
        if why is not None:
            problems.append(f"{'/'.join(key)}: {why}; the last good prices stay")
            rows.append(stored)
            counts.append(before.get(key, intake) if stored.height else intake)
            continue
        replaced = True
        left = stored.join(here, on=_PART, how="anti")
        unlisted = keep_unlisted(asked.join(here, on=_MACHINE, how="anti"), today)
        rows += [fresh, left, unlisted]
        counts.append(intake.add(accepted=left.height + unlisted.height))
        if unlisted.height:
            notes.append(
                f"{'/'.join(key)}: {unlisted.height:,} prices of machines that the list lacks keep their date, for "
                f"{UNLISTED_DAYS} days"
            )
        if left.height:
            notes.append(
                f"{'/'.join(key)}: {left.height:,} prices were not asked for now and keep their date"
            )
    read = {(intake.provider, intake.service) for intake in intakes if intake.rows_read}
    for key, intake in sorted(before.items()):
        if key not in read:
            rows.append(_of_service(old, *key))
            counts.append(intake)
            notes.append(f"{'/'.join(key)}: was not asked for now and keeps its prices and their date")
    together = pl.concat(rows) if rows else new
    problem = "; ".join(problems) or None
    result = RefreshResult(replaced, together.height, now, tuple(counts), tuple(notes), problem)
    return together, result


def _of_service(frame: pl.DataFrame, provider: str, service: str) -> pl.DataFrame:
    return frame.filter((pl.col("provider") == provider) & (pl.col("service") == service))


def _as_text(part: FetchedRows, now: datetime) -> pl.DataFrame:
    """Return the rows as text in every column, with a fetch time in each, so that parts can be concatenated."""
    if part.rows.is_empty():  # selecting from a frame without columns would give one row of blanks
        text = {name: pl.Boolean if kind is pl.Boolean else pl.String for name, kind in BOOK_SCHEMA.items()}
        return pl.DataFrame(schema=text)
    stamp = now.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    columns: list[pl.Expr] = []
    for column, kind in BOOK_SCHEMA.items():
        there = column in part.rows.columns
        value = pl.col(column).cast(pl.String) if there else pl.lit(None, dtype=pl.String).alias(column)
        if kind is pl.Boolean:
            value = pl.col(column).cast(pl.Boolean) if there else pl.lit(False).alias(column)
        columns.append(value.fill_null(stamp) if column == "fetched_at" else value)
    return part.rows.select(columns)


def _with_parser_counts(
    name: str, intakes: tuple[Intake, ...], parts: tuple[FetchedRows, ...]
) -> tuple[Intake, ...]:
    """Add the parsers' own counts of filtered and quarantined rows to the counts of the checks."""
    intakes_by_service = {(intake.provider, intake.service): intake for intake in intakes}
    for part in parts:
        key = (part.provider, part.service)
        was = intakes_by_service.get(key, Intake(name, *key, 0, 0))
        intakes_by_service[key] = was.add(part.filtered, part.quarantined)
    return tuple(intakes_by_service[key] for key in sorted(intakes_by_service))
