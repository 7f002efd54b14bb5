"""What one optimizer step does on one device, as a trace recorded it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from trainfare_core.job_profile import MemoryFacts, ModuleWork, OperationGroup, OptimizerFacts, ParameterGroup

__all__ = ["StepFacts"]


@dataclass(frozen=True, slots=True)
class StepFacts:
    """
    Operations, parameters and memory of one optimizer step on one device.

    Attributes:
        how: "real" where the training's own step was recorded, "fake" where a copy ran on fake tensors.
        operations: of all micro-batches of the step and of the optimizer's update.
        modules: the same work by submodule.
        parameters: by dtype and by whether they train.
        optimizer: names, state and implementation.
        memory: of one micro-batch, in bytes.
        optimizer_calls: how often an optimizer stepped; above 1 under manual optimization.
        batch_norm: the module normalises over the samples of one device's micro-batch.
        compiled: whether a `torch.compile` wrapper was removed to trace the step.
        notes: what could not be recorded or was assumed, one sentence each.
    """

    how: Literal["real", "fake"]
    operations: tuple[OperationGroup, ...]
    modules: tuple[ModuleWork, ...]
    parameters: tuple[ParameterGroup, ...]
    optimizer: OptimizerFacts
    memory: MemoryFacts
    optimizer_calls: int = 1
    batch_norm: bool = False
    compiled: bool = False
    notes: tuple[str, ...] = ()

    def with_note(self, note: str) -> StepFacts:
        """Return the same facts with one more note."""
        return replace(self, notes=(*self.notes, note))
