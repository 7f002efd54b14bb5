"""
AWS's public offer files (CSV, up to 3 GB), parsed row by row while they arrive.

A file has five lines of metadata, a header, then one line a price. Columns differ between offers and years,
so they are found by name.
"""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from trainfare_core.errors import PricesUnavailableError
from trainfare_providers.aws.price_list import COLUMNS, PriceRecord, column_name

_MAX_LINE_CHARS: Final = 1_000_000  # a body without line ends must not fill the memory
_PREAMBLE_LINES: Final = 20  # the header is the sixth line of today's files

_NEEDED: Final[Mapping[str, frozenset[str]]] = {
    "AmazonEC2": frozenset(COLUMNS) - {"gpu", "instancefamily"},
    "AmazonSageMaker": frozenset(
        ["sku", "termtype", "unit", "priceperunit", "currency", "effectivedate", "regioncode", "usagetype"]
    ),
}


def read_offer_csv(chunks: Iterable[bytes], *, offer: str) -> Iterator[PriceRecord | None]:
    """
    Yield the records of an offer file; None stands for a row that cannot be read.

    Args:
        chunks: the body in chunks of any size.
        offer: AmazonEC2 or AmazonSageMaker.

    Raises:
        PricesUnavailableError: it is not the CSV of that offer.
    """
    needed = [COLUMNS[field] for field in sorted(_NEEDED[offer])]
    fields: list[tuple[str, int]] | None = None
    for cells, columns in read_rows(chunks, offer=offer, needed=needed):
        if fields is None:
            fields = [
                (field, next(columns[name] for name in names if name in columns))
                for field, names in COLUMNS.items()
                if any(name in columns for name in names)
            ]
        yield None if cells is None else PriceRecord(**{field: cells[at] for field, at in fields})


def read_rows(
    chunks: Iterable[bytes], *, offer: str, needed: Iterable[tuple[str, ...]]
) -> Iterator[tuple[list[str] | None, Mapping[str, int]]]:
    """
    Yield each row below the header, with the columns' positions; None for a row that cannot be read.

    Args:
        chunks: the body in chunks of any size.
        offer: what the file's `OfferCode` must be.
        needed: columns by name, letters and digits only; one of each group must be there.

    Raises:
        PricesUnavailableError: another file, or one whose header is not a price list's.
    """
    reader = csv.reader(_split_lines(chunks, offer))
    header = _read_header(reader, offer)
    names = [column_name(name) for name in header]
    columns = {name: at for at, name in enumerate(names) if names.count(name) == 1}
    missing = [group[0] for group in needed if not any(name in columns for name in group)]
    if missing:
        msg = f"aws: the price file of {offer} has no column {', '.join(missing)}, or has it twice; update trainfare"
        raise PricesUnavailableError(msg)
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error:
            yield None, columns
            continue
        if row:
            yield row if len(row) == len(header) else None, columns


def _read_header(reader: Iterator[list[str]], offer: str) -> list[str]:
    code = ""
    for _ in range(_PREAMBLE_LINES):
        try:
            row = next(reader)
        except (StopIteration, csv.Error):
            break
        if row[:1] == ["OfferCode"]:
            code = row[1] if len(row) > 1 else ""
        if row[:1] == ["SKU"] and code == offer:
            return row
    detail = f", it is of {code[:40]!r}" if code and code != offer else ""
    raise PricesUnavailableError(f"aws: the answer is not the price file of {offer}{detail}")


def _split_lines(chunks: Iterable[bytes], offer: str) -> Iterator[str]:
    """Split the body into lines, keeping no more than one in memory."""
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    rest = ""
    try:
        for chunk in chunks:
            whole = rest + decoder.decode(chunk)
            lines = whole.split("\n")
            rest = lines.pop()
            if len(rest) > _MAX_LINE_CHARS:
                raise PricesUnavailableError(f"aws: the price file of {offer} has a line that does not end")
            for line in lines:
                yield line + "\n"
        rest += decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        raise PricesUnavailableError(f"aws: the price file of {offer} is not UTF-8") from None
    if rest:
        yield rest
