"""Damaged Parquet files: each is read, or an exception of polars that callers catch."""

from __future__ import annotations

import io

import polars as pl
import pytest

from builders.offers import small_market
from trainfare_core.errors import PricesUnavailableError
from trainfare_core.prices.book import PriceBook
from trainfare_core.prices.parquet import read_table


@pytest.fixture(scope="module")
def whole() -> bytes:
    file = io.BytesIO()
    small_market().frame.head(2).write_parquet(file)
    return file.getvalue()


def test_a_whole_file_is_read(whole: bytes) -> None:
    assert read_table(io.BytesIO(whole)).equals(small_market().frame.head(2))


def test_no_damage_of_a_byte_is_a_panic(whole: bytes) -> None:
    """Some damage makes polars panic, which is no `Exception`: callers would end with "a defect of trainfare"."""
    refused = 0
    for index in range(4, len(whole), 29):
        damaged = bytearray(whole)
        damaged[index] ^= 0xFF
        try:
            assert isinstance(read_table(io.BytesIO(bytes(damaged))), pl.DataFrame)
        except (pl.exceptions.PolarsError, OSError):
            refused += 1
    assert refused > 5


def test_a_cut_file_costs_its_source_alone(whole: bytes) -> None:
    """With what a footer says about bytes that are not there."""
    for size in (len(whole) // 2, len(whole) - 9):
        cut = whole[:4] + whole[len(whole) - size :]
        with pytest.raises(PricesUnavailableError, match="test: the price table cannot be read"):
            PriceBook.read_parquet(io.BytesIO(cut), origin="test")
