"""Check fetched prices, price lists and locks: the report of `trainfare prices verify`."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from trainfare.prices.lock import read_lock
from trainfare_core.documents import Document, Record
from trainfare_core.errors import InputError, TrainfareError
from trainfare_core.installation import __version__
from trainfare_core.prices.facts import ReasonCount
from trainfare_providers.plugins import ProviderEntry, provider_entries

if TYPE_CHECKING:
    from trainfare_core.prices.book import PriceBook
    from trainfare_providers.disk.cache import BookCache


class Verified(Record):
    """One price list: a plug-in's, or a lock."""

    name: str
    rows: int
    sha256: str | None = Field(description="of the file, where it is sealed; None: nothing was ever fetched")
    fetched_at: str | None = Field(description="when its first price was fetched; None: shipped, or nothing")
    findings: tuple[str, ...] = Field(description="what is wrong; empty where all is well")
    accepted: tuple[ReasonCount, ...] = Field(
        default=(), description="prices of the snapshot that look odd and are right, with the reason"
    )


class PricesVerification(Document):
    """Result of `prices verify`, price lists by name."""

    schema_version: Literal[1] = 1
    tool_version: str
    lists: tuple[Verified, ...]


def verify_prices(
    *, cache: BookCache, lock: Path | None = None, entries: Iterable[ProviderEntry] | None = None
) -> PricesVerification:
    """
    Check every plug-in's prices, and a lock.

    Args:
        cache: where live prices are kept.
        lock: a lock to check besides.
        entries: the plug-ins; None takes the installed ones.
    """
    lists = [_of_plugin(entry, cache) for entry in provider_entries(entries)]
    if lock is not None:
        lists.append(_of_lock(lock))
    return PricesVerification(tool_version=__version__, lists=tuple(lists))


def verify_snapshot(book: PriceBook) -> PricesVerification:
    """Check every price of the shipped snapshot beside the others: `trainfare_providers.whole_book`."""
    from trainfare_core.prices.book import PriceBook
    from trainfare_providers.conformance import check_book
    from trainfare_providers.whole_book import check_whole_book

    joined = PriceBook.concat([book])
    odd, accepted = check_whole_book(joined.rows)
    findings = [f"{finding.rule}: {finding.detail}" for finding in (*check_book(joined), *odd)]
    verified = _summarize_verified("snapshot", joined, None, findings)
    answer = verified.model_copy(update={"accepted": accepted})
    return PricesVerification(tool_version=__version__, lists=(answer,))


def _of_plugin(entry: ProviderEntry, cache: BookCache) -> Verified:
    from trainfare_providers.conformance import Finding, check_book, load_for_check

    try:
        provider = entry.load()()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - foreign code: a plug-in may fail in any way
        return _report_nothing(
            entry.name, f"the plug-in is broken ({type(error).__name__}): update or remove it"
        )
    if hasattr(provider, "fetch"):
        return _of_file(entry.name, cache)
    book = load_for_check(provider, may_connect=True)
    if isinstance(book, Finding):
        return _report_nothing(entry.name, f"{book.rule}: {book.detail}")
    return _summarize_verified(
        entry.name, book, None, [f"{finding.rule}: {finding.detail}" for finding in check_book(book)]
    )


def _of_file(name: str, cache: BookCache) -> Verified:
    from trainfare_providers.conformance import check_book
    from trainfare_providers.disk.cached_book import read_book

    try:
        with _warnings() as messages:
            cached = read_book(cache, name)
    except InputError as error:
        return _report_nothing(name, str(error))
    if cached is None:
        return Verified(name=name, rows=0, sha256=None, fetched_at=None, findings=tuple(messages))
    findings = [f"{finding.rule}: {finding.detail}" for finding in check_book(cached.book)]
    return _summarize_verified(name, cached.book, cached.sha256, [*messages, *findings])


def _of_lock(path: Path) -> Verified:
    try:
        lock = read_lock(path)
    except TrainfareError as error:
        return _report_nothing(str(path), str(error))
    return _summarize_verified(str(path), lock.book, lock.sha256, [])


def _summarize_verified(name: str, book: PriceBook, sha256: str | None, findings: list[str]) -> Verified:
    fetched = [facts.fetched_at for facts in book.facts() if facts.fetched_at is not None]
    first = min(fetched) if fetched else None
    return Verified(name=name, rows=len(book), sha256=sha256, fetched_at=first, findings=tuple(findings))


def _report_nothing(name: str, finding: str) -> Verified:
    return Verified(name=name, rows=0, sha256=None, fetched_at=None, findings=(finding,))


@contextmanager
def _warnings() -> Generator[list[str]]:
    """Collect the warnings of the cache while it reads: it does not raise for a damaged file."""
    messages: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    handler, log = Collector(level=logging.WARNING), logging.getLogger("trainfare")
    log.addHandler(handler)
    try:
        yield messages
    finally:
        log.removeHandler(handler)
