"""
Stage 5: duration of the whole run on a machine, beyond its training steps, and its cost beside the machine.

Hours are the sum of start-up, training steps, validation, checkpoint writes and, on spot machines, the work
that interruptions destroy. Dollars are price x machines x billed hours, plus disks.
Every figure that is assumed and not measured is in `CostAssumptions`, or a constant here, with its reason, and is
listed in the assumptions of the report.
"""

from __future__ import annotations

from trainfare_core.run_cost.billing import BillingClock, book_block_hours, find_block_use
from trainfare_core.run_cost.disks import (
    PLANNED_USD_PER_GIB_MONTH,
    disk_gib,
    disk_usd_per_gib_month,
    disks_usd_per_hour,
    machines_with_volume,
    regions_of_disk_prices,
    system_disk_gib,
)
from trainfare_core.run_cost.interrupted import SPOT_WAIT_S, STARTUP_LOG_SIGMA, spot_process
from trainfare_core.run_cost.model import checkpoint_bytes, compute_trained_model_gb, describe_trained_model
from trainfare_core.run_cost.sentences import cost_assumptions
from trainfare_core.run_cost.sourced import STATED, Sourced, choose_sourced, text_of
from trainfare_core.run_cost.table import NOT_SPOT, RunTable
from trainfare_core.run_cost.timing import UNKNOWN_LENGTH_STEPS, Rentals, RunTimer, forward_share, steps_of

__all__ = [
    "NOT_SPOT",
    "PLANNED_USD_PER_GIB_MONTH",
    "SPOT_WAIT_S",
    "STARTUP_LOG_SIGMA",
    "STATED",
    "UNKNOWN_LENGTH_STEPS",
    "BillingClock",
    "Rentals",
    "RunTable",
    "RunTimer",
    "Sourced",
    "book_block_hours",
    "checkpoint_bytes",
    "choose_sourced",
    "compute_trained_model_gb",
    "cost_assumptions",
    "describe_trained_model",
    "disk_gib",
    "disk_usd_per_gib_month",
    "disks_usd_per_hour",
    "find_block_use",
    "forward_share",
    "machines_with_volume",
    "regions_of_disk_prices",
    "spot_process",
    "steps_of",
    "system_disk_gib",
    "text_of",
]
