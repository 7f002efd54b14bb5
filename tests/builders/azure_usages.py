"""Microsoft.Compute's usages of a location as they come over the wire, and prices of machines that count against them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from builders.offers import book_of, offer_row
from trainfare_core.prices.book import PriceBook

SUBSCRIPTION = "11111111-2222-3333-4444-555555555555"


def compute_usage(name: str, limit: object, used: int = 0) -> dict[str, Any]:
    """One entry; a family's label has spaces where its name has none."""
    label = {"value": name, "localizedValue": f"{name} vCPUs"}
    return {"unit": "Count", "currentValue": used, "limit": limit, "name": label}


USAGES = (
    compute_usage("availabilitySets", 2500),
    compute_usage("cores", 350, 12),
    compute_usage("virtualMachines", 25000, 3),
    compute_usage("lowPriorityCores", 100),
    compute_usage("standardDSv3Family", 350, 12),
    compute_usage("Standard NCASv3_T4 Family", 64),
    compute_usage("StandardNCADSA100v4Family", 48, 24),
    compute_usage("standardNDSH100v5Family", 0),
    compute_usage("StandardNVadsV710v5Family", 10),
)


def usages_path(region: str) -> str:
    return f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Compute/locations/{region}/usages"


def usages_page(entries: Iterable[Any], link: str | None = None) -> dict[str, Any]:
    """A page; only one that is not the last has a link."""
    return {"value": list(entries)} | ({} if link is None else {"nextLink": link})


def azure_prices(*regions: str) -> PriceBook:
    """On demand and spot, in each region: two machines of one family, one of another, and one of a family not known."""
    machines = {
        "Standard_NC24ads_A100_v4": ("A100-PCIE-80GB", 1.0, 24.0),
        "Standard_NC48ads_A100_v4": ("A100-PCIE-80GB", 2.0, 48.0),
        "Standard_ND96isr_H100_v5": ("H100-SXM-80GB", 8.0, 96.0),
        "Standard_NC144ds_xl_RTXPRO6000BSE_v6": ("RTXPRO6000-96GB", 1.0, 144.0),
    }
    return book_of(
        *(
            offer_row(
                provider="azure",
                service="azure_vm",
                instance_type=name,
                region=region,
                accelerator=accelerator,
                accelerator_count=count,
                accelerator_memory_gib=80.0,
                vcpus=vcpus,
                purchase_option=option,
            )
            for name, (accelerator, count, vcpus) in machines.items()
            for region in regions
            for option in ("on_demand", "spot")
        )
    )
