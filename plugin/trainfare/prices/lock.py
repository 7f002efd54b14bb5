"""
`trainfare.lock`: a file of exact prices, for version control.

A lock is text with one JSON object a line, so that a diff shows which price changed: a header, then one line per cloud
service with the hash of its prices, then one line per price, sorted; last the SHA-256 of all lines above. Nothing in it
depends on the machine that wrote it, and both kinds of line ends are read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, NoReturn, cast

from pydantic import Field, ValidationError

from trainfare_core.documents import Record
from trainfare_core.errors import PriceLockError
from trainfare_core.prices.facts import ServiceFacts
from trainfare_core.prices.listing import OfferFilters
from trainfare_providers.disk.files import read_input

if TYPE_CHECKING:
    import polars as pl

    from trainfare_core.prices.book import PriceBook

LOCK_FILE: Final = "trainfare.lock"
MAX_BYTES: Final = 512 * 2**20
"""Largest file that is read. A chosen value, against filling the memory."""

_SERVICE_FACTS: Final = {"provider", "service", "origin", "rows", "oldest", "newest", "fetched_at"}
_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class LockHeader(Record):
    """First line: date, version, filters, and the age that the prices may reach."""

    trainfare_lock: Literal[1] = 1
    tool_version: str
    locked_on: date
    filters: OfferFilters = OfferFilters()
    """In the spelling of the book."""
    max_price_age_days: Annotated[int, Field(ge=0, le=100_000)] = 30
    on_stale: Literal["warn", "fail"] = "warn"
    own_prices_sha256: _Sha256 | None = None
    rows: Annotated[int, Field(ge=1)]


class _ServiceLine(ServiceFacts):
    """Line of one cloud service: source, dates, count and hash of its prices."""

    fetched_at: str | None = None
    sha256: _Sha256


@dataclass(frozen=True, slots=True)
class PriceLock:
    """A lock as read: `sha256` is the one that it ends with."""

    header: LockHeader
    book: PriceBook
    sha256: str


def lock_text(header: LockHeader, book: PriceBook) -> str:
    """
    Return a lock; the same header and prices give the same bytes, in any order of rows.

    Args:
        header: `rows` is set here.
        book: the prices to lock.

    Raises:
        PriceLockError: there is no price to lock.
    """
    from trainfare_core.prices.intake import KEY_COLUMNS

    if not len(book):
        raise PriceLockError("there is no price to lock; drop a filter")
    frame = book.rows.sort(list(KEY_COLUMNS))
    prices = [(_service_of(row), _write_line(row)) for row in frame.iter_rows(named=True)]
    head = header.model_copy(update={"rows": frame.height}).model_dump(mode="json")
    services = _service_lines(book, prices)
    lines = [
        _write_line(head),
        *(_write_line(service.model_dump(mode="json")) for service in services),
        *(line for _, line in prices),
    ]
    body = "\n".join(lines) + "\n"
    return body + _write_line({"sha256": hashlib.sha256(body.encode()).hexdigest()}) + "\n"


def _service_of(row: dict[str, Any]) -> tuple[str, str, str]:
    return row["provider"], row["service"], row["origin"]


def _write_line(fields: dict[str, Any]) -> str:
    """Return a JSON line in ASCII, blank fields left out: the same text under any locale."""
    fields_set = {name: value for name, value in fields.items() if value is not None and value is not False}
    return json.dumps(fields_set, ensure_ascii=True, allow_nan=False, separators=(", ", ": "))


def _service_lines(book: PriceBook, prices: Sequence[tuple[tuple[str, str, str], str]]) -> list[_ServiceLine]:
    return [
        _ServiceLine(
            **facts.model_dump(include=_SERVICE_FACTS),
            sha256=hashlib.sha256(
                "".join(f"{line}\n" for service, line in prices if service == key).encode()
            ).hexdigest(),
        )
        for facts in book.facts()
        for key in ((facts.provider, facts.service, facts.origin),)
    ]


def read_lock(path: Path) -> PriceLock:
    """
    Read a lock and check every hash, count and price in it.

    Raises:
        PriceLockError: it cannot be read, is damaged or edited, or was written by a newer trainfare.
    """
    text = _read_text(path)
    lines = text.splitlines()
    body, sha256 = _split_signed_lines(path, text, lines)
    documents = [_document(path, number, line) for number, line in enumerate(body, start=1)]
    header = _parse_header(path, documents[0])
    count = len(documents) - header.rows
    if count < 1:
        _refuse(path, f"it says {header.rows:,} prices and holds fewer")
    try:
        services = [_ServiceLine.model_validate(document) for document in documents[1:count]]
    except ValidationError as error:
        _refuse(path, f"a service line is not one: {error.errors()[0]['msg']}")
    book = _book(path, documents[count:])
    if services != _service_lines(
        book, [(_service_of(row), line) for row, line in zip(documents[count:], body[count:], strict=True)]
    ):
        _refuse(path, "the hash or the count of a cloud service is not that of its prices")
    if lock_text(header, book) != "\n".join(lines) + "\n":
        _refuse(path, "its prices are not in the order or form that trainfare writes")
    return PriceLock(header, book, sha256)


def _refuse(path: Path, why: str) -> NoReturn:
    raise PriceLockError(
        f"price lock {path}: {why}. It is damaged or was edited: take it from version control again, or write "
        "a new one with `trainfare prices lock`"
    )


def _read_text(path: Path) -> str:
    data = read_input(
        path,
        MAX_BYTES,
        label="price lock ",
        kind="a price lock",
        hint="; `trainfare prices lock` writes one",
        error=PriceLockError,
    )
    try:
        return data.decode("ascii").replace("\r\n", "\n")
    except UnicodeDecodeError:
        _refuse(path, "it is not ASCII text")


def _split_signed_lines(path: Path, text: str, lines: list[str]) -> tuple[list[str], str]:
    """Return the lines above the last, and the hash on the last line."""
    if len(lines) < 4 or not text.endswith("\n"):
        _refuse(path, "it ends early")
    body = "".join(f"{line}\n" for line in lines[:-1])
    sha256 = hashlib.sha256(body.encode()).hexdigest()
    if lines[-1] != _write_line({"sha256": sha256}):
        _refuse(path, "its last line is not the SHA-256 of what stands above it")
    return lines[:-1], sha256


def _document(path: Path, number: int, line: str) -> dict[str, Any]:
    def not_a_number(text: str) -> NoReturn:
        raise ValueError(text)

    try:
        document: object = json.loads(line, parse_constant=not_a_number)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        _refuse(path, f"line {number} is no JSON object")
    return cast("dict[str, Any]", document)


def _parse_header(path: Path, document: dict[str, Any]) -> LockHeader:
    version = document.get("trainfare_lock")
    if isinstance(version, int) and version > 1:
        raise PriceLockError(
            f"price lock {path}: written by a newer trainfare (form {version}); update trainfare"
        )
    try:
        return LockHeader.model_validate(document)
    except ValidationError as error:
        problem = error.errors()[0]
        _refuse(
            path,
            f"its first line is not that of a lock ({'.'.join(map(str, problem['loc']))}: {problem['msg']})",
        )


def _book(path: Path, rows: list[dict[str, Any]]) -> PriceBook:
    """Return the prices, each put through the checks that every price goes through."""
    import polars as pl

    from trainfare_core.prices.book import PriceBook
    from trainfare_core.prices.intake import BOOK_SCHEMA

    if any(set(row) - set(BOOK_SCHEMA) for row in rows):
        _refuse(path, "a price has a field that is none of ours")
    try:
        frame = pl.DataFrame(
            {
                name: pl.Series(name, [row.get(name) for row in rows], dtype=kind())
                for name, kind in BOOK_SCHEMA.items()
            }
        ).with_columns(pl.col("observed_on_estimated").fill_null(value=False))
    except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError):
        # Not of the type, half of a surrogate pair, or an integer beyond any float.
        _refuse(path, "a field of a price has the wrong type, or a value that no price has")
    accepted = PriceBook.from_rows(frame, origin="lock")
    if len(accepted) != frame.height:
        reasons = [
            tally.reason for intake in accepted.intakes for tally in (*intake.quarantined, *intake.filtered)
        ]
        _refuse(path, f"a row is no price ({reasons[0]})")
    if frame["origin"].null_count():
        _refuse(path, "a price does not name its origin")
    return _with_origins(frame)


def _with_origins(frame: pl.DataFrame) -> PriceBook:
    """Return a book with the origin of each price, as in the book that was locked."""
    from trainfare_core.prices.book import PriceBook
    from trainfare_core.prices.facts import Intake

    shares = frame.group_by("origin", "provider", "service").len().sort("origin", "provider", "service")
    intakes = tuple(
        Intake(origin, provider, service, rows, rows)
        for origin, provider, service, rows in shares.iter_rows()
    )
    return PriceBook(frame, intakes)
