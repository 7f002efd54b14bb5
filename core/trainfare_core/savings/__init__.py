"""What would make a run cheaper: each change alone, priced by the ranking, with the interval of the difference."""

from __future__ import annotations

from trainfare_core.savings.answer import JointSaving, NotPriced, Savings
from trainfare_core.savings.find_savings import find_savings, list_savings

__all__ = ["JointSaving", "NotPriced", "Savings", "find_savings", "list_savings"]
