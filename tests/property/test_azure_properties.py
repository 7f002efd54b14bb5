"""Azure's parsers against anything: no crash, no lost row, no price that is not a number."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from builders.azure_ml import size, usage
from builders.azure_wire import ITEMS, page
from builders.junk import draw_damaged
from trainfare_core.prices.accept import accept
from trainfare_core.prices.facts import ReasonCount
from trainfare_providers.azure import vm_rows
from trainfare_providers.azure.ml_rows import ml_rows
from trainfare_providers.azure.workspace import WorkspaceOffer, parse_offer
from trainfare_providers.http.strict_json import parse_json

WHOLE: Any = parse_json(page(ITEMS))
SIZES = [size("Standard_NC24ads_A100_v4", 1, 24, 3.67, 0.73), size("Standard_DS1_v2", 0, 1, 0.07)]
_, METERS = vm_rows(WHOLE["Items"], source="x", today="2026-11-24")
USAGES = [usage("NCADSA100v4", 8, 24)]
many = settings(max_examples=8 * settings().max_examples)
"""Eight times the examples of the profile: an example is one or two objects, read in a millisecond."""


def rows_of(tallies: tuple[ReasonCount, ...]) -> int:
    return sum(tally.rows for tally in tallies)


def plans_of(item: Any) -> int:
    plans = item.get("savingsPlan") if isinstance(item, dict) else None
    return len(plans) if isinstance(plans, list) else 0


@many
@given(st.lists(draw_damaged(WHOLE["Items"]), max_size=6))
def test_every_meter_is_counted_once(items: list[Any]) -> None:
    """Items and entries of savings plans read = rows + left out + unreadable, whatever they are."""
    sink, _ = vm_rows(items, source="x", today="2026-11-24")
    rows = sink.finish()
    read = len(items) + sum(map(plans_of, items))
    assert rows.rows.height + rows_of(rows.filtered) + rows_of(rows.quarantined) == read == sink.rows_read
    judged = accept(rows.rows, origin="azure")
    accepted, intakes = judged.rows, judged.intakes
    assert sum(intake.rows_read for intake in intakes) == rows.rows.height
    prices = accepted["usd_per_hour"]
    assert (prices.is_finite() & (prices > 0)).all()


@many
@given(st.lists(draw_damaged(SIZES), max_size=4), st.lists(draw_damaged(USAGES), max_size=2))
def test_every_size_of_a_workspace_is_counted(sizes: list[Any], usages: list[Any]) -> None:
    """What the client gives is an object with any attributes; every one of them is checked."""
    offer = parse_offer(
        "eastus",
        [SimpleNamespace(**size) for size in sizes if isinstance(size, dict)],
        [SimpleNamespace(**usage) for usage in usages if isinstance(usage, dict)],
    )
    assert isinstance(offer, WorkspaceOffer)
    sink, _ = ml_rows(offer, METERS, source="x")
    objects = sum(isinstance(size, dict) for size in sizes)
    assert len(offer.sizes) + offer.unreadable == objects <= sink.rows_read <= 2 * objects
    for row in sink.rows:
        assert row.machine.instance_type == "Standard_NC24ads_A100_v4"
        assert row.usd_per_hour.is_finite()
