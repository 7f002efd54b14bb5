"""
What a run costs beside the hours of its machine, as published: data transfer, storage, billing, spot, start-up, quotas.

Each lookup returns an answer with value, unit, source, date and what speaks against it, or `Unknown` with the reason;
no lookup returns the figure of another region in its place. The table `data/run_cost_facts.csv` is read on the first
lookup. docs/run-cost-facts.md lists what is known and what is not.
"""

from __future__ import annotations

from .answers import (
    Amount,
    Answer,
    DiskPrice,
    InterruptionBand,
    PriceTier,
    Quota,
    RegionMatch,
    Span,
    Statement,
    TieredPrice,
    Unknown,
)
from .billing import (
    billing_minimum_s,
    billing_step_s,
    capacity_block_payment,
    capacity_block_start_utc,
    flex_start_max_run_s,
    flex_start_price,
    flex_start_price_change,
    managed_spot_discount,
    warm_pool_max_s,
)
from .facts import EVERYWHERE, UNITS_OF_KIND, Fact, FactSource, SourceClass, Weakness
from .limits import default_quota, quota_vcpus, startup_s
from .local_disks import LocalDisk, local_disk, machines_without_local_disk
from .spot import (
    interruption_band,
    spot_notice_s,
    spot_preemption_share_per_day,
    spot_price_floor_ratio,
    spot_price_move_in_9_days,
    spot_price_ratio,
    spot_savings,
    spot_zone_spread_ratio,
    spot_zones_at_on_demand_price,
)
from .storage import (
    RequestKind,
    StorageClass,
    disk_price,
    disk_prices,
    local_ssd_usd_per_hour,
    object_storage_request_usd,
    object_storage_retrieval_usd_per_gb,
    object_storage_usd_per_gb_month,
)
from .table import all_facts
from .transfer import egress_price, egress_usd, inter_region_usd_per_gb, inter_zone_usd_per_gb

__all__ = [
    "EVERYWHERE",
    "UNITS_OF_KIND",
    "Amount",
    "Answer",
    "DiskPrice",
    "Fact",
    "FactSource",
    "InterruptionBand",
    "LocalDisk",
    "PriceTier",
    "Quota",
    "RegionMatch",
    "RequestKind",
    "SourceClass",
    "Span",
    "Statement",
    "StorageClass",
    "TieredPrice",
    "Unknown",
    "Weakness",
    "all_facts",
    "billing_minimum_s",
    "billing_step_s",
    "capacity_block_payment",
    "capacity_block_start_utc",
    "default_quota",
    "disk_price",
    "disk_prices",
    "egress_price",
    "egress_usd",
    "flex_start_max_run_s",
    "flex_start_price",
    "flex_start_price_change",
    "inter_region_usd_per_gb",
    "inter_zone_usd_per_gb",
    "interruption_band",
    "local_disk",
    "local_ssd_usd_per_hour",
    "machines_without_local_disk",
    "managed_spot_discount",
    "object_storage_request_usd",
    "object_storage_retrieval_usd_per_gb",
    "object_storage_usd_per_gb_month",
    "quota_vcpus",
    "spot_notice_s",
    "spot_preemption_share_per_day",
    "spot_price_floor_ratio",
    "spot_price_move_in_9_days",
    "spot_price_ratio",
    "spot_savings",
    "spot_zone_spread_ratio",
    "spot_zones_at_on_demand_price",
    "startup_s",
    "warm_pool_max_s",
]
