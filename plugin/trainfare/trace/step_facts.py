"""What one watched training step showed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from trainfare_core.job_profile import MemoryFacts, OperationGroup, OptimizerFacts, ParameterGroup

__all__ = ["StepFacts"]


@dataclass(frozen=True, slots=True)
class StepFacts:
    """What one optimizer step does, however it was seen."""

    how: Literal["real", "fake"]
    operations: tuple[OperationGroup, ...]
    parameters: tuple[ParameterGroup, ...]
    optimizer: OptimizerFacts
    memory: MemoryFacts
    compiled: bool = False
    notes: tuple[str, ...] = ()

    def with_note(self, note: str) -> StepFacts:
        """Return the same facts with one more note."""
        return replace(self, notes=(*self.notes, note))
