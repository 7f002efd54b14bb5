"""What one optimizer step does on one device, as a trace recorded it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import stdev
from typing import Literal

import torch
from torch.optim.optimizer import Optimizer

from trainfare.trace import module_facts
from trainfare.trace.batch_spread import VARIES_FROM, BatchSpread, MeanWork, TracedBatch, mean_work
from trainfare.trace.weighted_sum import add_modules, add_operations, largest_memory
from trainfare_core.job_profile import (
    BatchVariation,
    MemoryFacts,
    ModuleWork,
    OperationGroup,
    OptimizerFacts,
    ParameterGroup,
)

LEAST_DIFFERENCE = 1e-6
"""Share of a step below which a mean of micro-batches differs by rounding alone."""
UNSEEN = 0.5
"""Difference in work of a kind of step that no draw showed, over the mean: a chosen value. By the rule of succession
such a kind comes once in n + 2 steps, n draws having been seen."""


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
        passes: micro-batches in the step.
        longer: the same step with one more of them; None where that is not known.
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
    passes: int = 1
    longer: StepFacts | None = None

    def with_passes(self, passes: float) -> StepFacts:
        """Return the mean of steps that have so many micro-batches in the mean."""
        more = passes - self.passes
        if self.longer is None or abs(more) < LEAST_DIFFERENCE * passes:
            return self
        other = None if self.other is None else self.other.with_passes(passes)
        return replace(add_steps([(self.longer, more), (self, 1.0 - more)]), other=other)

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
    Return the mean of several traces of a step whose work is random or periodic; the first where all did the same.

    Where the traces repeat each other in a period, the mean is that of whole periods; its memory is that of the largest
    draw.

    Args:
        steps: at least one, of batches of one size, in their order.
        random: a value that the step read or drew may have chosen its work; False: the number of the step has.
    """
    # An update that differs may cost time beyond its share of FLOPs and bytes, so it is compared by itself as well.
    updates = [
        replace(step, operations=tuple(group for group in step.operations if group.phase == "optimizer"))
        for step in steps
    ]
    if max(_deviation_of(steps), _deviation_of(updates)) <= VARIES_FROM:
        return steps[0]
    draws = _take_whole_periods(steps)
    share, flops = 1.0 / len(draws), [draw.flops for draw in draws]
    operations = add_operations((draw.operations, share) for draw in draws)
    return replace(
        # A layer that was left out in every step before has no optimizer state yet.
        max(steps, key=lambda step: step.optimizer.state_bytes),
        operations=operations,
        modules=add_modules(((draw.modules, share) for draw in draws), operations),
        memory=largest_memory([draw.memory for draw in draws]),
        variation=BatchVariation(
            batches=len(draws),
            smallest_flops=min(flops),
            largest_flops=max(flops),
            work_log_sigma=doubt_of_draws(draws),
        ),
        differs=f"mean of {len(draws)} traced steps, whose work is random"
        if random
        else f"steps differ: mean of {len(draws)} traced steps",
        notes=tuple(dict.fromkeys(note for step in steps for note in step.notes)),
    )


def doubt_of_draws(draws: Sequence[StepFacts]) -> float:
    """Return the standard deviation of ln(mean work) of several traces of equal batches whose work is random."""
    return math.hypot(_deviation_of(draws) / math.sqrt(len(draws)), UNSEEN / (len(draws) + 2))


def _take_whole_periods(draws: Sequence[StepFacts]) -> Sequence[StepFacts]:
    """Return the last of the draws that make whole periods; all, where they do not repeat each other twice."""
    for period in range(2, len(draws) // 2 + 1):
        pairs = zip(draws, draws[period:], strict=False)
        if all(_deviation_of(pair) <= VARIES_FROM for pair in pairs):
            return draws[len(draws) % period :]
    return draws


def _deviation_of(draws: Sequence[StepFacts]) -> float:
    flops = [draw.flops for draw in draws]
    moved = [sum(group.bytes_moved for group in draw.operations) for draw in draws]
    return max(_relative_deviation(flops), _relative_deviation(moved))


def _relative_deviation(amounts: Sequence[int]) -> float:
    """Return the standard deviation that a sample suggests, over its mean; 0 for one amount."""
    mean = sum(amounts) / len(amounts)
    return stdev(amounts) / mean if len(amounts) > 1 and mean else 0.0


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
