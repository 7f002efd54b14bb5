"""The kinds of facts: what they are of, their units, and which kind is asked where one is not known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from trainfare_core.documents import data_rows

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


KINDS: Final[Mapping[str, Kind]] = {
    row["kind"]: Kind(row["subject"], tuple(row["units"].split()), row["by_family"] == "yes", row["fallback"])
    for row in data_rows("run_cost_kinds.csv")
}
"""Kinds of facts in the order of the table; `data/run_cost_kinds.csv` says besides what their items and values are."""
