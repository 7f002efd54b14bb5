"""
Stage 5: duration of the whole run on a machine, beyond its training steps, and its cost beside the machine.

Hours are the sum of start-up, training steps, validation, checkpoint writes and, on spot machines, the work
that interruptions destroy. Dollars are price x machines x billed hours, plus disks.
Every figure that is assumed and not measured is in `CostAssumptions`, or a constant here, with its reason, and is
listed in the assumptions of the report.
"""

from __future__ import annotations

from trainfare_core.run_cost.billing import book_block_hours
from trainfare_core.run_cost.table import NOT_SPOT
from trainfare_core.run_cost.timing import steps_of

__all__ = ["NOT_SPOT", "book_block_hours", "steps_of"]
