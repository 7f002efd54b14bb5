"""
Classify one SKU of the Cloud Billing catalogue: a part of a machine's price, or out of scope.

Google does not price machines but cores, GiB of memory, GPUs and chips: some thirty thousand SKUs that differ only in
their description. A description must match as a whole, because "Reserved ...", "... attached to DWS Defined Duration
VMs ..." and "... in Calendar Mode" contain the plain name and cost half as much.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Final

from trainfare_providers.answer_values import day_of, items_of, name_of, number_of, object_of, text_of
from trainfare_providers.machine_types import table_rows
from trainfare_providers.source_rows import Refused

HOURS_A_MONTH: Final = 730
"""By which Google converts a price per month to one per hour."""

_CHIPS_PER_OLD_DEVICE: Final = 4  # a SKU of TPU v2 to v4 prices eight cores, which are four chips

_DESCRIPTION: Final = re.compile(
    r"(?P<before>Spot Preemptible |Commitment v1: )?(?P<name>.+?)(?P<attached> attached to Spot Preemptible VMs)?"
    r"(?: running)?(?: in [^:]+?)?(?: for (?P<years>[0-9]) Years?)?"
)
_OLD_TPU: Final = re.compile(
    r"(?:Spot )?(?:Preemptible )?Tpu-(?P<version>v[234])(?P<pod> Pod)?\b.*", re.IGNORECASE
)

# Other purchase models, by a word of the description.
_OTHER_WAYS: Final = {row["word"]: row["way"] for row in table_rows("gcp_other_ways.csv")}
_UNITS: Final[Mapping[str, Mapping[str, int]]] = {
    "core": {"h": 1},
    "gpu": {"h": 1},
    "tpu": {"h": 1},
    "ram": {"GiBy.h": 1},
    "ssd": {"GiBy.mo": HOURS_A_MONTH, "GiBy.h": 1},
}
_YEARS: Final[Mapping[str, tuple[str, str]]] = {
    "1": ("reserved_1y", "Commit1Yr"),
    "3": ("reserved_3y", "Commit3Yr"),
}
_USAGE: Final[Mapping[str, tuple[str, ...]]] = {
    "on_demand": ("OnDemand",),
    "spot": ("Preemptible", "OnDemand"),  # B200's and old TPUs' spot SKUs say OnDemand
    "reserved_1y": ("Commit1Yr",),
    "reserved_3y": ("Commit3Yr",),
}


@cache
def _names(*, committed: bool) -> Mapping[str, tuple[str, str]]:
    """
    Return kind and host family, GPU or TPU of a part by the name in its description, from `data/gcp_sku_names.csv`.

    One card has several names, depending on the region, and the parts of a host have other names in commitments.
    """
    names = {"Local SSD" if committed else "SSD backed Local Storage": ("ssd", "")}
    for row in table_rows("gcp_sku_names.csv"):
        kind, name, of = row["kind"], row["name"], row["of"]
        if kind != "host":
            names[name] = (kind, of)
        elif committed:
            short = "" if of == "N1" else f"{of} "
            names |= {f"{short}Cpu": ("core", of), f"{short}Ram": ("ram", of)}
        else:
            names |= {f"{name} Core": ("core", of), f"{name} Ram": ("ram", of)}
    return names


@dataclass(frozen=True, slots=True)
class Part:
    """
    The price of a part in some regions.

    Attributes:
        kind: "core", "ram", "gpu", "ssd" or "tpu".
        of: the host family, GPU or TPU generation; "-pod" follows a generation whose pods have their own price.
        option: purchase option.
        usd: per hour, of one core, GiB of memory or local SSD, GPU, or chip.
    """

    kind: str
    of: str
    option: str
    usd: Decimal
    regions: tuple[str, ...]
    sku_id: str
    effective_on: str


def read_sku(sku: object, *, today: str) -> Part | Refused:
    """
    Return the part that a SKU prices, or why it is not used.

    Args:
        sku: of `skus`, numbers as int or Decimal.
        today: YYYY-MM-DD; of several prices the newest that holds already counts.
    """
    entry = object_of(sku)
    text = text_of(entry.get("description")) if entry else None
    if entry is None or text is None:
        return Refused("no description", quarantined=True)
    lower = text.lower()
    other = next((why for word, why in _OTHER_WAYS.items() if word in lower), None)
    if other is not None:
        return Refused(other)
    description = _parse_description(text)
    if isinstance(description, Refused):
        return description
    kind, of, option, share = description
    category = object_of(entry.get("category")) or {}
    if category.get("usageType") not in _USAGE[option]:
        return Refused("usage type and description disagree", quarantined=True)
    priced = _read_price(entry, kind, today)
    if isinstance(priced, Refused):
        return priced
    usd, day = priced
    regions = [name_of(region) for region in items_of(entry.get("serviceRegions"))]
    sku_id = name_of(entry.get("skuId"))
    known = tuple(region for region in regions if region is not None)
    if sku_id is None or not known or len(known) != len(regions):
        return Refused("no SKU id or regions", quarantined=True)
    return Part(kind, of, option, usd / share, known, sku_id, day)


def _parse_description(text: str) -> tuple[str, str, str, int] | Refused:
    """Return kind, of, purchase option, and how many units one price is for."""
    old = _OLD_TPU.fullmatch(text)
    if old is not None:
        if "commit" in text.lower() or "cud" in text.lower():
            return Refused("commitment for an old TPU")
        option = "spot" if "preemptible" in text.lower() else "on_demand"
        return "tpu", old["version"].lower() + ("-pod" if old["pod"] else ""), option, _CHIPS_PER_OLD_DEVICE
    match = _DESCRIPTION.fullmatch(text)
    before = (match["before"] or "").strip() if match else ""
    names = _names(committed=before == "Commitment v1:")
    part = names.get(match["name"]) if match else None
    if match is None or part is None:
        return Refused("not a part of a machine with accelerators")
    spot = before == "Spot Preemptible" or match["attached"] is not None
    if before == "Commitment v1:":
        term = _YEARS.get(match["years"] or "")
        if term is None or spot:
            return Refused("commitment of another term")
        return part[0], part[1], term[0], 1
    if match["years"] is not None:
        return Refused("term without a commitment", quarantined=True)
    return part[0], part[1], "spot" if spot else "on_demand", 1


def _read_price(sku: Mapping[str, object], kind: str, today: str) -> tuple[Decimal, str] | Refused:
    """Return USD an hour of one unit, and the day from which it holds."""
    dated = [
        (day_of(info.get("effectiveTime")), info)
        for info in (object_of(pricing) or {} for pricing in items_of(sku.get("pricingInfo")))
    ]
    begun = [(day, info) for day, info in dated if day is not None and day <= today]
    if not begun:
        return Refused("no price that has begun", quarantined=True)
    day, info = max(begun, key=lambda pair: pair[0])
    expression = object_of(info.get("pricingExpression")) or {}
    hours = _UNITS[kind].get(str(expression.get("usageUnit")))
    if hours is None:
        return Refused("price of another unit", quarantined=True)
    rates = items_of(expression.get("tieredRates"))
    rate = object_of(rates[0]) if len(rates) == 1 else None
    if rate is None or number_of(rate.get("startUsageAmount", 0)) != 0:
        return Refused("not one price but tiers", quarantined=True)
    money = object_of(rate.get("unitPrice")) or {}
    if money.get("currencyCode") != "USD":
        return Refused("currency is not USD", quarantined=True)
    usd = _money(money)
    if usd is None:
        return Refused("price is not a number", quarantined=True)
    return (usd / hours, day) if usd else Refused("price of 0")


def _money(money: Mapping[str, object]) -> Decimal | None:
    """Return `units`, whole and often as text, and `nanos`, billionths: 2 and 5000000 are 2.005."""
    units, nanos = money.get("units", "0"), number_of(money.get("nanos", 0))
    if isinstance(units, str):
        units = int(units) if re.fullmatch(r"[0-9]{1,9}", units, re.ASCII) else None
    whole = number_of(units)
    # The range is checked first: the remainder of 1E+999999 takes very long to compute.
    if whole is None or not 0 <= whole < 10**9 or whole % 1:
        return None
    if nanos is None or not 0 <= nanos < 10**9 or nanos % 1:
        return None
    return whole + nanos.scaleb(-9)
