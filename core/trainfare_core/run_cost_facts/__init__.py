"""
What a run costs beside the hours of its machine, as published: data transfer, storage, billing, spot, start-up, quotas.

`find_fact` returns an answer with value, unit, source, date and what speaks against it, or `Unknown` with the reason;
no lookup returns the figure of another region in its place. `KINDS` says what there is. The table
`data/run_cost_facts.csv` is read on the first lookup. docs/run-cost-facts.md lists what is known and what is not.
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
from .facts import EVERYWHERE, Fact, FactSource, SourceClass, Weakness
from .kinds import KINDS, Kind
from .limits import default_quota
from .local_disks import LocalDisk, local_disk, machines_without_local_disk
from .lookup import find_fact, find_transfer
from .spot import interruption_band
from .table import all_facts

__all__ = [
    "EVERYWHERE",
    "KINDS",
    "Amount",
    "Answer",
    "DiskPrice",
    "Fact",
    "FactSource",
    "InterruptionBand",
    "Kind",
    "LocalDisk",
    "PriceTier",
    "Quota",
    "RegionMatch",
    "SourceClass",
    "Span",
    "Statement",
    "TieredPrice",
    "Unknown",
    "Weakness",
    "all_facts",
    "default_quota",
    "find_fact",
    "find_transfer",
    "interruption_band",
    "local_disk",
    "machines_without_local_disk",
]
