"""
The seal of a price file: what is known about its rows, and a SHA-256 over all of it.

It stands between the last row group and the footer, where no Parquet reader looks, so the file stays plain Parquet,
and one rename brings rows, facts and checksum together:

    Parquet rows | facts as JSON | SHA-256 | length of the facts | TFSEAL01 | Parquet footer
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from pydantic import AwareDatetime, ValidationError

from trainfare_core.documents import Record
from trainfare_core.prices.intake import Intake

__all__ = ["BookFacts", "SealError", "SealedFile", "opened", "sealed"]

SCHEMA_VERSION: Final = 1
_MARK: Final = b"TFSEAL01"
_DIGEST_BYTES: Final = 32
_LENGTH_BYTES: Final = 8
_FOOTER_END: Final = b"PAR1"


class BookFacts(Record):
    """
    What is known about the rows of a price file.

    Attributes:
        fetched_at: when the last refresh that succeeded began, UTC.
        intakes: what became of every row that was read, per cloud service.
        notes: sentences for people: what was left out and why.
    """

    schema_version: int = SCHEMA_VERSION
    fetched_at: AwareDatetime
    tool_version: str = ""
    intakes: tuple[Intake, ...] = ()
    notes: tuple[str, ...] = ()


class SealError(Exception):
    """Why a file is not one of ours, or not any more."""


@dataclass(frozen=True, slots=True)
class SealedFile:
    """A file whose checksum is right: plain Parquet still, and the facts in it."""

    content: bytes
    facts: BookFacts
    sha256: str


def sealed(parquet: bytes, facts: BookFacts) -> bytes:
    """Return a Parquet file with its seal."""
    footer_at = _footer_at(parquet)
    text = facts.model_dump_json().encode()
    rows, footer = parquet[:footer_at], parquet[footer_at:]
    end = len(text).to_bytes(_LENGTH_BYTES, "little") + _MARK
    digest = hashlib.sha256(b"".join((rows, text, end, footer))).digest()
    return b"".join((rows, text, digest, end, footer))


def opened(content: bytes) -> SealedFile:
    """
    Check the seal of a file.

    Raises:
        SealError: no seal, damaged, or of another schema version.
    """
    footer_at = _footer_at(content)
    end_at = footer_at - _LENGTH_BYTES - len(_MARK)
    digest_at = end_at - _DIGEST_BYTES
    if digest_at < 0 or content[footer_at - len(_MARK) : footer_at] != _MARK:
        raise SealError("it has no seal of trainfare")
    facts_at = digest_at - int.from_bytes(content[end_at : end_at + _LENGTH_BYTES], "little")
    view = memoryview(content)
    hasher = hashlib.sha256(view[:digest_at])
    hasher.update(view[end_at:])
    if facts_at < 0 or hasher.digest() != content[digest_at:end_at]:
        raise SealError("its checksum is wrong")
    try:
        facts = BookFacts.model_validate_json(content[facts_at:digest_at])
    except ValidationError:
        raise SealError("it was written by another version of trainfare") from None
    if facts.schema_version != SCHEMA_VERSION:
        raise SealError(f"its schema version is {facts.schema_version}, not {SCHEMA_VERSION}")
    return SealedFile(content, facts, hasher.hexdigest())


def _footer_at(content: bytes) -> int:
    """Return where the Parquet footer begins."""
    if len(content) < 12 or content[-4:] != _FOOTER_END or content[:4] != _FOOTER_END:
        raise SealError("it is not a whole Parquet file")
    footer_at = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    if footer_at < 4:
        raise SealError("it is not a whole Parquet file")
    return footer_at
