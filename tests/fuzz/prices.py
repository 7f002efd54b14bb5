"""Targets: rows of prices, the files that hold them, and the lock."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import datetime, timezone
from functools import cache
from io import BytesIO
from typing import Any, Final

import polars as pl

from builders.offers import offer_row
from fuzz.market import book
from fuzz.target import Target, file_of
from trainfare.prices.lock import LockHeader, lock_text, read_lock
from trainfare_core.errors import PriceLockError, PricesUnavailableError
from trainfare_core.prices.accept import accept
from trainfare_core.prices.book import PriceBook
from trainfare_core.prices.facts import Intake
from trainfare_core.prices.parquet import read_table
from trainfare_core.prices.sanity import LastPrices
from trainfare_providers.disk.cache import BookCache
from trainfare_providers.disk.cached_book import read_book, write_book
from trainfare_providers.disk.checked_parquet import BookFacts, with_checksum
from trainfare_providers.disk.folder import price_file
from trainfare_providers.disk.part_files import PartFile
from trainfare_providers.shared_book import SharedBook

_FETCHED: Final = datetime(2026, 8, 1, tzinfo=timezone.utc)
_HEADER: Final = LockHeader(tool_version="1.2.3", locked_on=_FETCHED.date(), rows=1)
_DIGEST_BYTES: Final = 32
_MARK: Final = b"TFSEAL01"
_FACTS: Final = BookFacts(fetched_at=_FETCHED, intakes=(Intake("aws", "aws", "ec2", 2, 2),))
_PART: Final = b"the beginning of a download"


def _rows(data: bytes) -> None:
    """Rows of any plug-in: checked, kept on disk and locked, and read again."""
    rows = PriceBook.from_rows(_table(data), origin="other")
    judged = accept(rows.rows, origin="other", last=LastPrices(book().rows))
    for frame in (rows.frame, judged.rows):
        assert (frame["usd_per_hour"].is_finite() & (frame["usd_per_hour"] > 0)).all()
    joined = PriceBook.concat([rows, book()])
    joined.facts()
    joined.shapes()
    if not len(rows):
        return
    text = lock_text(_HEADER, rows)
    with file_of(text.encode(), "trainfare.lock") as path:
        locked = read_lock(path)
    assert lock_text(locked.header, locked.book) == text
    with file_of(b"", "empty") as path:
        cache = BookCache(path.parent)
        assert write_book(cache, "other", rows.frame, BookFacts(fetched_at=_FETCHED, intakes=rows.intakes))
        cached_book = read_book(cache, "other")
    assert cached_book is not None
    assert len(cached_book.book) == len(rows)


def _table(data: bytes) -> pl.DataFrame:
    """Return JSON rows as a table whose columns have the type that polars infers."""
    try:
        rows = json.loads(data)
        return pl.DataFrame(rows, infer_schema_length=None, strict=False, orient="row")
    except (ValueError, TypeError, OverflowError, RecursionError, pl.exceptions.PolarsError):
        raise PricesUnavailableError("no table") from None
    except BaseException as error:
        if "Panic" in type(error).__name__:  # of polars, while the target makes its table
            raise PricesUnavailableError("no table") from None
        raise


def _row_tables() -> Sequence[bytes]:
    spot = offer_row(
        purchase_option="spot", zone="use1-az1", usd_per_hour=9.5, sku="A", interruption_band="<5%"
    )
    text = {name: str(value) for name, value in offer_row().items() if value is not None}
    return [json.dumps([offer_row(), spot]).encode(), json.dumps([text, text]).encode()]


@cache
def _parquet() -> bytes:
    buffer = BytesIO()
    book().rows.head(2).write_parquet(buffer)
    return buffer.getvalue()


def _read_here(where: str, limit_s: float | None) -> pl.DataFrame:
    """Return the rows, read in this process: one for each input would take most of the time."""
    del limit_s
    try:
        return read_table(where)
    except (pl.exceptions.PolarsError, OSError, ValueError):
        raise PricesUnavailableError("it cannot be read") from None


def _read_shared_book(data: bytes) -> None:
    """
    Rows that any other program may have written.

    A damaged file ends the process that reads it, which is why that is one of its own: `tests/providers/test_shared_book.py`.
    """
    table = _table(data)
    with file_of(b"", "book.parquet") as path:
        try:
            table.write_parquet(path)
        except (pl.exceptions.PolarsError, OSError, ValueError, TypeError):
            raise PricesUnavailableError("no table") from None
        book = SharedBook(str(path), read=_read_here).load()
    book.facts()
    book.shapes()


def _price_file(data: bytes) -> None:
    """A price file as it is, and one with these facts whose checksum is right: at most no prices, never an error."""
    for content in (data, _seal_file(data)):
        with file_of(b"", "empty") as empty:
            path = price_file("aws", empty.parent)
            path.write_bytes(content)
            book = read_book(BookCache(empty.parent), "aws")
            assert book is not None or not path.exists(), "neither read nor set aside"


def _seal_file(facts: bytes) -> bytes:
    """
    Return a price file with any bytes for its facts.

    Its rows are honest: a checksum that is right over damaged rows is no accident, and polars ends the process where damage
    makes it ask for more memory than there is.
    """
    whole = with_checksum(_parquet(), _FACTS)
    true = _FACTS.model_dump_json().encode()
    rows, _, rest = whole.partition(true)
    end = len(facts).to_bytes(8, "little") + rest[_DIGEST_BYTES + 8 :][: len(_MARK)]
    footer = rest[_DIGEST_BYTES + 8 + len(_MARK) :]
    digest = hashlib.sha256(b"".join((rows, facts, end, footer))).digest()
    return b"".join((rows, facts, digest, end, footer))


def _price_files() -> Sequence[bytes]:
    other = _FACTS.model_copy(update={"intakes": book().intakes, "notes": ("a note",)})
    return [_FACTS.model_dump_json().encode(), other.model_dump_json().encode()]


def _price_lock(data: bytes) -> None:
    with file_of(_sign_lock(data), "trainfare.lock") as path:
        lock = read_lock(path)
        assert lock_text(lock.header, lock.book).encode() == path.read_bytes()


def _sign_lock(data: bytes) -> bytes:
    """Return a lock whose hashes are right, so that what stands behind them is read too."""
    lines = data.decode("ascii", "replace").replace("\ufffd", "?").split("\n")
    try:
        count = len(lines) - int(json.loads(lines[0])["rows"])
        for at in range(1, count):
            service = json.loads(lines[at])
            key = [service[name] for name in ("provider", "service", "origin")]
            ours = [line for line in lines[count:] if _key(json.loads(line)) == key]
            service["sha256"] = hashlib.sha256("".join(f"{line}\n" for line in ours).encode()).hexdigest()
            lines[at] = json.dumps(service)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError, OverflowError):
        pass  # the lines are read as they are
    body = "".join(f"{line}\n" for line in lines)
    return (body + json.dumps({"sha256": hashlib.sha256(body.encode()).hexdigest()}) + "\n").encode()


def _key(row: Any) -> list[Any]:
    return [row.get(name) for name in ("provider", "service", "origin")]


def _price_lock_as_it_is(data: bytes) -> None:
    with file_of(data, "trainfare.lock") as path:
        read_lock(path)
    if not data.endswith(b"\n"):
        raise PriceLockError("a lock ends with a line end")


def small_lock() -> str:
    """Return a lock of three rows of the small market."""
    return lock_text(_HEADER, book().head(3))


def _locks() -> Sequence[bytes]:
    return [small_lock().rsplit("\n", 2)[0].encode()]


def _part(data: bytes) -> None:
    with file_of(_PART, "x.part") as path:
        path.with_name("x.part.json").write_bytes(data)
        part = PartFile(path)
        facts = part.read_kept()
        assert b"".join(part.chunks()) == (b"" if facts is None else _PART[: facts.size_bytes])
        part.discard()


def _parts() -> Sequence[bytes]:
    facts = {
        "validator": '"etag"',
        "total_bytes": 99,
        "encoding": "",
        "size_bytes": len(_PART),
        "sha256": hashlib.sha256(_PART).hexdigest(),
    }
    return [json.dumps(facts).encode()]


TARGETS = (
    Target(
        "price_rows",
        _rows,
        _row_tables,
        "json",
        ("trainfare_core/prices/intake.py", "trainfare_core/prices/book.py"),
    ),
    Target(
        "shared_book",
        _read_shared_book,
        _row_tables,
        "json",
        (
            "trainfare_providers/shared_book.py",
            "trainfare_core/prices/parquet.py",
            "trainfare_core/prices/intake.py",
        ),
    ),
    Target(
        "price_file",
        _price_file,
        _price_files,
        "json",
        ("trainfare_providers/disk/cache.py", "trainfare_providers/disk/checked_parquet.py"),
    ),
    Target("price_lock", _price_lock, _locks, "json lines", ("trainfare/prices/lock.py",)),
    Target("download_part", _part, _parts, "json", ("trainfare_providers/disk/part_files.py",)),
)
