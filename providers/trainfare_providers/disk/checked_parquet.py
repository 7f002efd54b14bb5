"""
Parquet files that also hold facts about their rows and a SHA-256 over the whole file.

Facts and checksum are stored between the last row group and the footer, which Parquet readers skip. So any of them
can read the file, and one rename replaces rows, facts and checksum together:

    Parquet rows | facts as JSON | SHA-256 | length of the facts | TFSEAL01 | Parquet footer
"""

from __future__ import annotations

import hashlib
from typing import Final

from pydantic import AwareDatetime, ValidationError

from trainfare_core.documents import Record
from trainfare_core.prices.facts import Intake

SCHEMA_VERSION: Final = 1
_MARK: Final = b"TFSEAL01"
"""Part of the file format: files that earlier versions wrote have it."""
_DIGEST_BYTES: Final = 32
_LENGTH_BYTES: Final = 8
_FOOTER_END: Final = b"PAR1"


class BookFacts(Record):
    """
    What a price file says about its rows.

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


class DamagedFileError(Exception):
    """A file that trainfare did not write, or that is damaged."""


def with_checksum(parquet: bytes, facts: BookFacts) -> bytes:
    """Return a Parquet file with facts and checksum added."""
    footer_at = _footer_at(parquet)
    text = facts.model_dump_json().encode()
    rows, footer = parquet[:footer_at], parquet[footer_at:]
    end = len(text).to_bytes(_LENGTH_BYTES, "little") + _MARK
    digest = hashlib.sha256(b"".join((rows, text, end, footer))).digest()
    return b"".join((rows, text, digest, end, footer))


def check_content(content: bytes) -> tuple[BookFacts, str]:
    """
    Return the facts of a file whose checksum is right, and that.

    Raises:
        DamagedFileError: it has no checksum, another one, or another schema version.
    """
    footer_at = _footer_at(content)
    end_at = footer_at - _LENGTH_BYTES - len(_MARK)
    digest_at = end_at - _DIGEST_BYTES
    if digest_at < 0 or content[footer_at - len(_MARK) : footer_at] != _MARK:
        raise DamagedFileError("it was not written by trainfare")
    facts_at = digest_at - int.from_bytes(content[end_at : end_at + _LENGTH_BYTES], "little")
    view = memoryview(content)
    hasher = hashlib.sha256(view[:digest_at])
    hasher.update(view[end_at:])
    if facts_at < 0 or hasher.digest() != content[digest_at:end_at]:
        raise DamagedFileError("its checksum is wrong")
    try:
        facts = BookFacts.model_validate_json(content[facts_at:digest_at])
    except ValidationError:
        raise DamagedFileError("it was written by another version of trainfare") from None
    if facts.schema_version != SCHEMA_VERSION:
        raise DamagedFileError(f"its schema version is {facts.schema_version}, not {SCHEMA_VERSION}")
    return facts, hasher.hexdigest()


def _footer_at(content: bytes) -> int:
    """Return where the Parquet footer begins."""
    has_ends = len(content) >= 12 and content[-4:] == content[:4] == _FOOTER_END
    footer_at = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    if not has_ends or footer_at < 4:
        raise DamagedFileError("it is not a whole Parquet file")
    return footer_at
