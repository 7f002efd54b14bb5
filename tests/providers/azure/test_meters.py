"""The meter classifier of Azure: each kind of row that was once taken for another, and no row lost."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from builders.azure_wire import FRANCE, ITEMS, V100, csv_of, golden, item, page, reservation
from trainfare_core.prices.accept import accept
from trainfare_core.prices.book import PriceBook
from trainfare_providers.azure import vm_rows
from trainfare_providers.azure.meters import machines
from trainfare_providers.http.strict_json import parse_json
from trainfare_providers.refresh import FetchedRows

RECORDED = Path(__file__).resolve().parents[3].parent / "shared" / "data" / "prices" / "recorded"
TODAY = "2026-11-24"


def off_the_wire(items: Sequence[Any]) -> list[Any]:
    """Items as the strict reader gives them: numbers as they are written."""
    parsed = parse_json(page(items))
    assert isinstance(parsed, dict)
    return parsed["Items"]


def fetch_rows(*items: Any) -> FetchedRows:
    sink, _ = vm_rows(off_the_wire(items), source="https://prices.azure.com/x", today=TODAY)
    return sink.finish()


def only(found: FetchedRows) -> dict[str, Any]:
    assert found.rows.height == 1
    return found.rows.row(0, named=True)


def reasons(found: FetchedRows) -> dict[str, int]:
    return {tally.reason: tally.rows for tally in (*found.filtered, *found.quarantined)}


def test_rows_are_the_golden_ones() -> None:
    """All kinds of item at once: `TRAINFARE_UPDATE_GOLDEN=1` rewrites tests/golden/azure_rows.csv."""
    frame = fetch_rows(*ITEMS).rows
    assert csv_of(frame) == golden(
        frame, "azure_rows.csv", update=os.environ.get("TRAINFARE_UPDATE_GOLDEN") == "1"
    )


def test_every_item_and_savings_plan_is_counted_once() -> None:
    """29 items and 2 entries of savings plans: 14 rows, 15 left out by rule, 2 unreadable; a row in euro is refused later."""
    rows = fetch_rows(*ITEMS)
    assert reasons(rows) == {
        "Windows": 3,
        "low priority, which Azure retired on 2026-03-31": 1,
        "dev/test price, for subscribers of Visual Studio": 1,
        "reservation of another term": 1,
        "Cloud Services, not a virtual machine": 1,
        "promotion": 1,
        "series without an accelerator to train on": 1,
        "machine without an accelerator": 2,
        "dedicated host": 1,
        "price of 0": 1,
        "price that has not begun": 1,
        "price that has ended": 1,
        "machine type of which no accelerator is known; update trainfare": 1,
        "unit is not 1 Hour": 1,
    }
    assert rows.rows.height + sum(reasons(rows).values()) == len(ITEMS) + 2
    (intake,) = accept(rows.rows, origin="azure").intakes
    assert {tally.reason: tally.rows for tally in intake.quarantined} == {"currency is not USD": 1}
    assert {tally.reason: tally.rows for tally in intake.filtered} == {"the same price again": 1}


@pytest.mark.parametrize(
    ("machine", "usd_per_hour"),
    [
        ("azure:Standard_ND96isr_H100_v5@eastus", 98.32),
        ("azure:Standard_NC24ads_A100_v4@eastus", 3.673),
        ("azure:Standard_NC40ads_H100_v5@centralus", 8.585),  # a catalogue's hand-made row says 6.98
        ("azure:Standard_ND96asr_v4@eastus", 27.197),
        ("azure:Standard_NC24rs_v3@francecentral", 15.753),
        ("azure:Standard_NV36ads_A10_v5@eastus", 3.2),
    ],
)
def test_list_prices_come_out_to_the_cent(machine: str, usd_per_hour: float) -> None:
    book = PriceBook.from_rows(fetch_rows(*ITEMS).rows, origin="azure")
    assert book.find(machine).usd_per_hour == pytest.approx(usd_per_hour, abs=0.0001)


@pytest.mark.parametrize("product", ["NDsr H100 v5 Series Windows", "NDsr H100 v5 Series Win"])
def test_windows_is_left_out_by_both_of_its_names(product: str) -> None:
    """Some H100 series end in " Win": 4.42 USD an hour more."""
    rows = fetch_rows(item("Standard_ND96isr_H100_v5", 102.736, productName=f"Virtual Machines {product}"))
    assert rows.rows.is_empty()
    assert reasons(rows) == {"Windows": 1}


def test_reservation_is_the_whole_term_divided_by_its_hours() -> None:
    """The unit says "1 Hour"; 87,903 USD are of a year and 156,818 of three."""
    fields = only(fetch_rows(reservation("Standard_NC24rs_v3", 87903, "1 Year")))
    three = only(fetch_rows(reservation("Standard_NC24rs_v3", 156818, "3 Years")))
    assert (fields["purchase_option"], Decimal(fields["usd_per_hour"])) == (
        "reserved_1y",
        Decimal(87903) / 8760,
    )
    assert (three["purchase_option"], Decimal(three["usd_per_hour"])) == (
        "reserved_3y",
        Decimal(156818) / 26280,
    )
    assert float(fields["usd_per_hour"]) == pytest.approx(10.0346, abs=1e-4)


def test_savings_plan_is_a_list_of_hourly_prices_by_term() -> None:
    """Nothing is divided; the meter's own price stays the on-demand one."""
    rows = fetch_rows(ITEMS[0]).rows
    prices = dict(zip(rows["purchase_option"], rows["usd_per_hour"], strict=True))
    assert prices == {"on_demand": "3.673", "savings_1y": "3.0574", "savings_3y": "2.0569"}


@pytest.mark.parametrize(
    "changes",
    [
        {"suffix": " Spot"},
        {"skuName": "Standard_NC24rs_v3 Spot"},  # skuName may repeat armSkuName
        {"meterName": "NC24rs v3 Spot"},
    ],
)
def test_spot_is_recognised_by_its_suffix(changes: dict[str, Any]) -> None:
    row = only(fetch_rows(item("Standard_NC24rs_v3", 3.349088, region=FRANCE, productName=V100, **changes)))
    assert (row["purchase_option"], row["usd_per_hour"]) == ("spot", "3.349088")


def test_low_priority_is_no_price() -> None:
    """
    The list still has it. Batch and Azure ML have been billed at the spot price instead since 2026-03-31:
    https://github.com/Azure/Batch/issues/196, https://github.com/MicrosoftDocs/azure-ai-docs/pull/806.
    """
    items = off_the_wire([item("Standard_NC24rs_v3", 3.151, suffix=" Low Priority")])
    sink, meters = vm_rows(items, source="x", today=TODAY)
    assert sink.finish().rows.is_empty()
    assert meters == ()


def test_spot_has_a_caveat_and_other_options_have_none() -> None:
    """The portal once showed six times the list's spot price (MicrosoftDocs/azure-docs issue 72349, a product bug)."""
    items = [item("Standard_ND96isr_H100_v5", 98.32), item("Standard_ND96isr_H100_v5", 18.17, suffix=" Spot")]
    caveats = dict(fetch_rows(*items).rows.select("purchase_option", "caveat").iter_rows())
    assert caveats["on_demand"] is None
    assert "issue 72349" in caveats["spot"]


@pytest.mark.parametrize("label", ["skuName", "meterName", "productName"])
def test_expired_meter_is_left_out(label: str) -> None:
    """A label that says so is no price of today."""
    rows = fetch_rows(item("Standard_ND96isr_H100_v5", 98.32, **{label: "ND96isr H100 v5 - Expired"}))
    assert rows.rows.is_empty()
    assert reasons(rows) == {"a meter marked as expired": 1}


def test_region_is_the_locations_name_in_small_letters() -> None:
    """The API has written WestUS3, and a workspace there says westus3."""
    row = only(fetch_rows(item("Standard_ND96isr_H100_v5", 98.32, region="WestUS3")))
    assert row["region"] == "westus3"


def test_nonprimary_meter_gives_way_to_the_primary_one() -> None:
    """
    "The URL returns the full set of meters, including primary meters and nonprimary meters" (Retail Prices overview).

    Alone it is a price: of 91 recorded items three low-priority ones have no primary meter beside them.
    """
    primary = item("Standard_ND96isr_H100_v5", 98.32)
    other = item("Standard_ND96isr_H100_v5", 110.0, isPrimaryMeterRegion=False, meterId="another")
    for items in ((primary, other), (other, primary)):
        rows = fetch_rows(*items)
        assert only(rows)["usd_per_hour"] == "98.32"
        assert reasons(rows) == {"a nonprimary meter beside the primary one": 1}
    assert only(fetch_rows(other))["usd_per_hour"] == "110.0"
    spot = item("Standard_ND96isr_H100_v5", 18.17, suffix=" Spot", isPrimaryMeterRegion=False)
    assert fetch_rows(primary, spot).rows.height == 2


def test_one_machine_under_two_names_is_one_offer() -> None:
    """Standard_ND96asr_A100_v4 is Standard_ND96asr_v4; two prices for it are both quarantined."""
    same = fetch_rows(item("Standard_ND96asr_A100_v4", 27.197), item("Standard_ND96asr_v4", 27.197))
    rows = accept(same.rows, origin="azure").rows
    assert rows["instance_type"].to_list() == ["Standard_ND96asr_v4"]
    unlike = fetch_rows(item("Standard_ND96asr_A100_v4", 27.197), item("Standard_ND96asr_v4", 32.77))
    judged = accept(unlike.rows, origin="azure")
    rows, (intake,) = judged.rows, judged.intakes
    assert rows.is_empty()
    assert intake.quarantined_rows == 2


def test_machine_facts_are_from_our_own_table() -> None:
    """A catalogue gives this machine 12 GPUs; it has 8. A part of an A10 is a part."""
    row = only(fetch_rows(item("Standard_ND96isr_H100_v5", 98.32)))
    assert (row["accelerator"], row["accelerator_count"]) == ("H100-SXM-80GB", 8)
    assert machines()["standard_nv6ads_a10_v5"].accelerator_count == pytest.approx(1 / 6)


def test_sizes_of_a_preview_are_left_out_of_the_series_that_followed() -> None:
    """Nothing new can be created in a preview's size (Azure documentation, nc-rtxpro6000-bse-v6-series-overview, FAQ)."""
    sold = item("Standard_NC144lds_xl_RTXPRO6000BSE_v6", 5.5, region="westus2")
    previews = [
        item(f"Standard_NC{size}_xl_RTXPRO6000BSE_v6", 9.9) for size in ("128ds", "256lds", "320ds", "32mds")
    ]
    found = fetch_rows(sold, *previews)
    row = only(found)
    assert (row["accelerator"], row["accelerator_count"], float(row["usd_per_hour"])) == (
        "RTXPRO6000-96GB",
        1,
        5.5,
    )
    assert {tally.reason: tally.rows for tally in found.filtered} == {
        "size of a preview, which Azure no longer creates": 4
    }
    assert not found.quarantined


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"retailPrice": "3.673"}, "price is not a number"),
        ({"retailPrice": True}, "price is not a number"),
        ({"retailPrice": None}, "price is not a number"),
        ({"retailPrice": -3.0}, "price below 0"),
        ({"unitPrice": 0}, "price of 0"),
        ({"tierMinimumUnits": 100}, "price for large amounts only"),
        ({"armRegionName": ""}, "no region, meter or currency"),
        ({"armRegionName": "east us\u202e"}, "no region, meter or currency"),
        ({"effectiveStartDate": "soon"}, "no day from which the price holds"),
        ({"effectiveStartDate": "2024-13-45T00:00:00Z"}, "no day from which the price holds"),
        ({"type": "Gift"}, "unknown price type"),
        ({"armSkuName": ""}, "no machine name"),
        ({"type": "Reservation"}, "reservation of another term"),
        ({"reservationTerm": "1 Year"}, "price by use with a reservation's term"),
        ({"suffix": " Spot", "type": "Reservation"}, "reservation of spot capacity"),
        ({"meterName": "x Spot", "skuName": "x Low Priority"}, "spot and low priority at once"),
        ({"serviceName": "Azure App Service"}, "not a virtual machine"),
    ],
)
def test_malformed_item_is_counted_and_not_priced(changes: dict[str, Any], reason: str) -> None:
    rows = fetch_rows(item("Standard_NC24ads_A100_v4", 3.673, **changes))
    assert rows.rows.is_empty()
    assert reasons(rows) == {reason: 1}


@pytest.mark.parametrize("text", ["1E+999999999", "1E-999999999", "1E+31"])
def test_a_price_beyond_all_measure_costs_its_own_row_alone(text: str) -> None:
    """Arithmetic with it would overflow, and the whole cloud with it."""
    items = [item("Standard_NC24ads_A100_v4", 3.673), item("Standard_ND96isr_H100_v5", 98.32)]
    body = page(items).replace(b": 98.32", b": " + text.encode())
    parsed = parse_json(body)
    assert isinstance(parsed, dict)
    rows = vm_rows(parsed["Items"], source="https://prices.azure.com/x", today=TODAY)[0].finish()
    assert only(rows)["instance_type"] == "Standard_NC24ads_A100_v4"
    assert reasons(rows) == {"price is not a number": 1}


def test_entries_of_a_savings_plan_that_cannot_be_read_are_counted() -> None:
    plans = ["free", {"term": "5 Years", "retailPrice": 1, "unitPrice": 1}, {"term": "1 Year"}]
    rows = fetch_rows(item("Standard_NC24ads_A100_v4", 3.673, savingsPlan=plans))
    assert reasons(rows) == {
        "savings plan that is not an object": 1,
        "savings plan of another term": 1,
        "price is not a number": 1,
    }
    spot = fetch_rows(item("Standard_NC24ads_A100_v4", 1, suffix=" Spot", savingsPlan=plans[1:2]))
    assert reasons(spot) == {"savings plan of something else than the on-demand price": 1}


@pytest.mark.skipif(not RECORDED.exists(), reason="the recorded answers are not beside this repository")
def test_recorded_items_of_francecentral() -> None:
    """91 real items of 2021-12: 6 machines on demand, each cheaper as spot and reserved; Windows nowhere."""
    text = (RECORDED / "azure_retail_prices_francecentral_accelerators_2021-12.json").read_text("utf-8")
    fetched_rows = fetch_rows(*json.loads(text)["items"])
    judged = accept(fetched_rows.rows, origin="azure")
    rows, (intake,) = judged.rows, judged.intakes
    assert fetched_rows.quarantined == intake.quarantined == ()
    assert rows.height + sum(tally.rows for tally in fetched_rows.filtered) == 91
    book = PriceBook.from_rows(fetched_rows.rows, origin="azure")
    assert book.find("azure:Standard_NC24rs_v3@francecentral").usd_per_hour == 15.753
    assert dict(rows.filter(pl.col("instance_type") == "Standard_NC6s_v3").select("purchase_option", "usd_per_hour").iter_rows()) == {
        "on_demand": 3.58,
        "spot": 0.761108,
        "reserved_1y": pytest.approx(19978 / 8760),
        "reserved_3y": pytest.approx(30108 / 26280),
    }  # fmt: skip
    assert rows["instance_type"].n_unique() == 4  # the M60 machines are for desktops


@pytest.mark.skipif(not RECORDED.exists(), reason="the recorded answers are not beside this repository")
def test_savings_plan_of_the_recorded_shape() -> None:
    text = (RECORDED / "handmade_azure_retail_prices_savingsplan.json").read_text("utf-8")
    rows = fetch_rows(*json.loads(text)["Items"]).rows
    assert dict(zip(rows["purchase_option"], rows["usd_per_hour"], strict=True)) == {
        "on_demand": "3.673",
        "savings_1y": "3.0574",
        "savings_3y": "2.0",
    }
