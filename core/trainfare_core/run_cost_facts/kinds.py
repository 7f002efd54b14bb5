"""The kinds of facts: what they are of, their units, and which kind is asked where one is not known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

AmountKind: TypeAlias = Literal[
    "egress_inter_region", "egress_inter_zone", "object_storage_request", "object_storage_retrieval", "local_ssd",
    "billing_step", "billing_minimum", "warm_pool_max", "spot_notice", "spot_savings", "spot_price_ratio",
    "spot_price_ratio_median", "spot_price_floor", "spot_zones_at_on_demand_price", "spot_zone_spread_median",
    "spot_price_move_9_days", "quota_vcpus", "flex_start_price", "flex_start_max_run",
]  # fmt: skip
"""Kinds whose answer is one number."""

StatementKind: TypeAlias = Literal[
    "managed_spot_discount", "capacity_block_payment", "capacity_block_end", "flex_start_price_change"
]
"""Kinds whose answer is in words."""

TierKind: TypeAlias = Literal["egress_internet", "object_storage"]
"""Kinds whose answer is a price by tiers of a calendar month."""

SpanKind: TypeAlias = Literal["spot_preemption", "startup_to_running", "startup_to_ready"]
"""Kinds whose answer is a range; the item of a row is its end, `low` or `high`."""

DiskKind: TypeAlias = Literal["disk"]


@dataclass(frozen=True, slots=True)
class Kind:
    """
    A kind of facts.

    Attributes:
        subject: what a fact is of, for the reason why it is not known; with the names of the keys in braces.
        units: those that values may have.
        by_family: whether rows are about the family of a machine type (g5 of g5.xlarge), in every region.
        fallback: the kind that is asked where this one is not known; "" is none.
    """

    subject: str
    units: tuple[str, ...]
    by_family: bool = False
    fallback: str = ""


_SSD: Final = ("usd_per_gb_month", "usd_per_gib_hour", "usd_per_month")
_STARTUP: Final = "the start-up of {cloud} {service}"

KINDS: Final[Mapping[str, Kind]] = {
    # Data transfer: out to the internet, from a region to another one, from a zone to another one.
    "egress_internet": Kind("the price of {cloud}'s egress", ("usd_per_gb",)),
    "egress_inter_region": Kind("the price of {cloud}'s transfer to {item}", ("usd_per_gb",)),
    "egress_inter_zone": Kind("the price of {cloud}'s transfer between zones", ("usd_per_gb",)),
    # Storage. Items are classes (standard; infrequent: S3 Standard-IA, Azure's cool tier, Google's Nearline; archive;
    # premium), requests (read is GET, write is PUT) and disks, such as gp3 or premium-ssd-v2.
    "object_storage": Kind("the price of {cloud}'s object storage ({item})", ("usd_per_gb_month",)),
    "object_storage_request": Kind(
        "the price of {cloud}'s {item} requests to object storage", ("usd_per_request",)
    ),
    "object_storage_retrieval": Kind(
        "the price of reading {cloud}'s object storage ({item})", ("usd_per_gb",)
    ),
    "disk": Kind("the price of {cloud}'s disk {item}", _SSD),
    "local_ssd": Kind("the price of the local SSD of {cloud}'s {machine}", ("usd_per_hour",)),
    # Billed time is rounded up to whole steps; a minimum of 0 is none; machines in a warm pool are billed meanwhile.
    "billing_step": Kind("the billing step of {cloud} {service}", ("s",)),
    "billing_minimum": Kind("the least billed time of {cloud} {service}", ("s",)),
    "warm_pool_max": Kind("the longest time in a warm pool of {cloud} {service}", ("s",)),
    "managed_spot_discount": Kind("where the managed spot discount of {cloud} {service} appears", ("text",)),
    "capacity_block_payment": Kind("the payment of {cloud}'s capacity blocks", ("text",)),
    "capacity_block_end": Kind("the hour at which {cloud}'s capacity blocks end", ("utc_time",)),
    # Spot. Savings are a mean of 30 days, below 0 where spot cost more; ratios are spot over on-demand; the spread is
    # the highest price of a region's zones over the lowest; the floor is the lowest ratio that was seen.
    "spot_notice": Kind("the notice before {cloud} {service} takes a spot machine back", ("s",)),
    "spot_interruption_band": Kind("the interruption band of {machine}", ("band",)),
    "spot_savings": Kind("the spot saving of {machine}", ("share",)),
    "spot_preemption": Kind("the daily share of lost spot machines of {cloud} {service}", ("share_per_day",)),
    "spot_price_ratio": Kind(
        "the spot price ratio of {machine}", ("ratio",), fallback="spot_price_ratio_median"
    ),
    "spot_price_ratio_median": Kind(
        "the median spot price ratio of {cloud}'s {machine}", ("ratio",), by_family=True
    ),
    "spot_price_floor": Kind("the lowest spot price of {cloud}", ("ratio",)),
    "spot_zones_at_on_demand_price": Kind(
        "the share of zones at on-demand of {cloud}'s {machine}", ("share",), by_family=True
    ),
    "spot_zone_spread_median": Kind(
        "the spread of spot prices of {cloud}'s {machine}", ("ratio",), by_family=True
    ),
    "spot_price_move_9_days": Kind("the price move of {machine} on {cloud}", ("share",)),
    # From the request until the machine runs, or, where only that is known, until it is ready to use.
    "startup_to_running": Kind(_STARTUP, ("s",), fallback="startup_to_ready"),
    "startup_to_ready": Kind(_STARTUP, ("s",)),
    "default_quota": Kind("the default quota of {cloud}'s {machine}", ("gpu", "instance", "vcpu")),
    "quota_vcpus": Kind("how much of a quota {cloud}'s {machine} takes", ("vcpu",)),
    # For TPUs the machine is the generation, such as v6e, and the price per chip.
    "flex_start_price": Kind(
        "the flex-start price of {cloud}'s {machine}", ("usd_per_hour", "usd_per_chip_hour")
    ),
    "flex_start_max_run": Kind("the longest flex-start run of {cloud} {service}", ("s",)),
    "flex_start_price_change": Kind("a change of {cloud}'s flex-start prices", ("month",)),
}
"""Kinds of facts in the order of the table."""
