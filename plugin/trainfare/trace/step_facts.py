"""What one optimizer step does on one device, as a trace recorded it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch.optim.optimizer import Optimizer

from trainfare.trace import module_facts
from trainfare.trace.batch_spread import BatchSpread, MeanWork, TracedBatch, mean_of_draws, mean_work
from trainfare.trace.weighted_sum import add_modules, add_operations, largest_memory
from trainfare_core.job_profile import (
    BatchVariation,
    MemoryFacts,
    ModuleWork,
    OperationGroup,
    OptimizerFacts,
    ParameterGroup,
)


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
        batch_norms: submodules that normalise over samples.
        optimizer_calls: how often an optimizer steps in one step; not 1 under manual optimization only.
        batches_per_step: under manual optimization, the batches up to one in which an optimizer steps; else 1.
        differs: what a step is, where steps differ from each other; for the place of its FLOPs in a report.
        elements: of the tensors of the traced micro-batch; 0 where not known.
        other: the same step for a micro-batch of another size, where batches vary.
        variation: how far steps of equal batches vary, where their work is random; the operations are their mean.
        notes: what could not be recorded or was assumed, one sentence each.
    """

    how: Literal["real", "fake"]
    operations: tuple[OperationGroup, ...]
    modules: tuple[ModuleWork, ...]
    parameters: tuple[ParameterGroup, ...]
    optimizer: OptimizerFacts
    memory: MemoryFacts
    batch_norms: module_facts.BatchNorms = module_facts.BatchNorms()  # noqa: RUF009 - it is frozen
    optimizer_calls: float = 1
    batches_per_step: float = 1.0
    differs: str = ""
    elements: int = 0
    other: StepFacts | None = None
    variation: BatchVariation | None = None
    notes: tuple[str, ...] = ()

    @property
    def batch(self) -> TracedBatch:
        """The work of this step, with the size of its micro-batch."""
        return TracedBatch(float(self.elements), self.operations, self.modules, self.memory)

    @property
    def flops(self) -> int:
        """FLOPs of the step."""
        return sum(group.flops for group in self.operations)

    def mean_work(self, spread: BatchSpread) -> MeanWork | None:
        """
        Return the work of the mean of these batches; None where they do not vary, or this one's size is not known.

        Args:
            spread: sizes of the run's batches.
        """
        if not (spread.varies and self.elements):
            return None
        return mean_work(self.batch, spread, None if self.other is None else self.other.batch)


def add_steps(parts: Sequence[tuple[StepFacts, float]]) -> StepFacts:
    """
    Return the sum of steps, each times its weight.

    Operations and the work of submodules are added by key, memory is that of the step that needs most, notes are those
    of all steps, and what else is known of a step is that of the last part.

    Args:
        parts: at least one step, and how many of it the sum has.
    """
    if len(parts) == 1 and parts[0][1] == 1.0:
        return parts[0][0]
    operations = add_operations((step.operations, weight) for step, weight in parts)
    return replace(
        parts[-1][0],
        operations=operations,
        modules=add_modules(((step.modules, weight) for step, weight in parts), operations),
        memory=largest_memory([step.memory for step, weight in parts if weight > 0]),
        optimizer_calls=max(step.optimizer_calls for step, _ in parts),
        variation=_add_variations(parts),
        notes=tuple(dict.fromkeys(note for step, _ in parts for note in step.notes)),
    )


def _add_variations(parts: Sequence[tuple[StepFacts, float]]) -> BatchVariation | None:
    known = [step.variation for step, _ in parts if step.variation is not None]
    total = sum(weight * step.flops for step, weight in parts)
    if not known:
        return None

    def ends(name: str) -> int:
        return round(
            sum(weight * getattr(step.variation or step, name, step.flops) for step, weight in parts)
        )

    sigmas = [
        weight * step.flops * step.variation.work_log_sigma
        for step, weight in parts
        if step.variation is not None
    ]
    return BatchVariation(
        batches=sum(variation.batches for variation in known),
        smallest_flops=ends("smallest_flops"),
        largest_flops=ends("largest_flops"),
        work_log_sigma=min(1.0, math.hypot(*sigmas) / total)
        if total
        else max(v.work_log_sigma for v in known),
    )


def average_draws(steps: Sequence[StepFacts], *, random: bool = True) -> StepFacts:
    """
    Return the mean of several traces of a step whose work differs; the first where all did the same.

    Args:
        steps: at least one, of batches of one size, in their order.
        random: a value that the step read or drew may have chosen its work; False: the number of the step has.
    """
    mean, variation = mean_of_draws([step.batch for step in steps])
    if variation is None:
        return steps[0]
    return replace(
        # A layer that was left out in every step before has no optimizer state yet.
        max(steps, key=lambda step: step.optimizer.state_bytes),
        operations=mean.operations,
        modules=mean.modules,
        memory=mean.memory,
        variation=variation,
        differs=f"mean of {variation.batches} traced steps, whose work is random"
        if random
        else f"steps differ: mean of {variation.batches} traced steps",
        notes=tuple(dict.fromkeys(note for step in steps for note in step.notes)),
    )


def collect_untraced_facts(module: torch.nn.Module, optimizers: Sequence[Optimizer]) -> StepFacts:
    """
    Return what is known of a step that was not traced: parameters, gradients and optimizer, and no operation.

    Args:
        module: its parameters are counted.
        optimizers: their state is counted, which exists after a step.
    """
    parameters = module_facts.parameter_groups(module)
    return StepFacts(
        how="real",
        operations=(),
        modules=(),
        parameters=parameters,
        optimizer=module_facts.optimizer_facts(optimizers),
        memory=MemoryFacts(
            saved_activation_bytes=0,
            gradient_bytes=sum(group.parameter_bytes for group in parameters if group.trainable),
        ),
    )
