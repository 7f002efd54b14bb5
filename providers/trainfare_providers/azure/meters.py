"""
Classify one item of the Azure Retail Prices API: its machine, purchase option and price per hour.

Only the texts of an item say whether it is for Linux, spot or a reservation, or out of scope. Each rule here excludes
a kind of item that looks like another.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Final

from trainfare_providers.answer_values import day_of, items_of, name_of, number_of, object_of, text_of
from trainfare_providers.machine_types import Machine, machine_of, table_rows
from trainfare_providers.source_rows import Refused, SourceRow

_HOURS: Final = {"1 Year": 8760, "3 Years": 26280}  # 365 days of 24 hours
_TERMS: Final = {"1 Year": "1y", "3 Years": "3y"}
_WINDOWS: Final = re.compile(r"\b(Windows|Win)\b")
_DEV_TEST: Final = re.compile(r"\bDev ?/? ?Test\b", re.IGNORECASE)
_LICENSED: Final = re.compile(r"\b(RHEL|Red Hat|SLES|SUSE|Ubuntu Pro|SQL)\b", re.IGNORECASE)
_CLOUD_SERVICES: Final = re.compile(r"\bCloud ?Services\b")

# Series of the letter N that are out of scope, so that data/azure_machines.csv does not list them.
_OTHER_SERIES: Final = re.compile(
    r"Standard_(NP\d+\w*"  # FPGA
    r"|NG\d+\w*|NV\d+as_v4|NV\d+ads_V710_v5"  # AMD cards for desktops
    r"|NV\d+|NV\d+s_v[23]"  # M60
    r"|NC\d+r?|NC\d+r?s_v2|ND\d+r?s"  # K80, P100, P40: switched off in 2023
    r")(_Promo)?",
    re.IGNORECASE,
)
# One machine with two names: the second is the one that Azure creates.
_SAME_MACHINE: Final[Mapping[str, str]] = {"standard_nd96asr_a100_v4": "standard_nd96asr_v4"}
# "Any new VM creations with the preview VM sizes will no longer work" (nc-rtxpro6000-bse-v6-series-overview, FAQ; the
# smaller ones in the size page of the preview, 2025-11).
_PREVIEW: Final = re.compile(
    r"Standard_NC(16l|(32|64|128)[lm]?|(256|320)l?)ds_xl_RTXPRO6000BSE_v6", re.IGNORECASE
)
_RETIRED: Final = re.compile(r"Standard_NC\d+r?s_v3")
_SPOT_CAVEAT: Final = "spot price of the public list; Azure's portal has differed (azure-docs issue 72349)"


@dataclass(frozen=True, slots=True)
class Meter:
    """The price of one machine in one region."""

    machine: Machine
    region: str
    option: str
    usd_per_hour: Decimal
    currency: str
    meter_id: str
    effective_on: str
    is_primary: bool = True  # the API lists meters of other regions than their primary one too

    def row(self, source: str, caveat: str | None) -> SourceRow:
        """Return the row of this price."""
        return SourceRow(
            machine=self.machine,
            region=self.region,
            usd_per_hour=self.usd_per_hour,
            purchase_option=self.option,
            observed_on=self.effective_on,
            sku=self.meter_id,
            source=source,
            currency=self.currency,
            caveat=caveat,
        )


def caveat_of(machine: Machine, option: str = "") -> str | None:
    """Return what is shown beside every price of a machine under a purchase option."""
    retired = "Azure retired this series on 2025-09-30; it is still listed"
    caveats = {retired: _RETIRED.fullmatch(machine.instance_type), _SPOT_CAVEAT: option == "spot"}
    return "; ".join(text for text, holds in caveats.items() if holds) or None


@cache
def machines() -> Mapping[str, Machine]:
    """Return the machine types with accelerators that can be trained on, by name in lower case."""
    return {
        row["instance_type"].lower(): machine_of("azure", row) for row in table_rows("azure_machines.csv")
    }


def read_item(item: object, *, today: str) -> tuple[Meter | Refused, ...]:
    """
    Return the meters of one item: its own, and one for each entry of its savings plans.

    Args:
        item: of `Items`, numbers as int or Decimal.
        today: YYYY-MM-DD; a price that holds only later or no longer is left out.
    """
    entry = object_of(item)
    if entry is None:
        return (Refused("not an object", quarantined=True),)
    plans = items_of(entry.get("savingsPlan"))
    machine = _out_of_scope(entry) or _out_of_date(entry, today) or _read_machine(entry)
    if isinstance(machine, Refused):
        return (machine,) * (1 + len(plans))
    option = _read_option(entry)
    own_meter = option if isinstance(option, Refused) else _read_price(entry, machine, option, entry)
    return (own_meter, *(_savings(entry, machine, option, plan) for plan in plans))


def _out_of_scope(item: Mapping[str, object]) -> Refused | None:
    """Return the rule that leaves an item out, if any."""
    product = text_of(item.get("productName")) or ""
    names = [text_of(item.get(name)) or "" for name in ("armSkuName", "skuName", "meterName")]
    labels = (product, *names[1:])
    kind = item.get("type")
    rules = {
        "not a virtual machine": item.get("serviceName") != "Virtual Machines",
        "dev/test price, for subscribers of Visual Studio": kind == "DevTestConsumption"
        or any(_DEV_TEST.search(label) for label in labels),
        "Windows": any(_WINDOWS.search(label) for label in labels),
        "a licence in the price": any(_LICENSED.search(label) for label in labels),
        "dedicated host": "Dedicated Host" in product,
        "Cloud Services, not a virtual machine": _CLOUD_SERVICES.search(product) is not None,
        "promotion": any("Promo" in name for name in names),
        "a meter marked as expired": any("Expired" in label for label in labels),
        "machine without an accelerator": bool(names[0]) and not names[0].lower().startswith("standard_n"),
    }
    return next((Refused(reason) for reason, holds in rules.items() if holds), None)


def _out_of_date(item: Mapping[str, object], today: str) -> Refused | None:
    begins, ends = day_of(item.get("effectiveStartDate")), day_of(item.get("effectiveEndDate"))
    if begins is None:
        return Refused("no day from which the price holds", quarantined=True)
    if begins > today:
        return Refused("price that has not begun")
    if ends is not None and ends < today:
        return Refused("price that has ended")
    return None


def _read_machine(item: Mapping[str, object]) -> Machine | Refused:
    name = name_of(item.get("armSkuName"))
    if name is None:
        return Refused("no machine name", quarantined=True)
    known = machines().get(_SAME_MACHINE.get(name.lower(), name.lower()))
    if known is not None:
        return known
    if _PREVIEW.fullmatch(name):
        return Refused("size of a preview, which Azure no longer creates")
    if _OTHER_SERIES.fullmatch(name):
        return Refused("series without an accelerator to train on")
    return Refused("machine type of which no accelerator is known; update trainfare", quarantined=True)


def _read_option(item: Mapping[str, object]) -> str | Refused:
    kind = item.get("type")
    labels = [text_of(item.get(name)) or "" for name in ("skuName", "meterName")]
    spot = any(label.endswith(" Spot") for label in labels)
    low = any(label.endswith(" Low Priority") for label in labels)
    if kind == "Reservation":
        term = _TERMS.get(str(item.get("reservationTerm")))
        if spot or low:
            return Refused("reservation of spot capacity", quarantined=True)
        return Refused("reservation of another term") if term is None else f"reserved_{term}"
    if kind != "Consumption":
        return Refused("unknown price type", quarantined=True)
    if item.get("reservationTerm"):
        return Refused("price by use with a reservation's term", quarantined=True)
    if spot and low:
        return Refused("spot and low priority at once", quarantined=True)
    if low:
        return Refused("low priority, which Azure retired on 2026-03-31")
    return "spot" if spot else "on_demand"


def _savings(
    item: Mapping[str, object], machine: Machine, option: str | Refused, plan: object
) -> Meter | Refused:
    entry = object_of(plan)
    if entry is None:
        return Refused("savings plan that is not an object", quarantined=True)
    if option != "on_demand":
        return Refused("savings plan of something else than the on-demand price", quarantined=True)
    term = _TERMS.get(str(entry.get("term")))
    if term is None:
        return Refused("savings plan of another term")
    return _read_price(item, machine, f"savings_{term}", entry)


def _read_price(
    item: Mapping[str, object], machine: Machine, option: str, priced: Mapping[str, object]
) -> Meter | Refused:
    """Return the meter; a reservation's `retailPrice` is for its whole term, whatever the unit says."""
    price, unit_price = number_of(priced.get("retailPrice")), number_of(priced.get("unitPrice"))
    region, meter = name_of(item.get("armRegionName")), name_of(item.get("meterId"))
    currency, begins = text_of(item.get("currencyCode")), day_of(item.get("effectiveStartDate"))
    least = number_of(item.get("tierMinimumUnits", 0))
    if price is None or unit_price is None:
        return Refused("price is not a number", quarantined=True)
    if price == 0 or unit_price == 0:
        return Refused("price of 0")
    if price < 0:
        return Refused("price below 0", quarantined=True)
    if item.get("unitOfMeasure") != "1 Hour":
        return Refused("unit is not 1 Hour", quarantined=True)
    if least is None or least != 0:
        return Refused("price for large amounts only")
    if region is None or meter is None or currency is None or begins is None:
        return Refused("no region, meter or currency", quarantined=True)
    term = item.get("reservationTerm") if option.startswith("reserved_") else None
    hours = _HOURS[str(term)] if term else 1
    primary = item.get("isPrimaryMeterRegion") is not False
    # The API writes WestUS3 for westus3 (SkyPilot, fetch_azure.py).
    return Meter(machine, region.lower(), option, price / hours, currency, meter, begins, primary)
