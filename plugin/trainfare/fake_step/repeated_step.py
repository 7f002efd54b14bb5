"""
Trace the step of a module that has many equal blocks by versions of it that have few.

Versions with 2, 3 and 4 pieces of equal blocks are traced, and the step of the whole module follows from them. Its own
forward runs once, on fake tensors, to compare its operations with those that follow for it: where a later block does
anything else, where amounts do not grow linearly, where random draws decide what is done, or where the short versions
do not run, every block is traced.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from trainfare.fake_step.equal_blocks import SHORTEST, EqualBlocks, ForwardLog, shorten_blocks
from trainfare.fake_step.fake_step import run_forward, trace_step
from trainfare.fake_step.fake_tensors import Faker
from trainfare.fake_step.step_runner import without_collection
from trainfare.job.loop import TrainingStep
from trainfare.trace import StepFacts, StepTrace
from trainfare.trace.longer_step import ShortStep, longer_step
from trainfare.trace.repetition import Item, NotRepeatedError, extend_sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class ShortVersions:
    """
    Versions of a module that have few of its equal blocks.

    Attributes:
        module: set up on fake tensors. Its own forward runs, so that another step needs another module.
        batch: one micro-batch on fake tensors.
        tensors: made both.
        blocks: the equal ones.
        training: the module's step.
        make_step: returns the step of a version of the module; see `PreparedModule.step_of`.
        precision, batch_bytes, first_batch: see `trace_step`.
    """

    module: nn.Module
    batch: Any
    tensors: Faker
    blocks: EqualBlocks
    training: TrainingStep
    make_step: Callable[[nn.Module, list[torch.optim.Optimizer], Faker], TrainingStep]
    precision: str
    batch_bytes: int
    first_batch: bool

    def trace(self, micro_batches: int) -> StepFacts:
        """
        Return the step of the whole module from those of its versions.

        Args:
            micro_batches: see `longer_step`.

        Raises:
            NotRepeatedError: it does not grow in the same way with each piece of equal blocks.
            TraceError: see `trace_step`.
        """
        for optimizer in self.training.optimizers:
            _check_copyable(optimizer)
        with without_collection():
            self.compare_forward()
            steps = [self.step(SHORTEST + more) for more in range(3)]
        return longer_step(steps, self.blocks.pieces - SHORTEST, self.module, micro_batches)

    def compare_forward(self) -> None:
        """Check that the forward of the whole module is what follows for it from two short versions."""
        log = ForwardLog()
        first, second, actual = (
            self._forward(log, *(self._copy_shortened(pieces) if pieces else (self.module, self.training)))
            for pieces in (SHORTEST, SHORTEST + 1, 0)
        )
        if extend_sequence(first, second, None, self.blocks.pieces - SHORTEST) != actual:
            raise NotRepeatedError("the whole module's forward is not that of its equal blocks")

    def step(self, pieces: int) -> ShortStep:
        """Trace the step of a version."""
        version, training = self._copy_shortened(pieces)
        traces: list[StepTrace] = []
        facts = trace_step(
            version,
            self._copy_batch(),
            training,
            self.tensors.mode,
            precision=self.precision,
            batch_bytes=self.batch_bytes,
            first_batch=self.first_batch,
            keep=traces.append,
            compare_batches=pieces == SHORTEST,
        )
        if facts.variation is not None:
            raise NotRepeatedError("batches do different work")
        step = ShortStep(facts, traces[-1].ledger(), traces[-1].memory_changes())
        for parameter in self.module.parameters():
            parameter.grad = None
        return step

    def _forward(self, log: ForwardLog, module: nn.Module, training: TrainingStep) -> list[Item]:
        items: list[Item] = []
        random_work = run_forward(
            module,
            self._copy_batch(),
            training,
            self.tensors.mode,
            self.precision,
            log.into(items),
        )
        if random_work.has_source():
            raise NotRepeatedError("blocks do what random draws decide")
        return items

    def _copy_shortened(self, pieces: int) -> tuple[nn.Module, TrainingStep]:
        """Copy the module with fewer pieces, and its step: the same fake tensors, objects of their own."""
        faker = Faker(self.tensors.mode)
        for parameter in self.module.parameters():
            faker.tensor(parameter)  # known to both copies
        optimizers = [faker.copy_optimizer(optimizer) for optimizer in self.training.optimizers]
        with shorten_blocks(self.module, self.blocks, pieces):
            module = faker.copy_module(self.module)
        if faker.notes:
            raise NotRepeatedError("; ".join(faker.notes))
        left = set(module.parameters())
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["params"] = [parameter for parameter in group["params"] if parameter in left]
            optimizer.param_groups = [group for group in optimizer.param_groups if group["params"]]
        return module, self.make_step(module, optimizers, faker)

    def _copy_batch(self) -> Any:
        return Faker(self.tensors.mode).batch(self.batch)


def _check_copyable(optimizer: torch.optim.Optimizer) -> None:
    """
    Check that a copy of an optimizer with fewer parameters does all that it does.

    Raises:
        NotRepeatedError: it has hooks, a `step` of its own, or a module.
    """
    attributes: dict[str, Any] = vars(optimizer)
    hooks = any(value for name, value in attributes.items() if name.startswith("_optimizer_"))
    own_step = "step" in attributes and not hasattr(attributes["step"], "_wrapped_by_lr_sched")
    if hooks or own_step or any(isinstance(value, nn.Module) for value in attributes.values()):
        raise NotRepeatedError(f"{type(optimizer).__name__} cannot be copied")
