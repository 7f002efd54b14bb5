"""
Prices that bind: reservations and savings plans are paid for their whole term, capacity blocks for whole days.

Sources: EC2 `ReservedInstancesOffering.duration` (31,536,000 or 94,608,000 s), which is billed whether used or not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

TERM_HOURS: Final[Mapping[str, float]] = {
    "reserved_1y": 8_760.0,
    "savings_1y": 8_760.0,
    "reserved_3y": 26_280.0,
    "savings_3y": 26_280.0,
}
"""Hours of the term by purchase option: 365 days a year."""

CAPACITY_BLOCK: Final = "capacity_block"

MAX_COMMITMENT_AGE_DAYS: Final = 366.0
"""Age of a price from which no commitment is ranked or recommended: as long as the shortest term. A chosen value."""
