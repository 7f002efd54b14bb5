"""`accept`: rows alone, rows beside each other, rows beside the last ones; and who may judge a price at all."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from builders.offers import offer_row, table
from trainfare_core.prices.accept import accept
from trainfare_core.prices.book import PriceBook
from trainfare_core.prices.sanity import ABOVE_ON_DEMAND, JUMPED, LastPrices

TOP = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("last", "reasons"),
    [
        (None, []),
        (LastPrices(), [ABOVE_ON_DEMAND]),
        (
            LastPrices(accept(table(offer_row(usd_per_hour=0.1)), origin="aws").rows),
            [JUMPED, ABOVE_ON_DEMAND],
        ),
    ],
)
def test_rows_are_compared_with_what_is_given(last: LastPrices | None, reasons: list[str]) -> None:
    """A rate that a person agreed on is no list price: only a list is compared with others."""
    rows = table(offer_row(usd_per_hour=1.0), offer_row(purchase_option="spot", usd_per_hour=2.0))
    judged = accept(rows, origin="aws", last=last)
    assert sorted(judged.set_aside["set_aside"]) == sorted(reasons)
    assert judged.rows.height == 2 - len(reasons)
    book = PriceBook.from_rows(rows, origin="aws", last=last)
    assert (book.rows.to_dicts(), book.intakes) == (judged.rows.to_dicts(), judged.intakes)


@pytest.mark.sources
@pytest.mark.parametrize(
    ("function", "caller"),
    [
        ("accept", "core/trainfare_core/prices/book.py"),
        ("judge_alone", "core/trainfare_core/prices/accept.py"),
        ("judge_beside", "core/trainfare_core/prices/accept.py"),
    ],
)
def test_rows_are_judged_in_one_place(function: str, caller: str) -> None:
    """Who judges a row beside `PriceBook.from_rows` judges it a second time."""
    callers = [
        path.relative_to(TOP).as_posix()
        for root in ("core", "providers", "plugin")
        for path in sorted((TOP / root).rglob("*.py"))
        if function in path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == function
    ]
    assert callers == [caller]
