"""Disks of a run: those that keep its checkpoints, and the machines' own."""

from __future__ import annotations

from typing import Final

from trainfare_core.clouds import HOURS_PER_MONTH
from trainfare_core.cost_assumptions import CostAssumptions
from trainfare_core.job_profile import JobProfile

__all__ = ["machine_disk_usd_per_hour", "storage_usd_per_hour"]

_GIB: Final = 2.0**30


def storage_usd_per_hour(profile: JobProfile, assumed: CostAssumptions | None = None) -> float:
    """Dollars an hour for the disk space of the checkpoints that are kept while the run lasts."""
    assumed = assumed or CostAssumptions()
    kept_gib = assumed.checkpoints_kept * profile.plan.checkpoint_bytes / _GIB
    return kept_gib * assumed.disk_usd_per_gib_month / HOURS_PER_MONTH


def machine_disk_usd_per_hour(assumed: CostAssumptions, data_gb: float) -> float:
    """Dollars an hour for one machine's own disk: its system and its copy of the data."""
    return assumed.machine_disk_gib(data_gb) * assumed.disk_usd_per_gib_month / HOURS_PER_MONTH
