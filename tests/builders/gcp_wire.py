"""
SKUs and pages of the Cloud Billing catalogue as they come over the wire, with real prices.

A2 (all four options), N1 with T4, A3Plus, A4, TPU v5e, v5p, v6e and 7x: prices of SKUs as recorded 2023-03 or quoted from
the catalogue in 2026. A3, A3Ultra, G2 and G4: split so that machines come out at their published price; the split of
core and memory is ours. Identifiers are ours.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

US = ("us-central1", "us-east1", "us-west1")
DAY = "2026-07-01T07:00:00.000Z"


def sku(
    description: str,
    usd: str,
    usage: str = "OnDemand",
    regions: Iterable[str] = ("us-central1",),
    unit: str = "h",
    **changes: Any,
) -> dict[str, Any]:
    """One SKU: a price of 2.933908 is units "2" and nanos 933908000."""
    price = Decimal(usd)
    money = {"currencyCode": "USD", "units": str(int(price)), "nanos": int((price % 1).scaleb(9))}
    expression = {
        "usageUnit": unit,
        "displayQuantity": 1,
        "tieredRates": [{"startUsageAmount": 0, "unitPrice": money}],
        "usageUnitDescription": "hour",
        "baseUnit": "s",
        "baseUnitConversionFactor": 3600,
    }
    words = "".join(letter for letter in description if letter.isalnum())
    return {
        "name": f"services/6F81-5844-456A/skus/{words[:40]}",
        "skuId": f"{words[:60]}-{sum(map(ord, description)):X}",
        "description": description,
        "category": {
            "serviceDisplayName": "Compute Engine",
            "resourceFamily": "Compute",
            "resourceGroup": "GPU",
            "usageType": usage,
        },
        "serviceRegions": list(regions),
        "pricingInfo": [
            {
                "summary": "",
                "pricingExpression": expression,
                "currencyConversionRate": 1,
                "effectiveTime": DAY,
            }
        ],
        "serviceProviderName": "Google",
        **changes,
    }


def ram(description: str, usd: str, usage: str = "OnDemand", **changes: Any) -> dict[str, Any]:
    return sku(description, usd, usage, unit="GiBy.h", **changes)


def ssd(description: str, usd: str, usage: str = "OnDemand", **changes: Any) -> dict[str, Any]:
    return sku(description, usd, usage, unit="GiBy.mo", **changes)


SPOT = "attached to Spot Preemptible VMs running in Americas"

COMPUTE: tuple[dict[str, Any], ...] = (
    # A2: three regions at once, and all four ways to pay.
    sku("A2 Instance Core running in Americas", "0.031611", regions=US),
    ram("A2 Instance Ram running in Americas", "0.004237", regions=US),
    sku("Nvidia Tesla A100 GPU running in Americas", "2.933908", regions=US),
    sku("Nvidia Tesla A100 80GB GPU running in Americas", "3.92808"),
    sku("Spot Preemptible A2 Instance Core running in Americas", "0.012642", "Preemptible"),
    ram("Spot Preemptible A2 Instance Ram running in Americas", "0.001694", "Preemptible"),
    sku(f"Nvidia Tesla A100 GPU {SPOT}", "1.632326", "Preemptible"),
    sku("Commitment v1: A2 Cpu in Americas for 1 Year", "0.019915", "Commit1Yr"),
    ram("Commitment v1: A2 Ram in Americas for 1 Year", "0.002669", "Commit1Yr"),
    sku("Commitment v1: Nvidia Tesla A100 GPU running in Americas for 1 Year", "1.84836204", "Commit1Yr"),
    # A3: local SSD belongs to the machine; without it the price is 87.83.
    sku("A3 Instance Core running in Americas", "0.0255"),
    ram("A3 Instance Ram running in Americas", "0.002220115"),
    sku("Nvidia H100 80GB GPU running in Americas", "9.796551"),
    ssd("SSD backed Local Storage", "0.08", regions=US),
    # A3 Mega's GPU has another name in other regions.
    sku("A3Plus Instance Core running in Americas", "0.026924"),
    ram("A3Plus Instance Ram running in Americas", "0.002344"),
    sku("Nvidia H100 80GB Plus GPU running in Americas", "10.344276"),
    sku("A3Ultra Instance Core running in Americas", "0.025"),
    ram("A3Ultra Instance Ram running in Americas", "0.0022"),
    sku("H200 141GB GPU running in Americas", "8.924842"),
    # A4: a slice holds its part of the host; the spot SKU says OnDemand.
    sku("A4 Nvidia B200 (1 gpu slice) running in Americas", "16.11"),
    sku("Spot Preemptible A4 Nvidia B200 (1 gpu slice) running in Americas", "4.9542", "OnDemand"),
    sku("Commitment v1: A4 Nvidia B200 (1 gpu slice) in Americas for 1 Year", "11.1159", "Commit1Yr"),
    sku("Commitment v1: A4 Nvidia B200 (1 gpu slice) in Americas for 3 Years", "7.0884", "Commit3Yr"),
    # G2, G4 (also by parts of a GPU), N1 with a T4.
    sku("G2 Instance Core running in Americas", "0.02499"),
    ram("G2 Instance Ram running in Americas", "0.002927"),
    sku("Nvidia L4 GPU running in Americas", "0.56004026"),
    sku("G4 Instance Core running in Americas", "0.05"),
    ram("G4 Instance Ram running in Americas", "0.00587"),
    sku("RTX 6000 96GB running in Americas", "1.04333"),
    sku("N1 Predefined Instance Core running in Americas", "0.031611"),
    ram("N1 Predefined Instance Ram running in Americas", "0.004237"),
    sku("Nvidia Tesla T4 GPU running in Americas", "0.35"),
    # The same things sold in other ways, at about half the price.
    sku("Reserved Nvidia H100 80GB Mega GPU in Americas in Calendar Mode", "4.841121"),
    sku("Nvidia H100 Mega 80GB GPU attached to DWS Defined Duration VMs running in Americas", "4.423936"),
    sku("DWS Calendar Mode A4 Nvidia B200 (1 gpu slice) running in Americas", "11.277"),
    sku("DWS Defined Duration A2 Core running in Americas", "0.017"),
    sku("Reserved A2 Instance Core in Americas", "0"),
    sku("Nvidia Tesla T4 GPU attached to Sole Tenancy VMs running in Americas", "0.35"),
    sku("G2 Custom Instance Core running in Americas", "0.0262395"),
    sku("Sole Tenancy Premium for A2 Instance running in Americas", "0.0031611"),
    sku("Commitment v1: N4A Core in Johannesburg for 5 Years", "0.0125551", "Commit"),
    sku("E2 Instance Core running in Americas", "0.02181159"),
    # A region without such a machine, and a machine whose memory has no price.
    sku("Nvidia Tesla A100 GPU running in Sydney", "3.5", regions=("australia-southeast1",)),
    sku("Nvidia Tesla A100 GPU running in Tokyo", "3.3741", regions=("asia-northeast1",)),
    sku("A2 Instance Core running in Tokyo", "0.0406", regions=("asia-northeast1",)),
    # TPUs of this service: a price is of a chip.
    sku("TpuV5e running in Americas", "1.2", regions=("us-west4",)),
    sku("TpuV5e attached to Spot Preemptible VMs running in Americas", "0.48", "Preemptible", ("us-west4",)),
    sku("TpuV5p running in Columbus", "4.2", regions=("us-east5",)),
    sku("TpuV6e running in Columbus", "2.7", regions=("us-east5",)),
    sku("TpuV6e attached to Spot Preemptible VMs running in Columbus", "1.4033", "Preemptible", ("us-east5",)),
    sku("DWS Defined Duration V6e running in Columbus", "1.35", regions=("us-east5",)),
    sku("Capacity Optimized TpuV6e running in Columbus", "2.7", regions=("us-east5",)),
    sku("Reserved V6e TPU in Columbus in Calendar Mode", "1.89", regions=("us-east5",)),
    sku("Commitment v1: TpuV5p running in Netherlands for 3 Years", "1.911", "Commit3Yr", ("europe-west4",)),
    sku("TpuV5p running in Sao Paulo", "6.430995", regions=("southamerica-east1",)),
    sku("TPU7x running in Americas", "12", regions=("us-west1", "us-central1", "us-east1")),
)  # fmt: skip

TPU: tuple[dict[str, Any], ...] = (
    # TPUs of the older service: a price is of a device of four chips, and pods have their own.
    sku("Tpu-v2 Accelerator USA", "4.5"),
    sku("Tpu-v2 Pod Accelerator USA", "6"),
    sku("Preemptible Tpu-v2 Accelerator USA", "1.35", "OnDemand"),
    sku("Tpu-v3 Accelerator USA", "8"),
    sku("Tpu-v4 Pod Accelerator USA", "12.88", regions=("us-central2",)),
    sku("Preemptible Tpu-v4 Pod Accelerator USA", "3.686", "OnDemand", ("us-central2",)),
    sku("Commitment: Tpu-v4 Pod for 1 Year", "8.1144", "Commit1Yr", ("us-central2",)),
)


def page(skus: Iterable[Any], token: str = "") -> bytes:
    """A page as documented; the last one has an empty token."""
    return json.dumps({"skus": list(skus), "nextPageToken": token}).encode()
