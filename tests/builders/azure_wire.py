"""
Items and pages of the Azure Retail Prices API as they come over the wire, with real prices.

Prices of francecentral are of 2021-12, others of 2026-06; the savings plan of one year is of 2023-12, that of three years, the
five-year reservation and all identifiers are ours.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl

START = "2023-06-01T00:00:00Z"


def item(arm: str, price: float, *, region: str = "eastus", **changes: Any) -> dict[str, Any]:
    """One meter: Linux, on demand."""
    words = arm.removeprefix("Standard_").replace("_", " ")
    fields: dict[str, Any] = {
        "currencyCode": "USD",
        "tierMinimumUnits": 0.0,
        "retailPrice": price,
        "unitPrice": price,
        "armRegionName": region,
        "location": "US East",
        "effectiveStartDate": START,
        "meterId": f"meter-{words}-{changes.get('type', '')}-{region}".replace(" ", "."),
        "meterName": words,
        "productId": "DZH318Z0TEST",
        "skuId": "DZH318Z0TEST/0001",
        "productName": f"Virtual Machines {words.split(' ')[0]} Series",
        "skuName": words,
        "serviceName": "Virtual Machines",
        "serviceId": "DZH313Z7MMC8",
        "serviceFamily": "Compute",
        "unitOfMeasure": "1 Hour",
        "type": "Consumption",
        "isPrimaryMeterRegion": True,
        "armSkuName": arm,
    }
    fields["meterName"] += changes.get("suffix", "")
    fields["skuName"] += changes.pop("suffix", "")
    return {**fields, **changes}


def reservation(arm: str, whole_term: float, term: str, **changes: Any) -> dict[str, Any]:
    return item(arm, whole_term, type="Reservation", reservationTerm=term, **changes)


def _plans(one_year: float, three_years: float) -> list[dict[str, Any]]:
    return [
        {"unitPrice": three_years, "retailPrice": three_years, "term": "3 Years"},
        {"unitPrice": one_year, "retailPrice": one_year, "term": "1 Year"},
    ]


FRANCE = "francecentral"
V100 = "Virtual Machines NCSv3 Series"

# Every kind of row that the API has, one after the other.
ITEMS: tuple[dict[str, Any], ...] = (
    item("Standard_NC24ads_A100_v4", 3.673, savingsPlan=_plans(3.0574, 2.0569)),
    item("Standard_ND96isr_H100_v5", 98.32),
    item("Standard_ND96isr_H100_v5", 102.736, productName="Virtual Machines NDsr H100 v5 Series Win"),
    item("Standard_ND96isr_H100_v5", 102.736, productName="Virtual Machines NDsr H100 v5 Series Windows"),
    item("Standard_NC40ads_H100_v5", 8.585, region="centralus"),
    # One machine under two names, at one price.
    item("Standard_ND96asr_v4", 27.197),
    item("Standard_ND96asr_A100_v4", 27.197),
    item("Standard_NV36ads_A10_v5", 3.2),
    item("Standard_NV6ads_A10_v5", 0.454),
    item("Standard_NC24rs_v3", 15.753, region=FRANCE, productName=V100),
    item("Standard_NC24rs_v3", 3.349088, region=FRANCE, productName=V100, suffix=" Spot"),
    item("Standard_NC24rs_v3", 3.151, region=FRANCE, productName=V100, suffix=" Low Priority"),
    item("Standard_NC24rs_v3", 16.857, region=FRANCE, productName=f"{V100} Windows"),
    item("Standard_NC24rs_v3", 15.753, region=FRANCE, productName=V100, type="DevTestConsumption"),
    reservation("Standard_NC24rs_v3", 87903, "1 Year", region=FRANCE, productName=V100),
    reservation("Standard_NC24rs_v3", 156818, "3 Years", region=FRANCE, productName=V100),
    reservation("Standard_NC24rs_v3", 250000, "5 Years", region=FRANCE, productName=V100),
    item("Standard_NC24rs_v3", 15.753, region=FRANCE, productName="NCSv3 Series Cloud Services"),
    item("Standard_NC6_Promo", 0.396, meterName="NC6 Promo", skuName="NC6 Promo"),
    item("Standard_NP10s", 1.65),
    item("Standard_D16as_v5", 0.688, skuName="Standard_D16as_v5"),
    item("Standard_B1s", 0.0, meterName="B1s - Free"),
    item("Dsv3_Type2", 4.442, productName="DSv3 Series Dedicated Host"),
    item("Standard_NC4as_T4_v3", 0.0),
    item("Standard_NC4as_T4_v3", 0.526, effectiveStartDate="2027-01-01T00:00:00Z"),
    item("Standard_NC4as_T4_v3", 0.9, effectiveEndDate="2024-01-01T00:00:00Z"),
    # What cannot be read.
    item("Standard_ND999isr_Z900_v9", 400.0),
    item("Standard_NC64as_T4_v3", 4.352, unitOfMeasure="1 GB"),
    item("Standard_NC64as_T4_v3", 4.352, currencyCode="EUR"),
)


def page(items: Any, link: str | None = None) -> bytes:
    """A page in the documented envelope."""
    envelope = {
        "BillingCurrency": "USD",
        "CustomerEntityId": "Default",
        "CustomerEntityType": "Retail",
        "Items": list(items),
        "NextPageLink": link,
        "Count": len(list(items)),
    }
    return json.dumps(envelope).encode()


def golden(frame: pl.DataFrame, name: str, *, update: bool) -> str:
    """Return the golden rows; TRAINFARE_UPDATE_GOLDEN=1 rewrites them."""
    path = Path(__file__).resolve().parents[1] / "golden" / name
    if update:
        path.write_text(csv_of(frame), encoding="utf-8")
    return path.read_text(encoding="utf-8")


def csv_of(frame: pl.DataFrame) -> str:
    """Rows as a file that a person can check: sorted, without blank columns."""
    kept = [column for column in frame.columns if frame[column].null_count() < frame.height]
    return frame.select(sorted(kept)).sort(sorted(kept)).write_csv()
