"""Whatever rows come: none is lost, none comes out that is no price, and the order they come in changes nothing."""

from __future__ import annotations

import math
from typing import Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from builders.offers import offer_row, table
from trainfare_core.prices.accept import accept
from trainfare_core.prices.intake import BOOK_SCHEMA, KEY_COLUMNS
from trainfare_core.prices.sanity import CONFIRMABLE, LastPrices, why_not_replaced

NUMBERS = st.sampled_from(
    [
        "0.8",
        "1.0",
        "2.0",
        "4.6",
        "21.957642",
        "33",
        "120",
        "0",
        "-1",
        "nan",
        "inf",
        "1e400",
        "1_0",
        "١٢",
        "",
        "x",
    ]
)
ROWS = st.fixed_dictionaries(
    {
        "instance_type": st.sampled_from(["p4d.24xlarge", "g6.xlarge", "g6.12xlarge", "", "<script>"]),
        "region": st.sampled_from(["r0", "r1"]),
        "zone": st.sampled_from([None, "z0"]),
        "service": st.sampled_from(["ec2", "sagemaker"]),
        "purchase_option": st.sampled_from(["on_demand", "spot", "reserved_1y", "free"]),
        "accelerator": st.sampled_from(["A100-SXM-40GB", "L4-24GB", "unheard of", None]),
        "accelerator_count": st.sampled_from(["1", "4", "8", "0.125", "7.5", "0", "nan"]),
        "accelerator_memory_gib": st.sampled_from(["24", "40", "512", ""]),
        "vcpus": st.sampled_from(["4", "96", "nan", ""]),
        "usd_per_hour": NUMBERS,
        "currency": st.sampled_from(["USD", "USD", "USD", "EUR"]),
    }
)


def rows_of(drawn: list[dict[str, Any]]) -> pl.DataFrame:
    return table(*[offer_row(**row) for row in drawn], offer_row(region="sure"))


@settings(max_examples=80, deadline=None)
@given(
    new=st.lists(ROWS, max_size=8),
    old=st.lists(ROWS, max_size=6),
    seed=st.integers(0, 999),
    seen=st.booleans(),
)
def test_every_row_is_counted_once(
    new: list[dict[str, Any]], old: list[dict[str, Any]], seed: int, seen: bool
) -> None:
    """Accepted + filtered + quarantined = read, and what is accepted is a finite price above 0 of one key."""
    last = accept(rows_of(old), origin="x", last=LastPrices())
    frame = rows_of(new)
    result = accept(frame, origin="x", last=LastPrices(last.rows, last.rows if seen else None))
    assert sum(intake.rows_read for intake in result.intakes) == frame.height
    assert sum(intake.accepted for intake in result.intakes) == result.rows.height
    assert all(math.isfinite(price) and price > 0 for price in result.rows["usd_per_hour"])
    assert not any(
        result.rows[name].is_nan().any() for name, kind in BOOK_SCHEMA.items() if kind is pl.Float64
    )
    assert result.rows.select(KEY_COLUMNS).is_unique().all()
    assert result.set_aside.filter(pl.col("set_aside").is_in(CONFIRMABLE)).height <= sum(
        intake.quarantined_rows for intake in result.intakes
    )
    backwards = last.rows.reverse()
    shuffled = accept(
        frame.sample(fraction=1.0, shuffle=True, seed=seed),
        origin="x",
        last=LastPrices(backwards, backwards if seen else None),
    )
    assert shuffled.rows.equals(result.rows)
    assert shuffled.intakes == result.intakes


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(ROWS, max_size=8), factor=st.sampled_from([0.05, 0.5, 1.0, 2.0, 20.0]))
def test_prices_may_replace_themselves_and_not_ten_times_themselves(
    rows: list[dict[str, Any]], factor: float
) -> None:
    """Only the size of the move decides when every price moves together."""
    book = accept(rows_of(rows), origin="x", last=LastPrices()).rows
    moved = book.with_columns(pl.col("usd_per_hour") * factor)
    assert (why_not_replaced(moved, book) is None) is (not book.is_empty() and 0.1 <= factor <= 10)
