"""
What a run costs beside the hours of its machine, as published: data transfer, storage, billing, spot, start-up, quotas.

`find_fact` returns an answer with value, unit, source, date and what speaks against it, or `Unknown` with the reason;
no lookup returns the figure of another region in its place. `KINDS` says what there is. The table
`data/run_cost_facts.csv` is read on the first lookup. docs/run-cost-facts.md lists what is known and what is not.
"""

from __future__ import annotations

from trainfare_core.run_cost_facts.answers import (
    Amount,
    Answer,
    DiskPrice,
    InterruptionBand,
    Quota,
    Span,
    Statement,
    TieredPrice,
    Unknown,
)
from trainfare_core.run_cost_facts.facts import KINDS
from trainfare_core.run_cost_facts.lookup import (
    default_quota,
    find_fact,
    find_transfer,
    interruption_band,
    local_disk,
    machines_without_local_disk,
)
from trainfare_core.run_cost_facts.table import all_facts

__all__ = [
    "KINDS",
    "Amount",
    "Answer",
    "DiskPrice",
    "InterruptionBand",
    "Quota",
    "Span",
    "Statement",
    "TieredPrice",
    "Unknown",
    "all_facts",
    "default_quota",
    "find_fact",
    "find_transfer",
    "interruption_band",
    "local_disk",
    "machines_without_local_disk",
]
