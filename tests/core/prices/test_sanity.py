"""What a price must pass beside others: one test a rule, with the true prices it must let through."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from builders.offers import offer_row, table
from trainfare_core.prices import sanity
from trainfare_core.prices.accept import Judged, accept
from trainfare_core.prices.intake import BOOK_SCHEMA
from trainfare_core.prices.sanity import CONFIRMABLE, LastPrices, why_not_replaced
from trainfare_providers.snapshot import SnapshotProvider


def judge_rows_given(
    *rows: dict[str, Any], last: pl.DataFrame | None = None, seen: pl.DataFrame | None = None
) -> Judged:
    return accept(table(*rows), origin="aws", last=LastPrices(last, seen))


def confirmable(judged: Judged) -> pl.DataFrame:
    """The rows that a second fetch can confirm."""
    return judged.set_aside.filter(pl.col("set_aside").is_in(CONFIRMABLE))


def accept_given(*rows: dict[str, Any]) -> pl.DataFrame:
    return judge_rows_given(*rows).rows


def ask_closed_port(result: Judged) -> dict[str, int]:
    """Quarantined rows by reason, after checking that no row is lost."""
    for intake in result.intakes:
        assert intake.accepted + intake.filtered_rows + intake.quarantined_rows == intake.rows_read
    assert sum(intake.accepted for intake in result.intakes) == result.rows.height
    return {tally.reason: tally.rows for intake in result.intakes for tally in intake.quarantined}


def small(**changes: Any) -> dict[str, Any]:
    """One L4 of the g6 family."""
    fields = {"accelerator": "L4-24GB", "accelerator_count": 1.0, "accelerator_memory_gib": 24.0}
    host = {"instance_type": "g6.xlarge", "vcpus": 4.0, "memory_gib": 16.0, "usd_per_hour": 0.8048}
    return offer_row(**{**fields, **host, **changes})


def large(**changes: Any) -> dict[str, Any]:
    """Four L4 of the g6 family."""
    row = small(instance_type="g6.12xlarge", accelerator_count=4.0, vcpus=48.0, memory_gib=192.0)
    return {**row, "usd_per_hour": 4.6016, **changes}


def test_every_price_of_the_snapshot_passes_unchanged() -> None:
    """Some 6,500 true prices, compared with themselves as the last good ones, are all accepted."""
    rows = SnapshotProvider().load().frame.select(list(BOOK_SCHEMA))
    result = accept(rows, origin="again", last=LastPrices(rows))
    assert ask_closed_port(result) == {}
    assert result.rows.height == rows.height
    assert why_not_replaced(rows, rows) is None


@pytest.mark.parametrize(
    ("spot", "passes"), [(9.5, True), (21.957642, True), (21.9577, True), (21.97, False), (40.0, False)]
)
def test_spot_is_never_above_on_demand(spot: float, passes: bool) -> None:
    """Equal is true in many zones, the fourth decimal is rounding, more is a mistake."""
    rows = [offer_row(), offer_row(purchase_option="spot", zone="use1-az1", usd_per_hour=spot)]
    result = judge_rows_given(*rows)
    assert ask_closed_port(result) == ({} if passes else {sanity.ABOVE_ON_DEMAND: 1})
    assert result.rows["purchase_option"].to_list()[0] == "on_demand"


@pytest.mark.parametrize(
    ("usd", "passes"), [(11.8, True), (21.957642, True), (21.9577, True), (21.97, False), (1720.78, False)]
)
def test_capacity_block_is_never_above_on_demand(usd: float, passes: bool) -> None:
    """Blocks of the snapshot cost 0.41 to 0.87 of on demand; a fee divided by minutes alone comes out eleven times over."""
    block = offer_row(purchase_option="capacity_block", zone="use1-az1", usd_per_hour=usd)
    result = judge_rows_given(offer_row(), block)
    assert ask_closed_port(result) == ({} if passes else {sanity.BLOCK_ABOVE: 1})
    assert ask_closed_port(judge_rows_given(block, last=accept_given(offer_row()))) == (
        {} if passes else {sanity.BLOCK_ABOVE: 1}
    )
    assert ask_closed_port(judge_rows_given(offer_row(region="elsewhere"), block)) == {}


def test_spot_is_compared_with_the_last_good_on_demand_price() -> None:
    """A fetch that brings only spot is judged by the on-demand price that was there."""
    last = accept_given(offer_row())
    assert ask_closed_port(
        judge_rows_given(offer_row(purchase_option="spot", usd_per_hour=30.0), last=last)
    ) == {sanity.ABOVE_ON_DEMAND: 1}
    assert ask_closed_port(judge_rows_given(offer_row(purchase_option="spot", usd_per_hour=30.0))) == {}


def test_refused_on_demand_price_is_not_compared_with_spot() -> None:
    """A refused price is not compared with others."""
    last = accept_given(offer_row(), offer_row(purchase_option="spot", usd_per_hour=9.5))
    result = judge_rows_given(
        offer_row(usd_per_hour=2.1), offer_row(purchase_option="spot", usd_per_hour=9.5), last=last
    )
    assert ask_closed_port(result) == {sanity.JUMPED: 1}


@pytest.mark.parametrize("option", ["on_demand", "reserved_1y", "savings_1y", "capacity_block"])
def test_more_accelerators_never_cost_less_in_total(option: str) -> None:
    """A machine price divided by its GPUs by mistake is found; which of the two is wrong is unknown."""
    fine = [small(purchase_option=option), large(purchase_option=option)]
    assert ask_closed_port(judge_rows_given(*fine)) == {}
    wrong = [small(purchase_option=option), large(purchase_option=option, usd_per_hour=0.6)]
    assert ask_closed_port(judge_rows_given(*wrong)) == {sanity.MORE_FOR_LESS: 2}


def test_more_accelerators_may_cost_less_where_other_things_differ() -> None:
    """A smaller host, another region, another accelerator and spot markets are no contradiction."""
    bigger_host = small(instance_type="g6.48xlarge") | {"vcpus": 192.0, "usd_per_hour": 5.0}
    assert ask_closed_port(judge_rows_given(bigger_host, large())) == {}
    assert ask_closed_port(judge_rows_given(small(), large(region="x", usd_per_hour=0.6))) == {}
    spot = [small(purchase_option="spot"), large(purchase_option="spot", usd_per_hour=0.7)]
    assert ask_closed_port(judge_rows_given(*spot)) == {}


@pytest.mark.parametrize(
    ("accelerator", "gib", "passes"),
    [
        ("A10G-24GB", 22888 / 1024, True),
        ("L4-24GB", 22888 / 1024, True),
        ("Trainium2", 96.0, True),
        ("Trainium2", 524288 / 1024, False),
        ("A100-PCIE-80GB", 40.0, False),
        ("H100-SXM-80GB", 94.0, False),
        ("TPU-v5p", 95.0, True),
        ("An unknown accelerator", 512.0, True),
    ],
)
def test_accelerator_memory_is_what_the_maker_says(accelerator: str, gib: float, passes: bool) -> None:
    """What a driver reports is a little less; five times more is a unit, another amount another product."""
    result = judge_rows_given(offer_row(accelerator=accelerator, accelerator_memory_gib=gib))
    assert ask_closed_port(result) == ({} if passes else {sanity.MEMORY: 1})


@pytest.mark.parametrize(
    ("count", "passes"), [(0.125, True), (0.166667, True), (1.0, True), (12.0, True), (7.5, False)]
)
def test_accelerator_count_is_whole_or_a_share(count: float, passes: bool) -> None:
    """A share of one GPU is sold; seven and a half are not."""
    assert ask_closed_port(judge_rows_given(offer_row(accelerator_count=count))) == (
        {} if passes else {sanity.COUNT: 1}
    )


def test_machine_has_one_shape_everywhere() -> None:
    """Of one machine with 8 GPUs here and 12 there the rarer is refused; one against one, both are."""
    right = [offer_row(region=name) for name in "abc"]
    assert ask_closed_port(judge_rows_given(*right, offer_row(region="d", accelerator_count=12.0))) == {
        sanity.TWO_SHAPES: 1
    }
    assert ask_closed_port(judge_rows_given(right[0], offer_row(region="d", accelerator_count=12.0))) == {
        sanity.TWO_SHAPES: 2
    }
    assert ask_closed_port(
        judge_rows_given(
            offer_row(), offer_row(region="d", accelerator="A100-SXM-80GB", accelerator_memory_gib=80.0)
        )
    ) == {sanity.TWO_SHAPES: 2}


@pytest.mark.parametrize(("price", "passes"), [(109.0, True), (4.4, True), (110.0, False), (4.39, False)])
def test_price_jumps_at_most_five_times(price: float, passes: bool) -> None:
    """AWS cut p5 to 56 %; a price that moves more than five times is more likely another unit."""
    result = judge_rows_given(offer_row(usd_per_hour=price), last=accept_given(offer_row()))
    assert ask_closed_port(result) == ({} if passes else {sanity.JUMPED: 1})
    assert confirmable(result).height == (not passes)


@pytest.mark.parametrize(("again", "passes"), [(200.0, True), (260.0, True), (310.0, False), (30.0, True)])
def test_second_fetch_confirms_a_jump(again: float, passes: bool) -> None:
    """The same price again is accepted, another jump is not; the old price needs no confirmation."""
    last = accept_given(offer_row())
    first = judge_rows_given(offer_row(usd_per_hour=200.0), last=last)
    assert first.rows.is_empty()
    second = judge_rows_given(offer_row(usd_per_hour=again), last=last, seen=confirmable(first))
    assert ask_closed_port(second) == ({} if passes else {sanity.JUMPED: 1})


def test_machine_that_changes_its_accelerators_needs_a_second_fetch() -> None:
    """A new count for a known machine is accepted when a second fetch confirms it."""
    last = accept_given(offer_row())
    first = judge_rows_given(offer_row(accelerator_count=4.0), last=last)
    assert ask_closed_port(first) == {sanity.RESHAPED: 1}
    assert (
        ask_closed_port(
            judge_rows_given(offer_row(accelerator_count=4.0), last=last, seen=confirmable(first))
        )
        == {}
    )
    assert ask_closed_port(
        judge_rows_given(offer_row(accelerator_count=2.0), last=last, seen=confirmable(first))
    ) == {sanity.RESHAPED: 1}


def many(rows: int, price: float = 10.0, **changes: Any) -> pl.DataFrame:
    regions = [offer_row(region=f"r{index}", usd_per_hour=price, **changes) for index in range(max(1, rows))]
    return accept_given(*regions).head(rows)


@pytest.mark.parametrize(
    ("new", "why"),
    [
        (many(100), None),
        (many(50), None),
        (many(49), "only 49 prices came, 100 were there"),
        (many(0), "not one usable price came"),
        (many(300), None),
        (many(100, 99.0), None),
        (many(100, 101.0), "100 of 100 prices moved"),
        (many(100, 0.99), "100 of 100 prices moved"),
        (pl.concat([many(95), many(100, 101.0)[95:]]), None),
        (pl.concat([many(94), many(100, 101.0)[94:]]), "6 of 100 prices moved"),
        (many(100, 500.0, instance_type="p4de.24xlarge"), None),
    ],
)
def test_what_may_replace_the_last_good_prices(new: pl.DataFrame, why: str | None) -> None:
    """At least half the rows, and 95 % of common prices within a factor of 10; other machines are no change."""
    text = why_not_replaced(new, many(100))
    assert text is None if why is None else why in (text or "")
