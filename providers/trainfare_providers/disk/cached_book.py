"""
Price books in the cache: what a checked file says of its rows, and its rows as they were accepted.

A file whose checksum is right holds what `prices.accept` let through: it is not judged again. A release that accepts
less than the one before raises `checked_parquet.SCHEMA_VERSION`.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import polars as pl

from trainfare_core.prices.book import PriceBook
from trainfare_core.prices.intake import BOOK_SCHEMA
from trainfare_core.prices.parquet import read_table
from trainfare_providers.disk.cache import BookCache
from trainfare_providers.disk.checked_parquet import BookFacts, DamagedFileError, check_content, with_checksum


@dataclass(frozen=True, slots=True)
class CachedBook:
    """
    The last good prices of one cloud.

    Attributes:
        book: its offers; their intakes are those of the refresh that read them.
        facts: when they were fetched, what became of every row, notes.
        sha256: of the file, without the bytes of the checksum itself.
    """

    book: PriceBook
    facts: BookFacts
    sha256: str


def read_book(cache: BookCache, name: str) -> CachedBook | None:
    """
    Return the prices kept under a name, or None where there are none; a damaged file is set aside with a warning.

    Raises:
        InputError: the name cannot be that of a file.
    """
    content = cache.read(name)
    if content is None:
        return None
    try:
        facts, sha256 = check_content(content)
        return CachedBook(PriceBook(_read_rows(content, facts), facts.intakes), facts, sha256)
    except DamagedFileError as error:
        cache.set_aside(name, str(error))
        return None


def _read_rows(content: bytes, facts: BookFacts) -> pl.DataFrame:
    try:
        rows = read_table(io.BytesIO(content))
    except (OSError, pl.exceptions.PolarsError):
        raise DamagedFileError("its rows cannot be read") from None
    if dict(rows.schema) != dict(BOOK_SCHEMA):
        raise DamagedFileError("its rows are not those of a price book")
    if rows.height != sum(intake.accepted for intake in facts.intakes):
        raise DamagedFileError("its number of rows is not the one it states")
    return rows


def write_book(cache: BookCache, name: str, rows: pl.DataFrame, facts: BookFacts) -> bool:
    """
    Store accepted rows (`BOOK_SCHEMA`) under a name, replacing what is there; say whether they are stored.

    Raises:
        InputError: the name is none for a file.
    """
    buffer = io.BytesIO()
    rows.select(*BOOK_SCHEMA).write_parquet(buffer, compression="zstd", compression_level=1)
    return cache.write(name, with_checksum(buffer.getvalue(), facts))
