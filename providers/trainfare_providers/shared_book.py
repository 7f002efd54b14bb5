"""
A team's price book: Parquet files at a URL, refreshed by one person or job and read by many.

`TRAINFARE_PRICE_BOOK` names a file, a folder or a pattern: `s3://`, `gs://`, `abfss://`, or a path. Price files of
`trainfare prices update` can be copied there unchanged. Credentials come from the
cloud's own environment variables and files.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import polars as pl

from trainfare_core.errors import PricesUnavailableError
from trainfare_core.prices.book import PriceBook
from trainfare_core.prices.intake import BOOK_SCHEMA, check_columns
from trainfare_providers.disk.cache import BookCache
from trainfare_providers.disk.cached_book import read_book, write_book
from trainfare_providers.disk.checked_parquet import BookFacts
from trainfare_providers.disk.foreign_parquet import read_foreign_table
from trainfare_providers.http.addresses import redact_url
from trainfare_providers.plugins import BOOK_VARIABLE

_SCHEMES: Final = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "azure", "adl"})
_COPY: Final = "shared-copy"
_log = logging.getLogger("trainfare")


class SharedBook:
    """
    The `PriceProvider` of the files that `TRAINFARE_PRICE_BOOK` names; empty where the variable is not set.

    Every row is checked like any other. Where the book cannot be reached, the copy of the last read is used, with its
    own dates and a warning.

    Args:
        url: None takes the variable.
        cache: where the copy is kept.
        limit_s: seconds to wait for the storage; 10 s is a chosen default, since a ranking waits for it.
        now: the time, to date the copy.
        read: returns the rows of Parquet files, given an address and seconds to wait.
    """

    name = "shared"

    def __init__(
        self,
        url: str | None = None,
        *,
        cache: BookCache | None = None,
        limit_s: float = 10.0,
        now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
        read: Callable[[str, float | None], pl.DataFrame] = lambda where, limit_s: read_foreign_table(
            where, limit_s=limit_s
        ),
    ) -> None:
        self._url = os.environ.get(BOOK_VARIABLE, "").strip() if url is None else url
        self._cache, self._limit_s, self._now, self._read = cache, limit_s, now, read

    def load(self) -> PriceBook:
        """
        Return the book.

        Raises:
            PricesUnavailableError: it cannot be read, and there is no copy of it.
        """
        if not self._url:
            return PriceBook.empty()
        where, remote = _address(self._url)
        if not remote:
            return _book(self._read_rows(where, None, shown=where))
        cache = self._cache or BookCache()
        shown = redact_url(self._url)
        try:
            book = _book(self._read_rows(where, self._limit_s, shown=shown))
        except PricesUnavailableError as error:
            copy = read_book(cache, _COPY)
            if copy is None or copy.facts.notes != (shown,):
                raise
            _log.warning("%s; the copy of %s is used", error, copy.facts.fetched_at.date())
            return copy.book
        facts = BookFacts(fetched_at=self._now(), intakes=book.intakes, notes=(shown,))
        write_book(cache, _COPY, book.rows, facts)
        return book

    def _read_rows(self, where: str, limit_s: float | None, *, shown: str) -> pl.DataFrame:
        try:
            return self._read(where, limit_s)
        except PricesUnavailableError as error:
            advice = "check the address, the network and the credentials"
            raise PricesUnavailableError(f"{BOOK_VARIABLE}: {shown}: {error}; {advice}") from None


def _address(url: str) -> tuple[str, bool]:
    """Return the address for polars, and whether it is in a cloud."""
    scheme = urlsplit(url).scheme.lower() if "://" in url else ""
    if scheme in _SCHEMES:
        names_files = url.endswith(".parquet") or "*" in url
        return url if names_files else f"{url.rstrip('/')}/*.parquet", True
    if scheme:
        hint = "give s3://, gs://, abfss:// or a path"
        raise PricesUnavailableError(f"{BOOK_VARIABLE}: {scheme}:// is not read; {hint}")
    path = Path(url).expanduser()
    return str(path / "*.parquet" if path.is_dir() else path), False


def _book(rows: pl.DataFrame) -> PriceBook:
    """Check the rows; the origin of each is its cloud, as if it had been fetched here."""
    check_columns(rows, origin=BOOK_VARIABLE)
    ours = rows.select([name for name in BOOK_SCHEMA if name in rows.columns])
    clouds = ours["provider"].cast(pl.String).fill_null("").unique().sort().to_list()
    books = [
        PriceBook.from_rows(
            ours.filter(pl.col("provider").cast(pl.String).fill_null("") == cloud),
            origin=cloud or SharedBook.name,
        )
        for cloud in clouds
    ]
    return PriceBook.concat(books)
