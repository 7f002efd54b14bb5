"""Data transfer: out to the internet, to another region, to another zone."""

from __future__ import annotations

from trainfare_core.run_cost_facts.answers import Amount, TieredPrice, Unknown
from trainfare_core.run_cost_facts.table import amount, matching
from trainfare_core.run_cost_facts.tiers import tiered_price

__all__ = ["egress_price", "egress_usd", "inter_region_usd_per_gb", "inter_zone_usd_per_gb"]


def egress_price(cloud: str, region: str) -> TieredPrice | Unknown:
    """
    Return the price of data sent from a region to the internet, by tiers of a calendar month.

    Args:
        cloud: as in the price book.
        region: the cloud's own name.

    Returns:
        Dollars per GB by tier; `Unknown` where the region's price is not in the table.
    """
    return tiered_price(matching("egress_internet", cloud), region, f"the price of {cloud}'s egress")


def egress_usd(cloud: str, region: str, gb: float, *, gb_before: float = 0.0) -> Amount | Unknown:
    """
    Return the dollars of sending `gb` from a region to the internet within a month.

    Args:
        cloud: as in the price book.
        region: the cloud's own name.
        gb: GB of the cloud's bill.
        gb_before: GB that the account has sent in the same month; they use up the free and the expensive tiers.

    Returns:
        Dollars, not rounded; `Unknown` where the region's price is not in the table.

    Raises:
        InputError: an amount is negative or not finite.

    Example:
        >>> cost = egress_usd("aws", "us-east-1", 1_100)
        >>> f"{cost.value:.2f} {cost.unit}, {cost.as_of}"
        '90.00 usd, 2026-09-23'
    """
    price = egress_price(cloud, region)
    if isinstance(price, Unknown):
        return price
    return Amount(
        value=price.usd(gb, gb_before=gb_before),
        unit="usd",
        region_match=price.region_match,
        rows=price.rows,
        unused=price.unused,
    )


def inter_region_usd_per_gb(cloud: str, region: str) -> Amount | Unknown:
    """
    Return the price of data sent from a region to another one of the same cloud.

    Args:
        cloud: as in the price book.
        region: the region that sends.

    Returns:
        Dollars per GB.
    """
    return amount(
        matching("egress_inter_region", cloud), region, f"the price of {cloud}'s transfer between regions"
    )


def inter_zone_usd_per_gb(cloud: str, region: str) -> Amount | Unknown:
    """
    Return the price of data sent from a zone to another one of the same region.

    Args:
        cloud: as in the price book.
        region: the region of both zones.

    Returns:
        Dollars per GB.
    """
    return amount(
        matching("egress_inter_zone", cloud), region, f"the price of {cloud}'s transfer between zones"
    )
