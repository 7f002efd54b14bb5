"""What would make a run cheaper: each change alone, priced by the ranking, with the interval of the difference."""

from __future__ import annotations

from trainfare_core.savings.answer import JointSaving, NotPriced, Saving, Savings
from trainfare_core.savings.find_savings import find_savings
from trainfare_core.savings.levers import LeverName, SavingGroup

__all__ = ["JointSaving", "LeverName", "NotPriced", "Saving", "SavingGroup", "Savings", "find_savings"]
